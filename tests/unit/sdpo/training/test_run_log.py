"""The log of a training is on disk while it goes on, and that of a resumed one is that of an uninterrupted one."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from artifacts import layout
from sdpo.training import checkpoint
from sdpo.training.job import train
from sdpo.training.run import TrainingRun
from sdpo.training.run_log import RunLog, cut_back, read_rows

World = tuple[dict[str, str], Path]
Job = Callable[..., dict[str, Any]]
MEASURED = ("samples_per_second", "peak_memory_bytes")


def state_folder(job: dict[str, Any]) -> Path:
    (lock,) = Path(job["root"], "checkpoints").rglob("lock")
    return lock.parent


def lines(job: dict[str, Any], table: str) -> list[dict[str, Any]]:
    text = (state_folder(job) / f"{table}.jsonl").read_text()
    assert text == "" or text.endswith("\n")
    rows = [json.loads(line) for line in text.splitlines()]
    return [{name: value for name, value in row.items() if name not in MEASURED} for row in rows]


def test_rows_are_on_disk_before_the_next_step(
    tiny_sd15_world: World, tiny_job: Job, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = tiny_job(tiny_sd15_world, log_every=2, drift_every=3, checkpoint_every=100)
    step, seen = TrainingRun.take_step, []

    def watched(run: TrainingRun, *arguments: Any) -> dict[str, Any]:
        seen.append([[row["step"] for row in lines(job, table)] for table in ("training", "drift")])
        return step(run, *arguments)

    monkeypatch.setattr(TrainingRun, "take_step", watched)
    train(job)
    assert seen == [[[], [0]], [[], [0]], [[2], [0]], [[2], [0, 3]]]
    log = pd.read_parquet(layout.model(job["root"], "tiny/variant/seed0") / "training.parquet")
    assert log["step"].tolist() == [2, 4]
    # The model has them now.
    assert [path.name for path in state_folder(job).iterdir()] == ["lock"]


def test_log_of_a_resumed_run_is_that_of_an_uninterrupted_one(
    tiny_sd15_world: World, tiny_job: Job, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It dies in step 6, after the state of step 4; its rows of step 5 and a torn line are taken back."""
    settings = {"steps": 7, "checkpoint_every": 4, "log_every": 1, "drift_every": 2, "keep_state": True}
    whole, broken = (tiny_job(tiny_sd15_world, root=root, **settings) for root in ("whole", "broken"))
    train(whole)
    step = TrainingRun.take_step

    def dying(run: TrainingRun, *arguments: Any) -> dict[str, Any]:
        if run.step == 5:
            raise KeyboardInterrupt
        return step(run, *arguments)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(TrainingRun, "take_step", dying)
        train(broken)
    assert [row["step"] for row in lines(broken, "training")] == [1, 2, 3, 4, 5]
    with (state_folder(broken) / "training.jsonl").open("ab") as file:
        file.write(b'{"step": 6, "loss": 0.6')
    train(broken)
    for table in ("training", "drift"):
        assert lines(broken, table) == lines(whole, table)
    assert [row["step"] for row in lines(broken, "drift")] == [0, 2, 4, 6, 7]


def test_states_hold_no_rows(tiny_sd15_world: World, tiny_job: Job) -> None:
    job = tiny_job(tiny_sd15_world, keep_state=True)
    train(job)
    assert set(checkpoint.load_newest(state_folder(job)) or {}) == {"policy", "optimizer", "step"}


def test_a_run_that_starts_anew_drops_an_old_log(tmp_path: Path) -> None:
    with RunLog(tmp_path) as log:
        log.add("drift", {"step": 0, "margin": 0.5})
    cut_back(tmp_path, -1, lambda table, step: True)
    assert (tmp_path / "drift.jsonl").read_bytes() == b""


def test_rows_that_only_the_end_had_are_taken_back(tmp_path: Path) -> None:
    with RunLog(tmp_path) as log:
        for step in (2, 3):
            log.add("training", {"step": step, "loss": 0.1})
            log.add("drift", {"step": step, "margin": 0.5})
    cut_back(tmp_path, 3, lambda table, step: table == "drift")
    assert [row["step"] for row in read_rows(tmp_path, "training")] == [2]
    assert [row["step"] for row in read_rows(tmp_path, "drift")] == [2, 3]
    assert [row["step"] for row in read_rows(tmp_path, "drift", until=2)] == [2]


def test_lost_log_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    cut_back(tmp_path, 40, lambda table, step: True)
    (line,) = capsys.readouterr().err.splitlines()
    assert line.endswith("drift.jsonl: no rows up to step 40, where the run goes on; its log begins there")


def test_listener_gets_every_row_by_table_and_name(tmp_path: Path) -> None:
    heard: list[Any] = []
    with RunLog(tmp_path, lambda step, row: heard.append((step, dict(row)))) as log:
        log.add("training", {"step": 3, "loss": 0.25, "margin": None})
        log.add("drift", {"step": 3, "margin": 0.5})
    assert heard == [(3, {"training/loss": 0.25, "training/margin": None}), (3, {"drift/margin": 0.5})]
