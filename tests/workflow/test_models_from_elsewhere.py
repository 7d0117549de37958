"""Released weights from the config to tables, report and tracked content, with nothing trained."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pytest
import torch

from artifacts.contents import Contents
from artifacts.job_manifest import missing_from
from evals.cli import main
from evals.tracking.mlflow import TrackSpec
from evals.tracking.runs import contents
from pipeline.config import validate
from pipeline.jobs import Plan
from pipeline.specs import encode


@pytest.fixture(scope="module")
def finished(weights: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Plan, Path]:
    """A benchmark of two bases and three models, its jobs run one after another in this process."""
    from evals.generation.pipelines import open_pipeline

    folder = tmp_path_factory.mktemp("elsewhere")
    (folder / "resources").symlink_to(weights)
    pipeline = open_pipeline(weights / "base")
    state = pipeline.denoiser.state_dict()
    torch.save({name: tensor * 1.5 for name, tensor in state.items()}, folder / "louder.pth")
    torch.save({name: tensor * 0.5 for name, tensor in state.items()}, folder / "quieter.pth")
    base = {"family": "miniature", "path": "resources/base"}
    config: dict[str, Any] = {
        "benchmark": "tiny",
        "base": {"name": "mini", **base},
        "other_bases": [{"name": "other", **base}],
        "models": [
            {"name": "louder", "source": "louder.pth", "objective": "dpo"},
            {"name": "louder+sdpo", "source": "quieter.pth", "safeguard": True, "baseline": "louder"},
            # A folder with the base's own weights.
            {"name": "same", "base": "other", "source": "./resources/base"},
        ],
        "prompt_sets": {"seen": {"source": "miniature_seen", "limit": 5}},
        "generation": {"steps": 2, "batch_size": 2},
        "scorers": {"oracle": {}},
        "report": {"grid": {"prompts": 2}},
        "execution": {"generation_shards": 2},
    }
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        plan = Plan(validate(config))
        for job in plan.jobs():
            if job.stage != "track":
                manifest = [] if job.manifest is None else ["--manifest", job.manifest]
                assert main([job.stage, "--spec", encode(job.spec), *manifest]) == 0
    return plan, folder


def test_every_declared_file_is_there(finished: tuple[Plan, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    plan, folder = finished
    monkeypatch.chdir(folder)
    contents = Contents()
    assert len(plan.compared_models()) == 5
    for job in plan.jobs():
        if job.manifest is None:
            declared = [] if job.stage == "track" else job.outputs
            assert [file for file in declared if not (folder / file).exists()] == []
        elif job.stage != "generate":
            assert missing_from(job.manifest, contents) == []
    # Shares of images are put together and removed.
    assert not any((folder / plan.root / "image_shards").rglob("*.png"))


def test_models_stand_in_the_table_beside_their_bases(finished: tuple[Plan, Path]) -> None:
    plan, folder = finished
    with (folder / plan.root / "tables/scores.csv").open() as file:
        rows = [row for row in csv.DictReader(file) if row["seed"] == ""]
    assert [(row["base"], row["variant"], row["safeguard"]) for row in rows] == [
        ("mini", "base", "false"),
        ("mini", "louder", "false"),
        ("mini", "louder+sdpo", "true"),
        ("other", "other", "false"),
        ("other", "same", "false"),
    ]
    means = {row["variant"]: float(row["mean"]) for row in rows}
    # Equal weights draw equal images, whatever the names of base and model.
    assert means["same"] == means["other"] == means["base"]
    assert len({means["base"], means["louder"], means["louder+sdpo"]}) == 3
    with (folder / plan.root / "tables/win_rates.csv").open() as file:
        pairs = {(row["a"], row["b"]) for row in csv.DictReader(file)}
    assert pairs == {
        ("louder+sdpo", "louder"),
        ("louder", "base"),
        ("louder+sdpo", "base"),
        ("same", "other"),
    }


def test_report_and_tracking_know_that_nothing_was_trained(finished: tuple[Plan, Path], monkeypatch: Any) -> None:
    plan, folder = finished
    page = (folder / plan.root / "report/index.html").read_text()
    assert "none: no model was trained here" in page
    assert "No model was trained here, so there is no drift to show." in page
    monkeypatch.chdir(folder)
    tracked = {content.name: content for content in contents(TrackSpec(**plan.track_spec()).comparison)}
    assert tracked["louder+sdpo"].tags["bench.safeguard"] == "on"
    assert tracked["louder+sdpo"].tags["bench.baseline"] == "louder"
    assert {name.partition("/")[0] for name, _, _ in tracked["same"].metrics} == {"oracle"}


def test_provenance_says_which_weights(finished: tuple[Plan, Path]) -> None:
    plan, folder = finished
    path = folder / plan.root / "images/other/same/seen/provenance.json"
    provenance = json.loads(path.read_text())
    assert provenance["spec"]["source"] == {"source": "./resources/base", "file": None, "sha256": None}
    assert set(provenance["inputs"]) == {"diffusion_pytorch_model.safetensors", "base"}
    assert provenance["jobs"] == 2
