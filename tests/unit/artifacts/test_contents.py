"""Digests of what lies at a path, and what is remembered of them."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest

from artifacts import contents
from artifacts.atomic import file_sha256
from artifacts.contents import Contents
from artifacts.errors import InputError


@pytest.fixture(autouse=True)
def small_files_are_remembered(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """Every file is remembered; the files that were read are listed."""
    monkeypatch.setattr(contents, "REMEMBERED_FROM", 1)
    read: list[Path] = []

    def reading(path: Path) -> str:
        read.append(Path(path))
        return file_sha256(path)

    monkeypatch.setattr(contents, "file_sha256", reading)
    return read


def weights(folder: Path) -> Path:
    for name, text in {
        "config.json": "{}",
        "unet/model.safetensors": "abc",
        "README.md": "words",
        ".cache/x.json": "1",
        "images/0.png": "picture",
    }.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    return folder


def test_a_file_is_read_once_and_again_only_when_it_is_another(
    tmp_path: Path, small_files_are_remembered: list[Path]
) -> None:
    file, memory, read = tmp_path / "model.pth", tmp_path / "memory.json", small_files_are_remembered
    file.write_text("abc")
    first = Contents(memory).digest(file)
    assert Contents(memory).digest(file) == first == file_sha256(file)
    assert len(read) == 1
    # The same content with another time: read once more, and equal.
    os.utime(file, (1, 1))
    assert Contents(memory).digest(file) == first
    assert Contents(memory).digest(file) == first
    assert len(read) == 2
    # Another size under an old time stamp.
    file.write_text("abcd")
    os.utime(file, (1, 1))
    assert Contents(memory).digest(file) == file_sha256(file) != first
    # A memory that is damaged is none.
    memory.write_text("{")
    assert Contents(memory).digest(file) == file_sha256(file)


@pytest.mark.parametrize(
    ("change", "is_another"),
    [
        (lambda f: (f / "unet/model.safetensors").write_text("abd"), True),
        (lambda f: (f / "config.json").write_text("[]"), True),
        (lambda f: (f / "config.json").unlink(), True),
        (lambda f: (f / "vocab.json").write_text("{}"), True),
        (lambda f: (f / "unet").rename(f / "net"), True),
        # Data counts by size; what no program reads does not count.
        (lambda f: (f / "images/0.png").write_text("picturf"), False),
        (lambda f: (f / "images/0.png").write_text("pictures"), True),
        (lambda f: (f / "README.md").write_text("other words"), False),
        (lambda f: (f / ".cache/x.json").write_text("2"), False),
        (lambda f: os.utime(f / "config.json", (1, 1)), False),
    ],
)
def test_what_counts_in_a_folder(tmp_path: Path, change: object, is_another: bool) -> None:
    folder = weights(tmp_path / "weights")
    before = Contents().digest(folder)
    assert Contents().digest(Path(shutil.copytree(folder, tmp_path / "copy"))) == before
    change(folder)  # type: ignore[operator]
    assert (Contents().digest(folder) != before) == is_another


def test_one_process_sees_one_content(tmp_path: Path) -> None:
    file = tmp_path / "prompts.txt"
    file.write_text("a cat")
    seen = Contents()
    first = seen.digest(file)
    file.write_text("a dog")
    # What is noted down after a job is what was there before it.
    assert seen.digest(file) == first
    assert Contents().digest(file) != first
    assert Contents().digest(tmp_path / "gone") is None


def test_what_cannot_be_read_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "model.pth"
    file.write_text("abc")

    def denied(path: Path) -> str:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(contents, "file_sha256", denied)
    with pytest.raises(InputError, match=r"model\.pth: Permission denied; make it readable"):
        Contents().digest(file)


def test_the_memory_holds_what_was_read(tmp_path: Path) -> None:
    file, memory = tmp_path / "model.pth", tmp_path / "jobs/digests.json"
    file.write_text("abc")
    Contents(memory).digest(file)
    status = file.stat()
    assert json.loads(memory.read_text()) == {str(file): [3, status.st_mtime_ns, file_sha256(file)]}


def test_a_memory_is_moved_with_its_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, small_files_are_remembered: list[Path]
) -> None:
    here, there = tmp_path / "here", tmp_path / "there"
    here.mkdir()
    (here / "model.pth").write_text("abc")
    monkeypatch.chdir(here)
    first = Contents(Path("digests.json")).digest(Path("model.pth"))
    here.rename(there)
    monkeypatch.chdir(there)
    before = (there / "digests.json").read_bytes()
    assert Contents(Path("digests.json")).digest(Path("model.pth")) == first
    assert len(small_files_are_remembered) == 1
    assert (there / "digests.json").read_bytes() == before
