"""A prompt's several images in the image browser."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from PIL import Image

from artifacts import layout
from artifacts.atomic import file_sha256
from artifacts.contracts import read_table, write_table
from evals.generation.settings import SamplingSettings
from evals.images.folder import read_manifest
from evals.report.page import write_report
from evals.report.settings import GridSettings
from evals.tables import write_tables
from evals.tables.comparison import Comparison


@pytest.fixture
def doubled(comparison: Comparison, tmp_path: Path) -> Comparison:
    """Each prompt of ``held-out`` has a second image, a red one, whose scores are one higher."""
    root = tmp_path / "toy"
    shutil.copytree(comparison.root, root)
    shutil.copy(
        layout.scores(root, "clip", "mini/sft/seed0", "seen"), layout.scores(root, "clip", "mini/sft/seed1", "seen")
    )
    found = replace(comparison, root=root, images_per_prompt={"held-out": 2})
    for model in found.models:
        folder = layout.images(root, model.name, "held-out")
        manifest = read_manifest(folder)
        more = manifest.assign(image=1, file=[f"{row:05d}_1.png" for row in range(len(manifest))])
        for row, file in enumerate(more["file"]):
            Image.new("RGB", (8, 8), (200 + row, 0, 0)).save(folder / file)
        more["sha256"] = [file_sha256(folder / file) for file in more["file"]]
        write_table(folder / "manifest.parquet", pd.concat([manifest, more]), "manifest")
        for scorer in found.scorers:
            path = layout.scores(root, scorer, model.name, "held-out")
            table = read_table(path, "scores")
            again = table.assign(image=1, score=table["score"] + 1, image_sha256=more["sha256"].tolist())
            write_table(path, pd.concat([table, again]), "scores")
    return found


def test_every_image_is_shown_with_its_own_score(doubled: Comparison, chromium: Any) -> None:
    seen = layout.scores(doubled.root, "clip", "mini/sft/seed1", "seen")
    table = read_table(layout.scores(doubled.root, "pickscore", "mini/sft/seed1", "seen"), "scores")
    digests = table["image_sha256"].tolist()
    write_table(seen, read_table(seen, "scores").assign(image_sha256=digests), "scores")
    write_tables(doubled)
    write_report(
        doubled,
        grid=GridSettings(prompt_set="held-out", prompts=2, seed=0),
        generation=SamplingSettings(guidance_scale=4.0),
    )
    context = chromium.new_context(viewport={"width": 1200, "height": 900}, offline=True)
    page, said = context.new_page(), []
    page.on("pageerror", lambda error: said.append(str(error)))
    page.goto(
        (doubled.root / "report/browser/index.html").as_uri() + "#set=held-out&a=sft&b=base&scorer=pickscore&seed=0"
    )
    page.locator("#prompts .several").first.wait_for()
    cards = page.locator("#prompts > li")
    assert cards.count() == 3
    first = cards.nth(0).locator("figure").nth(0)
    names = first.locator("img").evaluate_all("nodes => nodes.map(node => node.src.split('/').pop())")
    assert names[1] == names[0].replace(".png", "_1.png")
    assert first.locator("img").evaluate_all("nodes => nodes.map(node => node.complete && node.naturalWidth)") == [
        48,
        8,
    ]
    own = first.locator(".several .own").all_text_contents()
    mean = first.locator("dl.scores dd.chosen").text_content()
    assert float(own[1]) == pytest.approx(float(own[0]) + 1, abs=2e-3)
    assert float(mean) == pytest.approx(float(own[0]) + 0.5, abs=2e-3)
    assert "means of 2 images" in first.text_content()
    # A set of one image a prompt is shown as before.
    page.locator("#set").select_option(label="seen")
    page.wait_for_timeout(300)
    assert page.locator(".several").count() == 0 and cards.count() == 24
    assert said == []
    context.close()
