"""What a job has written, and what is missing of it later."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from artifacts.contents import Contents
from artifacts.job_manifest import missing_from, write_manifest

IMAGES, SCORES = Path("images/m/seen"), Path("scores/m.parquet")


@pytest.fixture
def manifest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    for file, text in {IMAGES / "0.png": "a", IMAGES / "1.png": "b", SCORES: "scores"}.items():
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    path = Path("jobs/score/m.json")
    write_manifest(path, [IMAGES, SCORES])
    return path


def emptied(folder: Path) -> None:
    for file in folder.iterdir():
        file.unlink()


CASES: dict[str, tuple[Callable[[], object], list[str]]] = {
    "nothing": (lambda: None, []),
    "a file": (lambda: SCORES.unlink(), ["scores/m.parquet: gone"]),
    "a file of a folder": (lambda: (IMAGES / "1.png").unlink(), ["images/m/seen: 1 of 2 files"]),
    "all files of a folder": (lambda: emptied(IMAGES), ["images/m/seen: 0 of 2 files"]),
    "a folder": (lambda: IMAGES.rename("elsewhere"), ["images/m/seen: gone"]),
    "two things": (
        lambda: (SCORES.unlink(), IMAGES.rename("elsewhere")),
        ["scores/m.parquet: gone", "images/m/seen: gone"],
    ),
    "a file is cut off": (lambda: SCORES.write_text("score"), ["scores/m.parquet: changed"]),
    "a file of its size": (lambda: SCORES.write_text("SCORES"), ["scores/m.parquet: changed"]),
    "an image is cut off": (lambda: (IMAGES / "1.png").write_text(""), ["images/m/seen: changed"]),
    "an image is renamed": (lambda: (IMAGES / "1.png").rename(IMAGES / "2.png"), ["images/m/seen: changed"]),
    "a folder in the place of a file": (
        lambda: (SCORES.unlink(), SCORES.mkdir()),
        ["scores/m.parquet: gone"],
    ),
    # As after a copy that keeps no times.
    "times": (lambda: [os.utime(file, (1, 1)) for file in (SCORES, IMAGES / "0.png")], []),
    "a partial file": (lambda: (IMAGES / ".0.png.partial").write_text("x"), []),
}


@pytest.mark.parametrize("case", CASES)
def test_what_is_missing_is_named(manifest: Path, case: str) -> None:
    change, lines = CASES[case]
    change()
    assert missing_from(manifest, Contents()) == lines


def test_a_damaged_manifest_stands_for_nothing(manifest: Path) -> None:
    for text in ("", "{", "{}", "[]", '{"files": 3}'):
        manifest.write_text(text)
        assert missing_from(manifest, Contents()) == ["jobs/score/m.json: damaged"]


def test_a_job_that_wrote_less_than_it_should_has_no_manifest(manifest: Path) -> None:
    with pytest.raises(FileNotFoundError):
        write_manifest("jobs/other.json", [Path("nowhere.parquet")])
    assert not Path("jobs/other.json").exists()


def test_what_a_job_was_not_asked_for_when_it_ran_is_missing(manifest: Path) -> None:
    wanted = ["scores/m.parquet", "scores/n.parquet"]
    # It is not this job's, whoever wrote it.
    Path("scores/n.parquet").write_text("of another time")
    assert missing_from(manifest, Contents(), wanted) == ["scores/n.parquet: not written yet"]
