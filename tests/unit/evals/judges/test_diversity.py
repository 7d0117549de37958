from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from artifacts import layout
from artifacts.atomic import file_sha256
from artifacts.contracts import read_table, write_table
from artifacts.errors import InputError
from evals.images.folder import read_manifest
from evals.judges.diversity import Tower, diversity, vendi
from evals.tables.comparison import Comparison
from evals.tables.sources import with_judges


def test_vendi_is_the_number_of_different_images() -> None:
    assert vendi(np.ones((4, 3))) == pytest.approx(1.0)
    assert vendi(np.eye(4)) == pytest.approx(4.0)
    # Two pairs of equal ones; their lengths do not count.
    assert vendi(np.array([[1, 0], [3, 0], [0, 1], [0, 0.5]])) == pytest.approx(2.0)
    # Two at 60 degrees: eigenvalues of [[1, ½], [½, 1]] / 2 are ¾ and ¼.
    expected = math.exp(-(0.75 * math.log(0.75) + 0.25 * math.log(0.25)))
    assert vendi(np.array([[1, 0], [0.5, math.sqrt(0.75)]])) == pytest.approx(expected)
    assert vendi(np.array([[2.0, 5.0]])) == pytest.approx(1.0)


def red(images: list[Image.Image]) -> np.ndarray:
    """Red, green and blue of the first pixel, as a vector."""
    return np.array([image.convert("RGB").getpixel((0, 0)) for image in images], dtype=np.float32)


def test_each_prompt_has_the_score_of_its_own_images(tiny_benchmark: Comparison) -> None:
    """Prompts of one, two and three colours in three images each, which lie far apart in the manifest."""
    colours = [["#f00"] * 3, ["#f00", "#0f0", "#f00"], ["#f00", "#0f0", "#00f"]]
    root = tiny_benchmark.root
    for model in tiny_benchmark.models:
        folder = layout.images(root, model.name, "seen")
        manifest = read_manifest(folder)
        listed = []
        for image in range(3):
            for row, prompt_id in enumerate(manifest["prompt_id"]):
                file = f"{row:05d}_{image}.png"
                Image.new("RGB", (4, 4), colours[row][image]).save(folder / file)
                listed.append((prompt_id, image, file, 0, file_sha256(folder / file)))
        frame = pd.DataFrame(listed, columns=["prompt_id", "image", "file", "seed", "sha256"])
        write_table(folder / "manifest.parquet", frame, "manifest")
        out = diversity(root, model.name, "seen", Tower(red, "0" * 64))
    table = read_table(out, "scores")
    two = math.exp(-(2 / 3 * math.log(2 / 3) + 1 / 3 * math.log(1 / 3)))
    np.testing.assert_allclose(table["score"], [1, two, 3] * 3, rtol=1e-6)
    assert table["image"].tolist() == [0, 0, 0, 1, 1, 1, 2, 2, 2]
    comparison = with_judges(replace(tiny_benchmark, images_per_prompt={"seen": 3}))
    assert comparison.sets_of("vendi") == ("seen",) and "vendi" in comparison.no_judges
    assert "vendi" not in comparison.judges


def test_one_image_has_no_diversity(tiny_benchmark: Comparison) -> None:
    with pytest.raises(InputError, match="prompts with fewer than two images, which have no diversity"):
        diversity(tiny_benchmark.root, "mini/base", "seen", Tower(red, "0" * 64))
    assert not (Path(tiny_benchmark.root) / "scores" / "vendi").exists()
