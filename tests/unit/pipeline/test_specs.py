"""Every command checks what it is told before it does anything, and says in one line what is wrong."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import evals.cli
import sdpo.cli
from artifacts.block import JobSpec, checked
from artifacts.errors import InputError
from evals.generation.settings import CollectSpec, GenerateSpec
from evals.prompts import PromptsSpec
from evals.report.settings import ReportSpec
from evals.scoring.settings import GatherSpec, ScoreSpec
from evals.tables.comparison import CompareSpec
from evals.tracking.mlflow import TrackSpec
from pipeline.config import load, validate
from pipeline.jobs import Job, Plan
from pipeline.specs import encode
from sdpo.audit.settings import AuditSpec
from sdpo.pairs.cache.settings import PairsSpec
from sdpo.training.settings import JointTrainSpec, TrainSpec

ROOT = Path(__file__).parents[3]
MODELS: dict[str, type[JobSpec]] = {
    "prompts": PromptsSpec,
    "pairs": PairsSpec,
    "train": TrainSpec,
    "generate": GenerateSpec,
    "collect": CollectSpec,
    "score": ScoreSpec,
    "gather": GatherSpec,
    "compare": CompareSpec,
    "report": ReportSpec,
    "track": TrackSpec,
    "audit": AuditSpec,
}


def model_of(job: Job) -> type[JobSpec]:
    return JointTrainSpec if "together" in job.spec else MODELS[job.stage]


def specs(config: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """A spec of each stage."""
    plan = Plan(validate({**config, "execution": {"generation_shards": 2, "scoring_shards": 2}}, check_files=False))
    audit = plan.audit_job()
    assert audit is not None
    return {job.stage: json.loads(encode(job.spec)) for job in (*plan.jobs(), audit)}


@pytest.mark.parametrize("file", sorted(path.name for path in (ROOT / "config").glob("*.yaml")))
def test_every_job_of_the_shipped_configs_is_told_what_its_command_knows(file: str) -> None:
    jobs = list(Plan(load(ROOT / "config" / file, check_files=False)).jobs())
    for job in jobs:
        checked(model_of(job), json.loads(encode(job.spec)), job.stage)
    assert len(jobs) > 5


@pytest.mark.parametrize("stage", MODELS)
def test_a_missing_key_an_unknown_one_and_a_value_of_another_type_are_named(stage: str, config: dict[str, Any]) -> None:
    model, spec = MODELS[stage], specs(config)[stage]
    required = [name for name, field in model.model_fields.items() if field.is_required()]
    assert set(required) <= set(spec)
    for key in required:
        with pytest.raises(InputError, match=rf"^--spec of x: {key}: missing: "):
            checked(model, {name: value for name, value in spec.items() if name != key}, "x")
    for key in spec:
        with pytest.raises(InputError, match=rf"^--spec of x: {key} = 0\.5: expected "):
            checked(model, {**spec, key: 0.5}, "x")
    with pytest.raises(InputError, match=rf"^--spec of x: modls: unknown key: expected one of .*{required[0]}"):
        checked(model, {**spec, "modls": []}, "x")


@pytest.mark.parametrize(
    ("stage", "path", "value", "message"),
    [
        ("prompts", ("limit",), 0, "limit = 0: expected a number of at least 1"),
        ("pairs", ("encoding", "crop"), "centre", 'encoding.crop = "centre": expected one of center, random; did you'),
        ("train", ("training", "optimizer"), "sgd", 'training.optimizer = "sgd": expected one of adafactor, adam'),
        ("train", ("training", "schedule"), "step", 'training.schedule = "step": expected one of constant, cosine'),
        ("train", ("training", "precision"), "float16", 'training.precision = "float16": expected one of float32'),
        ("train", ("training", "device"), "tpu", 'training.device = "tpu": expected one of auto, cpu, cuda'),
        ("train", ("training", "lora"), {"rnk": 2}, "training.lora.rnk: unknown key: expected one of rank, alpha"),
        ("train", ("together",), [], "together = []: expected at least 1"),
        ("generate", ("generation", "scheduler"), "ddmi", "unknown scheduler: expected one of ddim, euler, dpm_solver"),
        ("generate", ("shard",), [0], "shard = [0]: expected at least 2"),
        ("collect", ("shards",), "2", 'shards = "2": expected an integer'),
        ("score", ("scorers", "oracle", "dtype"), "f", 'scorers.oracle.dtype = "f": expected one of float32, bfloat16'),
        ("score", ("batch_size",), 0, "batch_size = 0: expected a number of at least 1"),
        ("compare", ("statistics", "confidence"), 95.0, "statistics.confidence = 95.0: expected a number less than 1"),
        ("compare", ("models",), [{"name": "x"}], "models[0].base: missing: Name of its base."),
        ("table", ("root",), None, "root = null: expected a text"),
        ("report", ("grid", "prompts"), None, "grid.prompts = null: expected an integer"),
        ("track", ("scorers", "oracle"), 1, "scorers.oracle = 1: expected a text"),
        ("audit", ("settings", "mu"), [1.5], "settings.mu[0] = 1.5: expected a number of at most 1"),
    ],
)
def test_a_command_with_a_wrong_spec_is_one_line(
    stage: str,
    path: tuple[str, ...],
    value: Any,
    message: str,
    config: dict[str, Any],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    spec = specs(config)["compare" if stage == "table" else stage]
    inner = spec
    for key in path[:-1]:
        inner = inner[key]
    inner[path[-1]] = value
    monkeypatch.chdir(tmp_path)
    program = sdpo.cli if stage in ("pairs", "train", "audit") else evals.cli
    assert program.main([stage, "--spec", json.dumps(spec)]) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"error: --spec of {program.__name__.split('.')[0]} {stage}: "), error
    assert message in error and error.count("\n") == 1, error
    assert list(tmp_path.iterdir()) == []
