from __future__ import annotations

import hashlib
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from artifacts.atomic import (
    file_sha256,
    json_sha256,
    owned,
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


def killed(code: str) -> None:
    """Run code in another process that kills itself by SIGKILL."""
    done = subprocess.run([sys.executable, "-c", f"import os\nfrom artifacts import atomic\n{code}"])
    assert done.returncode == -9


@pytest.mark.parametrize("writes", ["replaced_file", "replaced_directory"])
def test_what_a_killed_writer_left_is_removed_by_the_next_one(tmp_path: Path, writes: str) -> None:
    path = tmp_path / "[model] (1)"
    content = "" if writes == "replaced_file" else " / 'weights'"
    code = (
        f"with atomic.{writes}({str(path)!r}) as temporary:\n"
        f"    (temporary{content}).write_bytes(b'x' * 1000)\n"
        "    os.kill(os.getpid(), 9)"
    )
    killed(code)
    killed(code.replace("[model] (1)", "[model] (2)"))
    left = sorted(file.name[:12] for file in tmp_path.iterdir())
    assert left == [".[model] (1)", ".[model] (2)"]
    if writes == "replaced_file":
        write_text(path, "whole")
    else:
        with replaced_directory(path) as temporary:
            (temporary / "weights").write_text("whole")
    # What was left of another file is that one's.
    assert sorted(file.name[:12] for file in tmp_path.iterdir()) == [".[model] (2)", "[model] (1)"]
    found = path if path.is_file() else path / "weights"
    assert found.read_text() == "whole"


@pytest.mark.parametrize("writes", [replaced_file, replaced_directory])
def test_what_another_writer_is_writing_stays(tmp_path: Path, writes: Callable[..., Any]) -> None:
    path = tmp_path / "name"
    with writes(path) as first:
        (first if first.is_file() else first / "file").write_text("first")
        with writes(path) as second:
            (second if second.is_file() else second / "file").write_text("second")
        assert first.exists()
    assert (path if path.is_file() else path / "file").read_text() == "first"
    assert list(tmp_path.iterdir()) == [path]


def test_downloads_that_go_on_later_are_not_taken_for_left_over(tmp_path: Path) -> None:
    names = [".name.partial", ".name.safetensors.partial", ".name.partial.json", ".other.abcdefgh.partial"]
    for name in names:
        (tmp_path / name).write_text("half")
    write_text(tmp_path / "name", "whole")
    assert sorted(file.name for file in tmp_path.iterdir()) == sorted([*names, "name"])


def test_many_writers_of_one_file_at_once(tmp_path: Path) -> None:
    """Each takes what the others have just begun for left over, unless it is locked."""

    def write(number: int) -> None:
        for _ in range(40):
            write_text(tmp_path / "file", f"{number}" * 100)

    threads = [threading.Thread(target=write, args=(number,)) for number in range(4)]
    failures: list[Any] = []
    hook, threading.excepthook = threading.excepthook, failures.append
    try:
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        threading.excepthook = hook
    assert not failures
    assert len(set((tmp_path / "file").read_text())) == 1
    assert [file.name for file in tmp_path.iterdir()] == ["file"]


def test_folder_of_unfinished_work_is_tidied_by_who_takes_it(tmp_path: Path) -> None:
    """Whatever the name: a step that is not saved again would stay for ever."""
    folder = tmp_path / "state"
    killed(
        f"from pathlib import Path\nfolder = Path({str(folder)!r})\n"
        "with atomic.owned(folder, doing='x'):\n"
        "    with atomic.replaced_directory(folder / 'a'), atomic.replaced_file(folder / 'step-1.pt') as file:\n"
        "        os.kill(os.getpid(), 9)"
    )
    assert len(list(folder.glob(".*.partial"))) == 2
    (folder / "step-0.pt").touch()
    with owned(folder, doing="y") as waited:
        assert not waited
        assert sorted(file.name for file in folder.iterdir()) == ["lock", "step-0.pt"]
