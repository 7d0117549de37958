"""Images of a folder that is not complete yet, and processes that share it."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing.synchronize import Event
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from PIL import Image

from artifacts.contracts import write_table
from artifacts.errors import InputError
from evals.images.folder import UnfinishedImages, collect, read_manifest, write_images
from evals.images.numbering import Numbering

# What the processes run needs nothing but files, so copies of this one will do.
FORK = multiprocessing.get_context("fork")
ROWS = range(4)


def picture(row: int) -> Image.Image:
    return Image.new("RGB", (2, 2), (row, 0, 0))


def names(folder: Path) -> set[str]:
    return {file.name for file in folder.iterdir()}


@contextmanager
def elsewhere(work: Callable[..., None], *arguments: Any) -> Iterator[None]:
    """Another process at work, which has to end well."""
    process = FORK.Process(target=work, args=arguments)
    process.start()
    try:
        yield
        process.join(30)
        assert process.exitcode == 0
    finally:
        process.kill()
        process.join()


def hold(folder: Path, rows: range, entered: Event, go_on: Event) -> None:
    images = UnfinishedImages(folder, Numbering(12))
    with images.owned(rows):
        entered.set()
        assert go_on.wait(30)
        for row in images.missing(rows):
            images.add(row, picture(row))
        assert not images.missing(rows)


def test_a_share_that_is_done_leaves_the_folder_to_one_that_has_just_begun(tmp_path: Path) -> None:
    folder = tmp_path / "set/digest"
    entered, go_on = FORK.Event(), FORK.Event()
    images = UnfinishedImages(folder, Numbering(12))
    with elsewhere(hold, folder, range(4, 6), entered, go_on):
        assert entered.wait(30)
        with images.owned(ROWS):
            for row in ROWS:
                images.add(row, picture(row))
        images.forget(ROWS)
        assert not list(folder.glob("*.png"))
        go_on.set()
    assert {"00004.png", "00005.png"} <= names(folder)
    # Somebody else's images are not removed either.
    images.forget(ROWS)
    assert {"00004.png", "00005.png"} <= names(folder)
    (folder / ".00004.png.0123.partial").write_bytes(b"of a killed process")
    images.forget(range(4, 6))
    assert not folder.parent.exists()


@pytest.mark.parametrize("mine", [range(3, 8), range(4, 5), range(8)])
def test_shares_of_another_size_wait_for_the_rows_that_they_have_in_common(tmp_path: Path, mine: range) -> None:
    folder = tmp_path / "set/digest"
    entered, go_on, waited = FORK.Event(), FORK.Event(), FORK.Event()

    def wait_and_look() -> None:
        other = UnfinishedImages(folder, Numbering(12))
        with other.owned(mine):
            assert go_on.is_set()
            assert set(range(3, 6)).isdisjoint(set(mine) & set(other.missing(mine)))
        waited.set()

    with elsewhere(hold, folder, range(3, 6), entered, go_on):
        assert entered.wait(30)
        with elsewhere(wait_and_look):
            assert not waited.wait(0.2)
            # Rows that nobody has are free.
            with UnfinishedImages(folder, Numbering(12)).owned(range(8, 12)):
                pass
            go_on.set()


def draw_and_forget(folder: Path, rows: range, times: int) -> None:
    images = UnfinishedImages(folder, Numbering(12))
    for _ in range(times):
        with images.owned(rows):
            for row in images.missing(rows):
                images.add(row, picture(row))
            found = {row: Image.open(folder / f"{row:05d}.png").getpixel((0, 0)) for row in rows}
            assert found == {row: (row, 0, 0) for row in rows}
        images.forget(rows)


def test_many_shares_at_once_lose_nothing(tmp_path: Path) -> None:
    folder = tmp_path / "set/digest"
    # Two cuts of the same eight rows: every removal of the folder meets somebody who comes.
    shares = [range(4), range(4, 8), range(3), range(3, 6), range(6, 8)]
    processes = [FORK.Process(target=draw_and_forget, args=(folder, rows, 60)) for rows in shares]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
    assert [process.exitcode for process in processes] == [0] * 5
    assert not folder.exists()


def test_a_folder_that_vanishes_while_it_is_made_is_made_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    images, make, made = UnfinishedImages(tmp_path / "digest", Numbering(12)), os.mkdir, []

    def mkdir(path: Path, mode: int = 0o777) -> None:
        made.append(path)
        if len(made) == 1:
            raise FileExistsError(path)  # by another process, which has removed it when it is looked at
        make(path, mode)

    monkeypatch.setattr(os, "mkdir", mkdir)
    with images.owned(range(2)):
        assert images.folder.is_dir()
    assert len(made) == 2


def test_a_file_in_the_place_of_the_folder_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "digest").touch()
    (tmp_path / "to nowhere").symlink_to(tmp_path / "nothing")
    for name in ("digest", "to nowhere"):
        with pytest.raises(FileExistsError), UnfinishedImages(tmp_path / name, Numbering(12)).owned(range(2)):
            pass


def test_an_empty_share_makes_no_folder(tmp_path: Path) -> None:
    images = UnfinishedImages(tmp_path / "set/digest", Numbering(12))
    with images.owned(range(4, 4)):
        assert images.missing(range(4, 4)) == []
    images.forget(range(4, 4))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("files", "message"),
    [
        (["../secret.png", "1.png"], r"'../secret\.png' is not the name of a file beside it"),
        (["/etc/passwd", "1.png"], r"'/etc/passwd' is not the name of a file beside it"),
        (["..", "1.png"], r"'\.\.' is not the name of a file beside it"),
        (["a\0.png", "1.png"], r"'a\\x00\.png' is not the name of a file beside it"),
        (["1.png", "1.png"], r"'1\.png' stands there twice"),
    ],
)
def test_a_manifest_names_files_beside_it_and_each_once(tmp_path: Path, files: list[str], message: str) -> None:
    """Whoever reads one: shares that are put together would else take files from elsewhere."""
    prompts = pd.DataFrame({"prompt_id": ["s-0", "s-1"], "prompt": ["a", "b"], "category": "", "source": ""})
    shard = tmp_path / "shards" / "0"
    write_images(shard, prompts, [picture(0), picture(1)], [0, 1], {"spec": {}, "wall_seconds": 1})
    collect(tmp_path / "whole", [shard], prompts)
    manifest = read_manifest(shard)
    write_table(shard / "manifest.parquet", manifest.assign(file=files), "manifest")
    with pytest.raises(InputError, match=rf"manifest\.parquet: {message}; delete the image folder"):
        collect(tmp_path / "other", [shard], prompts)
    assert not (tmp_path / "other").exists()
