"""Loggers get every row of a training, and whatever happens to them the training goes on."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from artifacts import layout
from artifacts.errors import InputError
from sdpo.training import loggers
from sdpo.training.job import train
from sdpo.training.loggers import LoggedRun
from sdpo.training.run import TrainingRun
from sdpo.training.settings import TrainingSettings

World = tuple[dict[str, str], Path]
Job = Callable[..., dict[str, Any]]

TO_A_FILE = """
import json
class Lines:
    def __init__(self, run): self.file = (run.folder / "heard").open("a"); self.write("create", run.model, run.step)
    def write(self, *what): print(json.dumps(what), file=self.file, flush=True)
    def log(self, step, row): self.write(step, dict(row))
    def close(self, *, finished): self.write("close", finished)
create = Lines
"""
FAILING = """
class Failing:
    def log(self, step, row): raise ConnectionError("the server is gone")
    def close(self, *, finished): raise ConnectionError("the server is still gone")
def create(run): return Failing()
"""


def heard(job: dict[str, Any]) -> list[Any]:
    (file,) = Path(job["root"], "checkpoints").rglob("heard")
    return [json.loads(line) for line in file.read_text().splitlines()]


@pytest.fixture
def run(tmp_path: Path) -> LoggedRun:
    spec = {"objective": {"name": "dmpo", "safeguard": {"mu": 0.9}}, "training": {"steps": 4}}
    return LoggedRun("toy", "mini/dmpo/seed0", "d" * 64, 0, tmp_path, spec)


def test_a_logger_gets_the_log_of_a_training_and_of_its_continuation(
    tiny_sd15_world: World, tiny_job: Job, plug_in: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A broken one beside it is named once, and changes nothing."""
    plug_in("sdpo.loggers", "to_a_file", TO_A_FILE)
    plug_in("sdpo.loggers", "failing", FAILING)
    settings = {"log_every": 2, "drift_every": 3, "checkpoint_every": 2, "safeguard": {"mu": 0.5}}
    job = tiny_job(tiny_sd15_world, loggers=["failing", "to_a_file"], **settings)
    step = TrainingRun.take_step

    def dying(run: TrainingRun, *arguments: Any) -> dict[str, Any]:
        if run.step == 3:
            raise KeyboardInterrupt
        return step(run, *arguments)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(TrainingRun, "take_step", dying)
        train(job)
    assert heard(job)[-1] == ["close", False]
    train(job)
    lines = heard(job)
    assert [line[0] for line in lines] == ["create", 0, 2, 3, "close", "create", 3, 4, 4, "close"]
    assert (lines[0], lines[5], lines[-1]) == (
        ["create", "tiny/variant/seed0", 0],
        ["create", "tiny/variant/seed0", 2],
        ["close", True],
    )
    folder = layout.model(job["root"], "tiny/variant/seed0")
    log, drift = (pd.read_parquet(folder / f"{table}.parquet").set_index("step") for table in ("training", "drift"))
    # Four pairs leave some shares of noise empty.
    found = {f"training/{name}": None if pd.isna(value) else value for name, value in log.loc[4].items()}
    assert lines[7][1] == found
    assert lines[8][1] == {f"drift/{name}": value for name, value in drift.loc[4].items()}
    assert lines[1][1]["drift/winner_drift"] == 0


def test_a_broken_logger_is_named_once(
    tiny_sd15_world: World, tiny_job: Job, plug_in: Callable[..., str], capsys: pytest.CaptureFixture[str]
) -> None:
    module = plug_in("sdpo.loggers", "failing", FAILING)
    job = tiny_job(tiny_sd15_world, steps=2, loggers=["failing"])
    train(job)
    (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("warning: logger")]
    assert line.startswith("warning: logger 'failing' of tiny/variant/seed0: ConnectionError: the server is gone (")
    assert f"{module}.py, line 3); the training goes on, and its log is in {job['root']}/checkpoints/" in line
    assert (layout.model(job["root"], "tiny/variant/seed0") / "provenance.json").is_file()


