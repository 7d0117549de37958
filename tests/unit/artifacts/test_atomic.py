from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from artifacts.atomic import (
    file_sha256,
    json_sha256,
    replaced_directory,
    replaced_file,
    tree_sha256,
    write_bytes,
    write_json,
    write_text,
)


def test_file_appears_whole_with_its_folders(tmp_path: Path) -> None:
    path = tmp_path / "a" / "b" / "file.txt"
    with replaced_file(path) as temporary:
        temporary.write_text("new")
        assert temporary.parent == path.parent
        assert not path.exists()
    assert path.read_text() == "new"
    assert path.stat().st_mode & 0o777 == 0o644
    assert list(path.parent.iterdir()) == [path]


def test_failure_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "file.txt"
    path.write_text("old")
    with pytest.raises(KeyboardInterrupt), replaced_file(path) as temporary:
        temporary.write_text("half of the n")
        raise KeyboardInterrupt
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_directory_takes_the_place_of_the_old_one(tmp_path: Path) -> None:
    path = tmp_path / "folder"
    path.mkdir()
    (path / "stale").touch()
    with replaced_directory(path) as temporary:
        (temporary / "fresh").touch()
        assert [file.name for file in path.iterdir()] == ["stale"]
    assert [file.name for file in path.iterdir()] == ["fresh"]
    assert path.stat().st_mode & 0o777 == 0o755
    assert list(tmp_path.iterdir()) == [path]


def test_failure_leaves_the_old_directory_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "folder"
    path.mkdir()
    (path / "old").touch()
    with pytest.raises(ZeroDivisionError), replaced_directory(path) as temporary:
        (temporary / "fresh").touch()
        raise ZeroDivisionError
    assert [file.name for file in path.iterdir()] == ["old"]
    assert list(tmp_path.iterdir()) == [path]


def test_equal_values_are_equal_bytes(tmp_path: Path) -> None:
    write_json(tmp_path / "one.json", {"b": 1, "a": {"d": "é", "c": None}})
    write_json(tmp_path / "two.json", {"a": {"c": None, "d": "é"}, "b": 1})
    assert (tmp_path / "one.json").read_bytes() == (tmp_path / "two.json").read_bytes()
    assert "é" in (tmp_path / "one.json").read_text(encoding="utf-8")


def test_text_is_utf8_with_its_own_line_ends(tmp_path: Path) -> None:
    write_text(tmp_path / "text", "λ\n")
    assert (tmp_path / "text").read_bytes() == b"\xce\xbb\n"


def test_digest_of_a_file_longer_than_one_piece(tmp_path: Path) -> None:
    content = b"x" * ((1 << 20) + 3)
    write_bytes(tmp_path / "long", content)
    assert file_sha256(tmp_path / "long") == hashlib.sha256(content).hexdigest()


def test_digest_of_a_tree_sees_names_contents_and_places(tmp_path: Path) -> None:
    def tree(name: str, files: dict[str, bytes]) -> str:
        for file, content in files.items():
            write_bytes(tmp_path / name / file, content)
        return tree_sha256(tmp_path / name)

    original = tree("one", {"a": b"1", "sub/b": b"2"})
    assert tree("same", {"sub/b": b"2", "a": b"1"}) == original
    others = [{"a": b"1", "sub/c": b"2"}, {"a": b"1", "sub/b": b"3"}, {"a": b"1", "b": b"2"}, {"a": b"1"}]
    digests = {tree(f"other{i}", files) for i, files in enumerate(others)}
    assert len(digests | {original}) == 5


def test_digest_of_json_ignores_the_order_of_keys_alone() -> None:
    assert json_sha256({"a": 1, "b": [1, 2]}) == json_sha256({"b": [1, 2], "a": 1})
    assert json_sha256({"a": [1, 2]}) != json_sha256({"a": [2, 1]})
    assert json_sha256({"a": 1}) == hashlib.sha256(b'{"a":1}').hexdigest()
