from __future__ import annotations

import json
import os
import signal
import time
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from conftest import ClusterBenchmark

TRAINING = "results/small/jobs/train/dpo/0.json"


def steps_done(benchmark: ClusterBenchmark) -> int:
    """Of the training, by its log, which has a row a step."""
    rows = [row for log in benchmark.root.glob("checkpoints/**/training.jsonl") for row in log.read_text().splitlines()]
    return int(json.loads(rows[-1])["step"]) if rows else 0


def saved_and_left(benchmark: ClusterBenchmark) -> bool:
    return any((benchmark.root / "checkpoints").rglob("step-*.pt"))


def running(benchmark: ClusterBenchmark) -> list[str]:
    return [job for job, state in benchmark.slurm.jobs(benchmark.folder).items() if state == "RUNNING"]


def test_a_cancelled_training_saves_its_state_and_the_next_attempt_goes_on(
    slow_training: ClusterBenchmark, undisturbed_weights: bytes, eventually: Any
) -> None:
    benchmark = slow_training
    process = benchmark.start(TRAINING)
    eventually(lambda: steps_done(benchmark) >= 2, process, benchmark)

    # Another run in the same folder, meanwhile, ends at once and disturbs nothing.
    second = benchmark.start(TRAINING, output="second")
    assert second.wait(timeout=120) != 0
    assert f"error: {benchmark.folder}: snakemake (process {process.pid}, since" in benchmark.output("second")
    assert "cannot be locked" not in benchmark.output("second")
    assert len(running(benchmark)) == 1

    (job,) = running(benchmark)
    benchmark.slurm.command("scancel", job)
    eventually(lambda: saved_and_left(benchmark), process, benchmark)
    printed = benchmark.wait(process)
    assert f"error: train failed (Slurm job {job}, CANCELLED)" in printed
    assert "account" not in printed
    assert "asked to end (SIGTERM)" in printed
    assert "resumed at step" in benchmark.training_log()
    assert benchmark.weights() == undisturbed_weights
    assert list(benchmark.slurm.jobs(benchmark.folder).values()) == ["CANCELLED", "COMPLETED"]


def test_a_training_outlasts_restarts_of_slurm_and_goes_on_when_it_is_requeued(
    slow_training: ClusterBenchmark, undisturbed_weights: bytes, eventually: Any
) -> None:
    benchmark, slurm = slow_training, slow_training.slurm
    process = benchmark.start(TRAINING)
    eventually(lambda: steps_done(benchmark) >= 1, process, benchmark)
    (job,) = running(benchmark)
    slurm.end("node0")
    slurm.end("slurmctld")
    # Meanwhile the workflow asks and gets no answer.
    time.sleep(3)
    slurm.start_controller()
    slurm.start_node("node0")
    slurm.command("scontrol", "update", "nodename=node0", "state=drain", "reason=test")
    done = steps_done(benchmark)
    eventually(lambda: steps_done(benchmark) > done, process, benchmark)

    slurm.command("scontrol", "requeue", job)
    eventually(lambda: saved_and_left(benchmark), process, benchmark)
    eventually(lambda: slurm.jobs(benchmark.folder) == {job: "PENDING"}, process, benchmark)
    slurm.command("scontrol", "update", "nodename=node0", "state=resume")
    printed = benchmark.wait(process)
    assert "error:" not in printed
    assert "resumed at step" in benchmark.training_log()
    assert benchmark.weights() == undisturbed_weights
    assert slurm.jobs(benchmark.folder) == {job: "COMPLETED"}


def test_jobs_of_a_killed_workflow_are_named_and_cancelled_before_another_runs(
    slow_training: ClusterBenchmark, undisturbed_weights: bytes, eventually: Any
) -> None:
    benchmark, slurm = slow_training, slow_training.slurm
    process = benchmark.start(TRAINING)
    eventually(lambda: steps_done(benchmark) >= 2, process, benchmark)
    (job,) = running(benchmark)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()

    # Without the lock, too, no second job for the same model is submitted.
    for lock in (benchmark.folder / ".snakemake/locks").iterdir():
        lock.unlink()
    printed = benchmark.wait(benchmark.start(TRAINING), fails=True)
    assert f"error: Slurm job {job} (train dpo_0, running): of an earlier run in this folder, and not ended" in printed
    assert list(slurm.jobs(benchmark.folder)) == [job]

    assert f"cancelled Slurm job {job} (train dpo_0, running) of a killed workflow" in benchmark.unlock()
    assert saved_and_left(benchmark)
    benchmark.wait(benchmark.start(TRAINING))
    assert "resumed at step" in benchmark.training_log()
    assert benchmark.weights() == undisturbed_weights
    assert list(slurm.jobs(benchmark.folder).values()) == ["CANCELLED", "COMPLETED"]


def test_a_training_that_needs_longer_than_its_time_limit_goes_on_in_the_next_attempt(
    slow_training: ClusterBenchmark, eventually: Any
) -> None:
    benchmark = slow_training
    benchmark.config["execution"]["runtime_minutes"] = 1
    # As many as no machine does in a minute, and all do in four.
    benchmark.config["training"]["steps"] = 10_000
    process = benchmark.start(TRAINING)
    eventually(lambda: "of 1 minutes are left" in benchmark.output(), process, benchmark)
    eventually(lambda: "resumed at step" in benchmark.training_log(), process, benchmark)
    process.send_signal(signal.SIGINT)
    benchmark.wait(process, fails=True)
    first, *_ = benchmark.slurm.jobs(benchmark.folder).values()
    # It left by itself; Slurm had no need to end it.
    assert first == "FAILED"
