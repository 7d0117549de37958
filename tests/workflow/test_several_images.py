"""Several images a prompt from the config to tables and page, and a judge of others' answers about them."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from artifacts import layout
from artifacts.contracts import read_table
from evals.cli import main
from evals.tables.rows import CategoryRow, DifferenceRow, ScoreRow, read_rows
from pipeline.config import validate
from pipeline.jobs import Plan
from pipeline.specs import encode

MODELS = ("mini/base", "mini/louder")
CLIP = Path(__file__).parents[2] / "resources" / "miniature" / "scorers" / "clip"


def config(images: int) -> dict[str, Any]:
    several = {"images_per_prompt": images} if images > 1 else {}
    return {
        "benchmark": f"by-{images}",
        "base": {"name": "mini", "family": "miniature", "path": "resources/base"},
        "models": [{"name": "louder", "source": "louder.pth"}],
        "prompt_sets": {
            "seen": {"source": "miniature_seen", "limit": 5},
            "tagged": {"source": "miniature_seen", "limit": 5, **several},
        },
        "generation": {"steps": 2, "batch_size": 2},
        "scorers": {"oracle": {}},
        "report": {"grid": {"prompt_set": "tagged", "prompts": 2}},
        "execution": {"generation_shards": 2},
    }


@pytest.fixture(scope="module")
def finished(weights: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[int, Plan], Path]:
    """The same benchmark with one and with three images a prompt, its jobs run one after another in this process."""
    from evals.generation.pipelines import open_pipeline

    folder = tmp_path_factory.mktemp("several")
    (folder / "resources").symlink_to(weights)
    state = open_pipeline(weights / "base").denoiser.state_dict()
    torch.save({name: tensor * 1.5 for name, tensor in state.items()}, folder / "louder.pth")
    plans = {}
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        for images in (1, 3):
            plans[images] = plan = Plan(validate(config(images)))
            for job in plan.jobs():
                if job.stage != "track":
                    manifest = [] if job.manifest is None else ["--manifest", job.manifest]
                    assert main([job.stage, "--spec", encode(job.spec), *manifest]) == 0
    return plans, folder


def test_the_first_image_is_that_of_one_image_a_prompt(finished: tuple[dict[int, Plan], Path]) -> None:
    plans, folder = finished
    one, three = (folder / plans[images].root for images in (1, 3))
    for model in MODELS:
        first, all_ = (layout.images(root, model, "tagged") for root in (one, three))
        names = {path.name for path in first.glob("*.png")}
        assert names == {f"{row:05d}.png" for row in range(5)}
        assert all((first / name).read_bytes() == (all_ / name).read_bytes() for name in names)
        assert len(list(all_.glob("*.png"))) == 15
        # A set of one image a prompt has the files that it had.
        single = [layout.images(root, model, "seen") / "manifest.parquet" for root in (one, three)]
        assert single[0].read_bytes() == single[1].read_bytes()


def test_tables_are_by_prompt(finished: tuple[dict[int, Plan], Path]) -> None:
    plans, folder = finished
    root = folder / plans[3].root
    found = {(r.variant, r.prompt_set): r for r in read_rows(root / "tables/scores.csv", ScoreRow) if r.seed == "all"}
    table = read_table(layout.scores(root, "oracle", "mini/base", "tagged"), "scores")
    assert len(table) == 15
    assert found["base", "tagged"].mean == pytest.approx(table["score"].mean(), rel=1e-9)
    assert {row.n for row in found.values()} == {5}
    pooled = [r for r in read_rows(root / "tables/differences.csv", DifferenceRow) if r.prompt_set == "all"]
    assert {row.n_prompts for row in pooled} == {10}
    assert "Images a prompt: tagged 3." in (root / "tables/main.md").read_text()
    assert "Shown is the first of 3 images a prompt" in (root / "report/index.html").read_text()
    assert (root / "report/degenerate.csv").read_text().splitlines()[1:][1].startswith("mini/base,tagged,15,")


def test_accuracy_by_tag_of_a_judge_of_others(
    finished: tuple[dict[int, Plan], Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A judge that calls right what the oracle rates above its median answers in GenEval's form."""
    plans, folder = finished
    root = tmp_path / "results"
    shutil.copytree(folder / plans[3].root, root)
    prompts = read_table(layout.prompts(root, "tagged"), "prompts").set_index("prompt_id")
    scores = {model: read_table(layout.scores(root, "oracle", model, "tagged"), "scores") for model in MODELS}
    median = scores["mini/base"]["score"].median()
    for model, table in scores.items():
        lines = []
        for found in table.to_dict("records"):
            row = int(found["prompt_id"][-5:])
            lines.append(
                {
                    "filename": f"/elsewhere/{row:05d}/samples/{found['image']:05d}.png",
                    "tag": prompts["category"][found["prompt_id"]],
                    "prompt": prompts["prompt"][found["prompt_id"]],
                    "correct": bool(found["score"] > median),
                }
            )
        file = tmp_path / "results.jsonl"
        file.write_text("".join(f"{json.dumps(line)}\n" for line in lines))
        target = ["--benchmark", str(root), "--model", model, "--prompt-set", "tagged"]
        judge = ["import", str(file), "--format", "geneval", "--judge", "geneval", "--protocol", "stand-in"]
        assert main([*judge, *target]) == 0
    assert main(["diversity", str(root), "--weights", str(CLIP)]) == 0
    assert main(["compare", str(root), "--out", str(tmp_path / "board")]) == 0
    diverse = [r.mean for r in read_rows(tmp_path / "board/scores.csv", ScoreRow) if r.scorer == "vendi"]
    assert len(diverse) == 4 and all(1 < mean < 3 for mean in diverse)
    means = {
        (r.variant, r.prompt_set): r.mean
        for r in read_rows(tmp_path / "board/scores.csv", ScoreRow)
        if r.scorer == "geneval" and r.seed == "all"
    }
    right = {model: (table["score"] > median) for model, table in scores.items()}
    assert means == {
        ("base", "tagged"): pytest.approx(right["mini/base"].mean()),
        ("louder", "tagged"): pytest.approx(right["mini/louder"].mean()),
    }
    assert means["base", "tagged"] == pytest.approx(7 / 15)
    rows = [r for r in read_rows(tmp_path / "board/categories.csv", CategoryRow) if r.scorer == "geneval"]
    of_table = right["mini/louder"].groupby(scores["mini/louder"]["prompt_id"].map(prompts["category"])).mean()
    assert {r.category: r.mean_a for r in rows} == pytest.approx(of_table.to_dict())
    assert sum(r.n_prompts for r in rows) == 5
    assert Image.open(layout.images(root, "mini/base", "tagged") / "00004_2.png").width > 1
