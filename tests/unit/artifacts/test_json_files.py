from __future__ import annotations

from pathlib import Path

import pytest

from artifacts.errors import InputError
from artifacts.json_files import read_object


def read(path: Path) -> dict[str, object]:
    return read_object(path, missing="make it", damaged="make it again")


def test_an_object_behind_a_mark(tmp_path: Path) -> None:
    (tmp_path / "some.json").write_bytes(b'\xef\xbb\xbf{"a": {"b": 1}, "b": "\xc3\xa9"}')
    assert read(tmp_path / "some.json") == {"a": {"b": 1}, "b": "é"}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b'{"alpha": 8, "alpha": 2}', r"not valid JSON \(an object names the key 'alpha' twice\); make it again"),
        (b'{"a": {"b": 1, "b": 1}}', r"not valid JSON .*names the key 'b' twice"),
        (b'{"a": "caf\xe9"}', r"cannot be read \(not UTF-8 text: .*\); make it again"),
        ("{}".encode("utf-16"), r"cannot be read \(not UTF-8 text: .*\)"),
        (b"[" * 100_000, r"not valid JSON \(brackets nested too deeply\)"),
        (b'{"a":\n1,}', r"not valid JSON \(line 2: "),
        (b"", r"not valid JSON \(line 1: "),
        (b"[]", "expected a JSON object, found list; make it again"),
    ],
)
def test_what_is_no_object_is_one_line(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "some.json").write_bytes(content)
    with pytest.raises(InputError, match=rf"some\.json: {message}"):
        read(tmp_path / "some.json")


def test_what_is_no_file(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"some\.json: no such file; make it$"):
        read(tmp_path / "some.json")
    with pytest.raises(InputError, match=r"cannot be read \(Is a directory\); make it again"):
        read(tmp_path)
