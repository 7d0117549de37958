"""A training that is killed at any moment and run again ends in the bits of one that was not."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from artifacts import layout
from artifacts.atomic import file_sha256
from artifacts.contents import Contents
from artifacts.job_manifest import missing_from
from sdpo.objectives import PairPrediction
from sdpo.training import checkpoint
from sdpo.training.drawing import Drawn, prefetched
from sdpo.training.gradients import PairGradients
from sdpo.training.job import train
from sdpo.training.time_budget import EXIT_STATUS, StoppedEarly, TimeBudget

World = tuple[dict[str, str], Path]
Job = Callable[..., dict[str, Any]]
MEASURED = ["samples_per_second", "peak_memory_bytes"]
ROOT = Path(__file__).parents[4]
KINDS: dict[str, dict[str, Any]] = {
    "lora, average, accumulation": {
        "lora": {"rank": 2},
        "ema_decay": 0.9,
        "micro_batch_size": 1,
        "safeguard": {"mu": 0.5, "granularity": "global"},
    },
    "adafactor, average": {"optimizer": "adafactor", "ema_decay": 0.5, "schedule": "cosine"},
    "bfloat16, checkpointing, adam": {"precision": "bfloat16", "gradient_checkpointing": True, "optimizer": "adam"},
}


def outcome(job: dict[str, Any]) -> tuple[dict[str, str], pd.DataFrame, pd.DataFrame]:
    folder = layout.model(job["root"], "tiny/variant/seed0")
    weights = {p.relative_to(folder).as_posix(): file_sha256(p) for p in folder.rglob("*.safetensors")}
    log = pd.read_parquet(folder / "training.parquet").drop(columns=MEASURED)
    return weights, log, pd.read_parquet(folder / "drift.parquet")


def assert_same(first: dict[str, Any], second: dict[str, Any]) -> None:
    (weights, log, drift), (other_weights, other_log, other_drift) = outcome(first), outcome(second)
    pd.testing.assert_frame_equal(log, other_log, check_exact=True)
    pd.testing.assert_frame_equal(drift, other_drift, check_exact=True)
    assert weights == other_weights


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_state_is_resumed_to_the_same_bits(
    tiny_sd15_world: World, tiny_job: Job, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = {"steps": 5, "checkpoint_every": 1, **KINDS[kind]}
    whole, broken = (tiny_job(tiny_sd15_world, root=root, **settings) for root in ("whole", "broken"))
    train(whole)
    original = checkpoint.save

    def dying(folder: Path, at: int, state: dict[str, Any], **options: Any) -> None:
        original(folder, at, state, **options)
        if at in (1, 3):
            raise KeyboardInterrupt

    for _ in range(2):
        with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
            patch.setattr(checkpoint, "save", dying)
            train(broken)
    train(broken)
    assert_same(whole, broken)


def test_killed_again_and_again(warm: Path, tiny_sd15_world: World, tiny_job: Job) -> None:
    """SIGKILL at moments nobody chose: in a step, in a checkpoint, in the export, in the next process's start."""
    settings = {"steps": 30, "checkpoint_every": 1, "drift_every": 10, "lora": {"rank": 2}, "ema_decay": 0.9}
    whole, broken = (tiny_job(tiny_sd15_world, root=root, **settings) for root in ("whole", "broken"))
    train(whole)
    command = [str(warm / "python"), "-m", "sdpo.cli", "train", "--spec", json.dumps(broken)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    states = Path(broken["root"], "checkpoints")
    kills = 0
    for after in (0.0, 0.13, 0.37):
        before = max((path.name for path in states.rglob("step-*.pt")), default="")
        process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        deadline = time.monotonic() + 120
        # From the first new state on, so that each process gets somewhere.
        while process.poll() is None and max((p.name for p in states.rglob("step-*.pt")), default="") <= before:
            assert time.monotonic() < deadline
            time.sleep(0.003)
        time.sleep(after)
        if process.poll() is None:
            process.kill()
            kills += 1
        process.wait()
    assert kills >= 2
    train(broken)
    assert_same(whole, broken)


def test_damaged_newest_state_costs_one_interval(
    tiny_sd15_world: World, tiny_job: Job, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = {"steps": 5, "checkpoint_every": 1, "kept_checkpoints": 3}
    whole, broken = (tiny_job(tiny_sd15_world, root=root, **settings) for root in ("whole", "broken"))
    train(whole)
    original = checkpoint.save

    def dying(folder: Path, at: int, state: dict[str, Any], **options: Any) -> None:
        original(folder, at, state, **options)
        if at == 4:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(checkpoint, "save", dying)
        train(broken)
    states = sorted(Path(broken["root"], "checkpoints").rglob("step-*.pt"))
    assert [path.name for path in states] == ["step-00000002.pt", "step-00000003.pt", "step-00000004.pt"]
    for path in states[1:]:
        content = bytearray(path.read_bytes())
        content[1000] ^= 255
        path.write_bytes(content)
    capsys.readouterr()
    train(broken)
    said = capsys.readouterr().err
    assert said.index("step-00000004.pt cannot be read") < said.index("step-00000003.pt cannot be read")
    assert "variant seed 0: resumed at step 2 of 5" in said
    assert_same(whole, broken)


def test_asked_to_end_it_saves_and_leaves(tiny_sd15_world: World, tiny_job: Job) -> None:
    settings = {"steps": 3, "checkpoint_every": 100}
    whole, broken = (tiny_job(tiny_sd15_world, root=root, **settings) for root in ("whole", "broken"))
    train(whole)
    handler = signal.getsignal(signal.SIGTERM)
    budget = TimeBudget()
    with pytest.raises(
        StoppedEarly, match=r"left after step 1 of 3, its state saved: asked to end \(SIGTERM\); run it"
    ):
        with budget.heeding_sigterm():
            os.kill(os.getpid(), signal.SIGTERM)
        train(broken, budget)
    assert signal.getsignal(signal.SIGTERM) is handler
    assert [path.name for path in Path(broken["root"]).rglob("step-*.pt")] == ["step-00000001.pt"]
    train(broken)
    assert_same(whole, broken)


@pytest.mark.parametrize("safeguard", [None, {"mu": 0.5, "granularity": "global"}])
def test_step_is_dropped_when_asked_to_end_within_it(
    tiny_sd15_world: World, tiny_job: Job, safeguard: dict[str, Any] | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Steps of large models take longer than the time to leave: the state before it is saved, and nothing computed."""
    settings = {"steps": 3, "checkpoint_every": 100, "micro_batch_size": 1, "safeguard": safeguard}
    whole, broken = (tiny_job(tiny_sd15_world, root=root, **settings) for root in ("whole", "broken"))
    train(whole)
    predicted: list[int] = []
    original = PairGradients.predicted

    def asked(gradients: PairGradients, drawn: Drawn, **options: Any) -> PairPrediction:
        predicted.append(len(drawn))
        if len(predicted) == 6:
            os.kill(os.getpid(), signal.SIGTERM)
        return original(gradients, drawn, **options)

    with monkeypatch.context() as patch, pytest.raises(StoppedEarly, match="left after step 1 of 3, its state saved"):
        patch.setattr(PairGradients, "predicted", asked)
        train(broken, TimeBudget())
    # The four micro-batches of step 1, and two of step 2.
    assert predicted == [1] * 6
    assert [path.name for path in Path(broken["root"]).rglob("step-*.pt")] == ["step-00000001.pt"]
    train(broken)
    assert_same(whole, broken)


def test_command_says_that_it_left_early(
    tiny_sd15_world: World, tiny_job: Job, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from sdpo.cli import main

    job, manifest = tiny_job(tiny_sd15_world), tmp_path / "jobs/train/variant/0.json"
    command = ["train", "--spec", json.dumps(job), "--manifest", str(manifest)]
    assert main([*command, "--minutes", "0.001"]) == EXIT_STATUS == 75
    assert not manifest.exists()
    assert capsys.readouterr().err.rstrip().endswith("0.0 of 0.001 minutes are left; run it again to go on")
    assert main([*command, "--minutes", "60"]) == 0
    folder = layout.model(job["root"], "tiny/variant/seed0")
    names = ("provenance.json", "training.parquet", "drift.parquet", "unet/diffusion_pytorch_model.safetensors")
    assert set(json.loads(manifest.read_text())["files"]) == {(folder / name).as_posix() for name in names}
    assert missing_from(manifest, Contents()) == []


@pytest.mark.parametrize(
    ("minutes", "passed", "reserve", "leaves"),
    [
        (60, 3600 - 120 - 31, 30, False),
        (60, 3600 - 120 - 30, 30, True),
        (10, 600 - 60 - 1, 0, False),
        (10, 600 - 60, 0, True),
        (None, 1e9, 1e9, False),
    ],
)
def test_time_is_left_for_a_step_and_its_state(
    minutes: float | None, passed: float, reserve: float, leaves: bool
) -> None:
    """Two minutes stay unused, of short budgets a tenth."""
    now = [1000.0]
    budget = TimeBudget(minutes, clock=lambda: now[0])
    now[0] += passed
    assert (budget.reason_to_leave(reserve) is not None) == leaves


@pytest.mark.parametrize("ahead", [False, True])
def test_drawing_ahead_gives_every_step_once_and_in_order(ahead: bool) -> None:
    drawn: list[int] = []

    def draw(step: int) -> int:
        drawn.append(step)
        if step == 4:
            raise RuntimeError("step 4")
        return 10 * step

    found = prefetched(draw, range(1, 4), ahead=ahead)
    assert next(found) == 10
    assert list(found) == [20, 30]
    assert drawn == [1, 2, 3]
    with pytest.raises(RuntimeError, match="step 4"):
        list(prefetched(draw, range(3, 6), ahead=ahead))
    assert list(prefetched(draw, range(0), ahead=ahead)) == []


DIES = """
import json, os, pathlib, shutil, sys, torch
import artifacts.atomic
spec, where = json.loads(sys.argv[1]), sys.argv[2]
save, export = torch.save, artifacts.atomic.write_json

def dying_save(state, file):
    save(state, file)
    if where == "save" and state["step"] == 3:
        os.kill(os.getpid(), 9)

def dying_export(path, value):
    export(path, value)
    if where == "export" and pathlib.Path(path).name == "provenance.json":
        os.kill(os.getpid(), 9)

torch.save = dying_save
import sdpo.training.job
sdpo.training.variant_training.write_json = dying_export
sdpo.training.job.train(spec)
"""


@pytest.mark.parametrize("where", ["save", "export"])
def test_what_a_kill_while_it_is_written_leaves_is_removed_by_the_next_start(
    warm: Path, tiny_sd15_world: World, tiny_job: Job, where: str
) -> None:
    """A state is up to 41 GB, a model 10: left over at every preemption, they fill a disk."""
    settings = {"steps": 5, "checkpoint_every": 3}
    whole, broken = (tiny_job(tiny_sd15_world, root=root, **settings) for root in ("whole", "broken"))
    train(whole)
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    done = subprocess.run([warm / "python", "-c", DIES, json.dumps(broken), where], env=environment)
    assert done.returncode == -signal.SIGKILL
    left = list(Path(broken["root"]).rglob(".*.partial"))
    assert [path.name.rpartition(".partial")[0][:5] for path in left] == [".step" if where == "save" else ".seed"]
    train(broken)
    assert not list(Path(broken["root"]).rglob(".*.partial"))
    assert_same(whole, broken)
