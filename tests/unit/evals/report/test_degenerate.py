from __future__ import annotations

import csv
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from artifacts import layout
from artifacts.atomic import file_sha256
from artifacts.contracts import read_table, write_table
from evals.images.folder import read_manifest
from evals.report.degenerate import DegenerateRow, degenerate_rows, sentences
from evals.report.page import write_report
from evals.report.score_files import read_score_files
from evals.report.settings import GridSettings
from evals.tables.comparison import Comparison

Draw = Callable[..., None]


@pytest.fixture
def draw(tiny_benchmark: Comparison) -> Draw:
    """Replace images of the base on ``seen``, by their rows, and list them as they are."""
    folder = layout.images(tiny_benchmark.root, "mini/base", "seen")

    def replaced(**pictures: Image.Image) -> None:
        manifest = read_manifest(folder)
        for name, picture in pictures.items():
            picture.save(folder / f"0000{name[1:]}.png")
        manifest["sha256"] = [file_sha256(folder / file) for file in manifest["file"]]
        write_table(folder / "manifest.parquet", manifest, "manifest")

    return replaced


def row_of(comparison: Comparison) -> DegenerateRow:
    rows = degenerate_rows(comparison, read_score_files(comparison))
    (found,) = (row for row in rows if (row.model, row.prompt_set) == ("mini/base", "seen"))
    assert {row.sentence() for row in rows if row != found} == {""}
    return found


def counts(row: DegenerateRow) -> tuple[int, ...]:
    return row.images, row.flat, row.black, row.repeated, row.unreadable


def noisy(high: int, low: int = 0, size: int = 40) -> Image.Image:
    pixels = np.random.default_rng(0).integers(low, high + 1, (size, size, 3), dtype=np.uint8)
    return Image.fromarray(pixels)


def test_flat_and_black_images_are_counted(tiny_benchmark: Comparison, draw: Draw) -> None:
    assert counts(row_of(tiny_benchmark)) == (3, 0, 0, 0, 0)
    # Black but for rounding; flat but for rounding in its own colour; and one level more than rounding.
    draw(r0=noisy(2), r1=noisy(202, 200), r2=noisy(203, 200))
    row = row_of(tiny_benchmark)
    assert counts(row) == (3, 2, 1, 0, 0)
    assert row.sentence() == "mini/base on seen: of 3 images 2 flat (1 of them black); all are in the means"


def test_a_large_flat_picture_is_found_by_its_small_file(tiny_benchmark: Comparison, draw: Draw) -> None:
    draw(r0=noisy(2, size=512), r1=noisy(255, size=128))
    assert counts(row_of(tiny_benchmark))[1:3] == (1, 1)


def test_pictures_that_are_shown_again_are_counted(tiny_benchmark: Comparison, draw: Draw) -> None:
    picture = noisy(255)
    draw(r0=picture, r2=picture)
    row = row_of(tiny_benchmark)
    assert counts(row) == (3, 0, 0, 2, 0)
    assert "of 3 images 2 shown for another prompt, or twice for theirs" in row.sentence()
    # Prompts of equal text have the same picture where they have one start noise.
    path = layout.prompts(tiny_benchmark.root, "seen")
    prompts = read_table(path, "prompts")
    texts = [prompts["prompt"][0], prompts["prompt"][1], f" {prompts['prompt'][0].upper()} "]
    write_table(path, prompts.assign(prompt=texts), "prompts")
    assert counts(row_of(tiny_benchmark)) == (3, 0, 0, 0, 0)


def test_images_of_one_prompt_are_to_differ(tiny_benchmark: Comparison) -> None:
    folder = layout.images(tiny_benchmark.root, "mini/base", "seen")
    manifest = read_manifest(folder)
    again = manifest.iloc[[0]].assign(image=1, file="00000_1.png")
    (folder / "00000_1.png").write_bytes((folder / "00000.png").read_bytes())
    import pandas as pd

    write_table(folder / "manifest.parquet", pd.concat([manifest, again]), "manifest")
    assert counts(row_of(replace(tiny_benchmark, images_per_prompt={"seen": 2}))) == (4, 0, 0, 2, 0)


def test_page_and_table_name_them(tiny_benchmark: Comparison, draw: Draw) -> None:
    draw(r0=Image.new("RGB", (40, 40)), r1=Image.new("RGB", (40, 40)))
    page = write_report(tiny_benchmark, grid=GridSettings(prompt_set="held-out", prompts=1, seed=0)).read_text()
    sentence = (
        "mini/base on seen: of 3 images 2 flat (2 of them black); 2 shown for another prompt, or twice for theirs; all "
        "are in the means"
    )
    assert f"<li>{sentence}</li>" in page
    with (Path(tiny_benchmark.root) / "report/degenerate.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == len(tiny_benchmark.models) * 2
    named = dict(zip(rows[0], ["mini/base", "seen", "3", "2", "2", "2", "0"], strict=True))
    assert rows[0] == named and list(named) == [
        *("model", "prompt_set", "images", "flat", "black", "repeated", "unreadable"),
    ]
    assert {row["flat"] for row in rows[1:]} == {"0"}


def test_images_that_are_not_there_or_not_readable(tiny_benchmark: Comparison) -> None:
    folder = layout.images(tiny_benchmark.root, "mini/base", "seen")
    (folder / "00000.png").unlink()
    (folder / "00001.png").write_bytes(b"not a picture")
    row = row_of(tiny_benchmark)
    assert counts(row) == (2, 0, 0, 0, 1)
    assert list(sentences([row])) == ["mini/base on seen: of 2 images 1 not readable; all are in the means"]
