from __future__ import annotations

import base64
import json
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from artifacts import layout
from artifacts.atomic import file_sha256
from artifacts.contracts import read_table, write_table
from evals.images.folder import read_manifest
from evals.report.browser import write_browser
from evals.report.grids import model_tiles
from evals.report.score_files import read_score_files
from evals.tables.comparison import Comparison


@pytest.fixture
def doubled(tiny_benchmark: Comparison) -> Comparison:
    """Each prompt of ``seen`` has a second image, whose scores are one higher."""
    import pandas as pd

    for model in tiny_benchmark.models:
        folder = layout.images(tiny_benchmark.root, model.name, "seen")
        manifest = read_manifest(folder)
        second = manifest.assign(image=1, file=[f"{row:05d}_1.png" for row in range(len(manifest))])
        for row, file in enumerate(second["file"]):
            Image.new("RGB", (8, 8), (row, 9, 9)).save(folder / file)
        second["sha256"] = [file_sha256(folder / file) for file in second["file"]]
        write_table(folder / "manifest.parquet", pd.concat([manifest, second]), "manifest")
        for scorer in tiny_benchmark.scorers:
            path = layout.scores(tiny_benchmark.root, scorer, model.name, "seen")
            table = read_table(path, "scores")
            more = table.assign(image=1, score=table["score"] + 1, image_sha256=second["sha256"].tolist())
            write_table(path, pd.concat([table, more]), "scores")
    return replace(tiny_benchmark, images_per_prompt={"seen": 2})


def test_browser_has_every_image_and_the_means_of_prompts(doubled: Comparison) -> None:
    scores = read_score_files(doubled)
    assert not scores.gaps
    folder = write_browser(doubled, scores, ())

    def loaded(name: str) -> dict[str, object]:
        text = (folder / f"{name}.js").read_text()
        found: dict[str, object] = json.loads(text.removeprefix(f'loaded("{name}",').removesuffix(");\n"))
        return found

    def numbers(packed: object) -> list[float]:
        return np.frombuffer(base64.b64decode(str(packed)), "<f4").tolist()

    seen, other = loaded("scores-0-0"), loaded("scores-1-0")
    first = read_table(layout.scores(doubled.root, "oracle", "mini/base", "seen"), "scores")["score"].iloc[:3]
    assert seen["files"] == [f"{row:05d}{image}.png" for image in ("", "_1") for row in range(3)]
    assert numbers(seen["scores"]["oracle"]) == pytest.approx((first + 0.5).tolist())  # type: ignore[index]
    assert numbers(seen["each"]["oracle"]) == pytest.approx([*first, *(first + 1)])  # type: ignore[index]
    assert other["files"] == ["00000.png", "00001.png"] and "each" not in other
    page = (folder / "index.html").read_text()
    assert '"images":2' in page.replace(" ", "") and '"images":1' in page.replace(" ", "")


def test_grid_shows_the_first_image(doubled: Comparison) -> None:
    tiles = model_tiles(doubled, doubled.models[0], "seen", 3)
    assert [tile.path.name for tile in tiles] == ["00000.png", "00001.png", "00002.png"]