def test_a_logger_that_hangs_holds_nothing_up(
    run: LoggedRun, plug_in: Callable[..., str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    plug_in("sdpo.loggers", "hanging", "def create(run): run.spec['wait'].wait()")
    monkeypatch.setattr(loggers, "PATIENCE_SECONDS", 0.05)
    answer = threading.Event()
    hanging = LoggedRun(run.benchmark, run.model, run.digest, 0, run.folder, {"wait": answer})
    try:
        with loggers.opened(["hanging"], hanging) as listen:
            for step in range(100):
                listen(step, {"training/loss": 0.5})
        assert "logger 'hanging' of mini/dmpo/seed0: has not handed on all rows after 0.05 s" in capsys.readouterr().err
    finally:
        answer.set()


def test_unknown_logger_is_refused_before_the_training(tiny_sd15_world: World, tiny_job: Job) -> None:
    with pytest.raises(InputError, match=r"training.loggers\[0\] = \"mlfow\": unknown logger: .*did you mean 'mlflow'"):
        train(tiny_job(tiny_sd15_world, loggers=["mlfow"]))
    assert TrainingSettings().loggers == []


@pytest.mark.slow
def test_mlflow_run_is_continued(run: LoggedRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from mlflow import MlflowClient

    uri = f"sqlite:///{tmp_path}/mlflow.db"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    monkeypatch.delenv("MLFLOW_EXPERIMENT_NAME", raising=False)
    first = loggers.REGISTRY.load("mlflow").create(run)
    first.log(1, {"training/loss": 0.5, "training/margin": None, "training/residual_cosine": float("nan")})
    first.close(finished=False)
    second = loggers.REGISTRY.load("mlflow").create(run)
    second.log(2, {"training/loss": 0.25})
    second.log(2, {"drift/margin": 0.125})
    client = MlflowClient(tracking_uri=uri)
    experiment = client.get_experiment_by_name("toy-training")
    (found,) = client.search_runs([experiment.experiment_id])
    assert found.info.status == "RUNNING"
    second.close(finished=True)
    (found,) = client.search_runs([experiment.experiment_id])
    assert (found.info.run_name, found.info.status) == ("mini/dmpo/seed0", "FINISHED")
    assert found.data.params == {
        "objective.name": '"dmpo"',
        "objective.safeguard": '{"mu": 0.9}',
        "training.steps": "4",
    }
    assert found.data.metrics == {"training/loss": 0.25, "drift/margin": 0.125}
    history = client.get_metric_history(found.info.run_id, "training/loss")
    assert [(metric.step, metric.value) for metric in history] == [(1, 0.5), (2, 0.25)]


def test_mlflow_needs_an_address(
    run: LoggedRun, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    with loggers.opened(["mlflow"], run) as listen:
        listen(1, {"training/loss": 0.5})
    (line,) = capsys.readouterr().err.splitlines()
    assert "logger 'mlflow' of mini/dmpo/seed0: MLFLOW_TRACKING_URI is not set; set it to" in line


def test_a_logger_takes_no_row_from_another_and_may_leave_the_program(
    run: LoggedRun, plug_in: Callable[..., str], capsys: pytest.CaptureFixture[str]
) -> None:
    plug_in("sdpo.loggers", "to_a_file", TO_A_FILE)
    taking = "class Taking:\n    def log(self, step, row): row.clear(); raise SystemExit(3)\n"
    plug_in(
        "sdpo.loggers", "taking", f"{taking}    def close(self, *, finished): pass\ndef create(run): return Taking()"
    )
    with loggers.opened(["taking"], run) as listen:
        row = {"training/loss": 0.5}
        listen(1, row)
    assert row == {"training/loss": 0.5}
    assert "logger 'taking' of mini/dmpo/seed0: SystemExit: 3 (" in capsys.readouterr().err
