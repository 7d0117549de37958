"""Models of steps on the way are those of trainings that end there, and cost no training of their own."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from artifacts import layout
from artifacts.atomic import file_sha256
from sdpo.cli import written
from sdpo.training.job import train
from sdpo.training.run import TrainingRun

World = tuple[dict[str, str], Path]
Job = Callable[..., dict[str, Any]]
MEASURED = ["samples_per_second", "peak_memory_bytes"]


def outcome(job: dict[str, Any], variant: str = "variant") -> tuple[dict[str, str], list[Any], list[Any]]:
    folder = layout.model(job["root"], f"tiny/{variant}/seed0")
    weights = {p.relative_to(folder).as_posix(): file_sha256(p) for p in folder.rglob("*.safetensors")}
    assert weights
    log = pd.read_parquet(folder / "training.parquet").drop(columns=MEASURED)
    # Shares of noise without a pair are empty, and NaN is not itself.
    log = log.astype(object).where(log.notna(), None)
    return weights, log.values.tolist(), pd.read_parquet(folder / "drift.parquet").values.tolist()


@pytest.fixture
def taken(monkeypatch: pytest.MonkeyPatch) -> Counter[tuple[str, int]]:
    """How often each step of each run was taken."""
    found: Counter[tuple[str, int]] = Counter()
    step = TrainingRun.take_step

    def counted(run: TrainingRun, *arguments: Any) -> dict[str, Any]:
        found[run.label, run.step + 1] += 1
        return step(run, *arguments)

    monkeypatch.setattr(TrainingRun, "take_step", counted)
    return found


@pytest.mark.parametrize("settings", [{}, {"lora": {"rank": 2}, "ema_decay": 0.9}])
def test_model_of_a_step_is_that_of_a_training_that_ends_there(
    tiny_sd15_world: World, tiny_job: Job, settings: dict[str, Any], taken: Counter[tuple[str, int]]
) -> None:
    """To the bit, with its log and its drift; the longer training is not changed by it."""
    settings = {"steps": 5, "log_every": 2, "drift_every": 4, **settings}
    plain, job = (tiny_job(tiny_sd15_world, root=root, **settings) for root in ("plain", "exporting"))
    train(plain)
    taken.clear()
    job["training"]["export_at"] = [3, 2, 9]
    train(job)
    assert taken == Counter({("variant seed 0", step): 1 for step in range(1, 6)})
    assert outcome(job)[0] == outcome(plain)[0]
    for step in (2, 3):
        short = tiny_job(tiny_sd15_world, root=f"short{step}", **{**settings, "steps": step, "export_at": [2]})
        train(short)
        assert outcome(job, f"variant@{step}") == outcome(short)
    provenance = json.loads((layout.model(job["root"], "tiny/variant@2/seed0") / "provenance.json").read_text())
    assert (provenance["step"], provenance["spec"]["training"]["steps"]) == (2, 5)
    files = written("train", job)
    assert all(file.is_file() for file in files)
    assert sorted({file.relative_to(job["root"]).parts[2] for file in files}) == ["variant", "variant@2", "variant@3"]


def test_steps_of_an_unfinished_training_may_change(
    tiny_sd15_world: World, tiny_job: Job, taken: Counter[tuple[str, int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Dead in step 5, after 2 was exported: 2 stays, 5 comes on the way, and 1, which is past, is made anew."""
    job = tiny_job(tiny_sd15_world, steps=6, checkpoint_every=1, export_at=[2])
    step = TrainingRun.take_step

    def dying(run: TrainingRun, *arguments: Any) -> dict[str, Any]:
        if run.step == 4:
            raise KeyboardInterrupt
        return step(run, *arguments)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(TrainingRun, "take_step", dying)
        train(job)
    early = outcome(job, "variant@2")
    job["training"]["export_at"] = [1, 2, 5]
    train(job)
    assert taken == Counter({("variant seed 0", s): 1 for s in range(1, 7)} | {("variant@1 seed 0", 1): 1})
    assert outcome(job, "variant@2") == early
    for last in (1, 5):
        short = tiny_job(tiny_sd15_world, root=f"short{last}", steps=last, warmup_steps=job["training"]["warmup_steps"])
        train(short)
        assert outcome(job, f"variant@{last}")[0] == outcome(short)[0]
    assert list(Path(job["root"], "checkpoints").rglob("step-*.pt")) == []


def test_a_damaged_model_of_a_step_is_made_again(
    tiny_sd15_world: World, tiny_job: Job, taken: Counter[tuple[str, int]]
) -> None:
    job = tiny_job(tiny_sd15_world, export_at=[1], keep_state=True)
    train(job)
    whole = outcome(job, "variant@1")
    weights = layout.model(job["root"], "tiny/variant@1/seed0") / "unet" / "diffusion_pytorch_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"\x00")
    taken.clear()
    train(job)
    assert taken == Counter({("variant@1 seed 0", 1): 1})
    assert outcome(job, "variant@1") == whole
