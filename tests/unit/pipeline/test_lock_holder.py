from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import asdict, replace
from datetime import datetime
from pathlib import Path

import pytest

from artifacts.atomic import write_json
from pipeline.lock_holder import held_line
from pipeline.workflow_process import RECORDS, WorkflowProcess


def record(folder: Path, process: WorkflowProcess) -> None:
    write_json(folder / RECORDS / f"{process.machine}-{process.pid}.json", asdict(process))


@pytest.fixture
def running() -> Iterator[WorkflowProcess]:
    """Another process that runs here."""
    process = subprocess.Popen([sys.executable, "-c", "import sys; sys.stdin.read()"], stdin=subprocess.PIPE)
    yield WorkflowProcess.of(process.pid)
    process.communicate()


def test_the_workflow_that_runs_here_is_named_and_not_this_one(tmp_path: Path, running: WorkflowProcess) -> None:
    record(tmp_path, WorkflowProcess.of(os.getpid()))
    assert "no workflow is known to run here; `sdpo-bench unlock`" in held_line(tmp_path)
    record(tmp_path, replace(running, machine="login2", pid=7, started=running.started + 60))
    record(tmp_path, running)
    since = datetime.fromtimestamp(running.started).strftime("%Y-%m-%d %H:%M")
    assert held_line(tmp_path) == (
        f"{tmp_path}: snakemake (process {running.pid}, since {since}) runs here and writes the same files; wait until "
        "it ends, or stop it"
    )


def test_one_on_another_machine_may_hold_it(tmp_path: Path, running: WorkflowProcess) -> None:
    record(tmp_path, replace(running, boot="before"))
    record(tmp_path, replace(running, machine="login2", pid=7))
    assert "may be held by snakemake (process 7, since" in held_line(tmp_path)
    assert "on login2, which cannot be seen from here" in held_line(tmp_path)
