"""One reader of YAML: what it takes, and one line with the place for what it does not."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from artifacts.errors import InputError
from artifacts.yaml_files import read_mapping, read_yaml


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "c.yaml"


BOMB = "a: &a [x,x,x,x,x,x,x,x,x,x]\n" + "".join(
    f"{b}: &{b} [{','.join([f'*{a}'] * 10)}]\n" for a, b in zip("abcdefgh", "bcdefghi", strict=True)
)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: [", r"line 1, column 5: not YAML: expected the node content, but found '<stream end>'"),
        ("a: 1\nb:\tc\n\td: e\n", r"line 2, column 3: not YAML: found character '\\t'"),
        ("a: &x [*x]", "line 1, column 4: not YAML: an alias leads back to what holds it"),
        ("a: 1\nb: &b\n  c: {d: [1, *b]}", "line 2, column 4: not YAML: an alias leads back"),
        ("a: &a {<<: *a}", "an alias leads back"),
        (BOMB, r"line \d, column 4: not YAML: aliases make more than 1000000 values of it"),
        ("[" * 3000, "nested too deeply"),
        ("a: 1\nb: 2026-13-41", 'line 2, column 4: not YAML: "2026-13-41" cannot be read as timestamp; quote it'),
        ("a: !!int x", 'line 1, column 4: not YAML: "x" cannot be read as int'),
        ("a: !!timestamp x", 'not YAML: "x" cannot be read as timestamp'),
        ("a: !!bool x", 'not YAML: "x" cannot be read as bool'),
        ("a: !!python/object/apply:os.system ['x']", "line 1, column 4: not YAML: could not determine a constructor"),
        ("? [a]\n: 3", "not YAML: found unhashable key"),
        ("a: 1\n---\nb: 2", "line 2, column 1: not YAML: but found another document"),
        ("a: 1\nb: \x00", "line 2, column 4: not YAML: special characters are not allowed"),
    ],
)
def test_what_is_no_yaml_is_one_line_with_its_place(file: Path, text: str, message: str) -> None:
    file.write_text(text, encoding="utf-8")
    with pytest.raises(InputError, match=message) as caught:
        read_yaml(file)
    assert str(caught.value).startswith(f"{file}: ") and "\n" not in str(caught.value)


def test_numbers_aliases_and_marks_are_read_as_yaml_1_2_has_them(file: Path) -> None:
    file.write_bytes("\ufeffa: 1e-4\nb: -2E5\nc: &c {x: 1, y: 1.5e3}\nd: {<<: *c, x: 2}\ne: [*c, *c]\n".encode())
    content, repeated = read_yaml(file)
    shared = {"x": 1, "y": 1500.0}
    assert content == {"a": 1e-4, "b": -2e5, "c": shared, "d": {"x": 2, "y": 1500.0}, "e": [shared, shared]}
    assert isinstance(content["a"], float)
    assert repeated == []


@pytest.mark.parametrize(
    ("text", "value"),
    [
        # YAML 1.1 reads eight, ninety, a thousand and three.
        ("010", 10),
        ("1:30", "1:30"),
        ("1_000", "1_000"),
        ("0b11", "0b11"),
        ("0o10", 8),
        ("0x1F", 31),
        ("+08", 8),
        (".5", 0.5),
        ("-1.", -1.0),
        ("010.5", 10.5),
        ("-.INF", -math.inf),
        ("'010'", "010"),
    ],
)
def test_numbers_of_yaml_1_1_alone_are_read_as_they_look(file: Path, text: str, value: object) -> None:
    file.write_text(f"a: {text}\n")
    found = read_mapping(file)["a"]
    assert found == value
    assert type(found) is type(value)


def test_a_mapping_has_each_key_once(file: Path) -> None:
    file.write_text("scorers:\n  clip: {}\nseeds: [1]\nscorers:\n  blank: {x: 1, x: 2}\n")
    with pytest.raises(InputError) as caught:
        read_mapping(file)
    assert str(caught.value) == (
        f"{file}: scorers: given on line 1 and on line 4; expected once; "
        f"{file}: scorers.blank.x: given on line 5 and on line 5; expected once"
    )
    for text, found in (("- a", "list"), ("", "NoneType"), ("3", "int")):
        file.write_text(text)
        with pytest.raises(InputError, match=f"expected keys with values, found {found}"):
            read_mapping(file)


def test_a_file_that_cannot_be_read(file: Path) -> None:
    with pytest.raises(InputError, match="No such file or directory; give a readable YAML file"):
        read_yaml(file)
    file.write_bytes(b"a: \xff")
    with pytest.raises(InputError, match="not UTF-8; give a readable YAML file"):
        read_yaml(file)
