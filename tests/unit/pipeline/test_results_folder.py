from __future__ import annotations

import os
from pathlib import Path

import pytest

from artifacts.errors import InputError
from pipeline.results_folder import check_writable


def test_a_folder_that_is_there_or_can_be_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    check_writable(tmp_path)
    check_writable(tmp_path / "results/small")
    assert not (tmp_path / "results").exists()
    monkeypatch.chdir(tmp_path)
    check_writable(Path("results/small"))


def test_a_file_in_its_place(tmp_path: Path) -> None:
    (tmp_path / "results").touch()
    with pytest.raises(
        InputError, match=r"results: is no folder, and results are to be written to .*results/small; move"
    ):
        check_writable(tmp_path / "results/small")


def test_no_right_to_write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who runs the tests may be root, who has all rights."""
    asked = []
    monkeypatch.setattr(os, "access", lambda path, mode: asked.append((path, mode)))
    with pytest.raises(InputError, match=f"^{tmp_path}: no right to write there"):
        check_writable(tmp_path / "results")
    assert asked == [(tmp_path, os.W_OK | os.X_OK)]
