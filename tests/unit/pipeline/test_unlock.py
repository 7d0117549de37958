from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from artifacts.atomic import write_json
from artifacts.errors import InputError
from pipeline.job_environment import OWNER, mark
from pipeline.unlock import unlock
from pipeline.workflow_process import RECORDS, WorkflowProcess


@contextmanager
def sleeping(folder: Path, name: str = "job", **environment: str) -> Iterator[subprocess.Popen[bytes]]:
    """A process in ``folder`` whose first argument is ``name``."""
    process = subprocess.Popen(
        [sys.executable, "-c", "import time; print(flush=True); time.sleep(60)", name],
        cwd=folder,
        env={**os.environ, **environment},
        stdout=subprocess.PIPE,
    )
    try:
        assert process.stdout is not None
        process.stdout.readline()
        yield process
    finally:
        process.kill()
        process.wait()


def gone() -> WorkflowProcess:
    """A process of this machine that has ended."""
    process = subprocess.Popen([sys.executable, "-c", "import sys; sys.stdin.read()"], stdin=subprocess.PIPE)
    found = WorkflowProcess.of(process.pid)
    process.communicate()
    return found


def recorded(folder: Path, process: WorkflowProcess) -> Path:
    path = folder / RECORDS / f"{process.machine}-{process.pid}.json"
    write_json(path, asdict(process))
    return path


@pytest.fixture
def locked(tmp_path: Path) -> Path:
    locks = tmp_path / ".snakemake" / "locks"
    locks.mkdir(parents=True)
    (locks / "0.output.lock").write_text("results/tiny/tables/scores.csv\n")
    return tmp_path


def test_nothing_to_do(tmp_path: Path) -> None:
    assert unlock(tmp_path) == []


def test_stale_lock_is_removed_and_nothing_else(locked: Path) -> None:
    (locked / ".snakemake" / "metadata").mkdir()
    recorded(locked, gone())
    assert unlock(locked) == ["removed the lock of a killed workflow"]
    assert {path.name for path in (locked / ".snakemake").rglob("*")} == {RECORDS.name, "metadata"}
    assert unlock(locked) == []


def test_lock_of_a_running_workflow_stays(locked: Path) -> None:
    recorded(locked, gone())
    with sleeping(locked) as process:
        recorded(locked, WorkflowProcess.of(process.pid))
        with pytest.raises(InputError, match=rf"snakemake \(process {process.pid}\) runs here; wait until it ends"):
            unlock(locked)
        assert process.poll() is None
    assert (locked / ".snakemake/locks/0.output.lock").exists()


def test_a_later_process_of_the_same_number_does_not_count(locked: Path) -> None:
    recorded(locked, replace(WorkflowProcess.of(os.getpid()), started=WorkflowProcess.of(os.getpid()).started - 3600))
    assert unlock(locked) == ["removed the lock of a killed workflow"]


def test_a_workflow_from_before_the_machine_was_started_anew_is_gone(locked: Path) -> None:
    recorded(locked, replace(WorkflowProcess.of(os.getpid()), boot="an earlier one"))
    assert unlock(locked) == ["removed the lock of a killed workflow"]


@pytest.mark.parametrize(
    "other",
    [{"machine": "node17"}, {"machine_id": "0123"}, {"pid_namespace": "pid:[1]"}, {"machine": "n", "boot": "b"}],
)
def test_lock_of_another_machine_or_container_stays(locked: Path, other: dict[str, str]) -> None:
    """On a shared disk; its process numbers mean nothing here, whether one of that number runs or not."""
    for process in (gone(), WorkflowProcess.of(os.getpid())):
        path = recorded(locked, replace(process, **other))
        dead = recorded(locked, replace(gone(), pid=1))
        with pytest.raises(
            InputError, match=rf"may be held by a workflow on machine .* or delete .* and {path} if that"
        ):
            unlock(locked)
        assert (locked / ".snakemake/locks/0.output.lock").exists()
        path.unlink()
        dead.unlink()


def test_lock_that_nobody_has_recorded_stays(locked: Path) -> None:
    with pytest.raises(InputError, match="nothing says which workflow holds it, perhaps one on another machine"):
        unlock(locked)
    assert (locked / ".snakemake/locks/0.output.lock").exists()


def test_record_that_cannot_be_read_counts_as_another_machine(locked: Path) -> None:
    recorded(locked, gone()).write_text("{")
    with pytest.raises(InputError, match="may be held by a workflow on an unknown machine"):
        unlock(locked)


def test_record_of_another_machine_does_no_harm_without_a_lock(tmp_path: Path) -> None:
    path = recorded(tmp_path, replace(gone(), machine="node17"))
    assert unlock(tmp_path) == []
    assert path.exists()


def test_a_workflow_elsewhere_does_not_count(locked: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    recorded(locked, gone())
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    with sleeping(elsewhere) as process:
        recorded(elsewhere, WorkflowProcess.of(process.pid))
        assert unlock(locked) == ["removed the lock of a killed workflow"]


def test_a_workflow_is_recorded_until_it_ends_by_itself(tmp_path: Path) -> None:
    code = "import sys; from pipeline.workflow_process import record; record('.'); print(flush=True); sys.stdin.read()"
    for killed in (False, True):
        process = subprocess.Popen(
            [sys.executable, "-c", code], cwd=tmp_path, stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        assert process.stdout is not None
        process.stdout.readline()
        with pytest.raises(InputError, match=rf"\(process {process.pid}\) runs here"):
            unlock(tmp_path)
        if killed:
            process.kill()
        process.communicate()
        assert len(list((tmp_path / RECORDS).iterdir())) == killed
    assert unlock(tmp_path) == []
    assert not list((tmp_path / RECORDS).iterdir())


def test_only_jobs_of_a_dead_workflow_here_are_stopped(
    tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    dead, elsewhere = gone(), tmp_path_factory.mktemp("elsewhere")
    with (
        sleeping(tmp_path, **{OWNER: mark(dead, tmp_path)}) as orphan,
        sleeping(tmp_path, **{OWNER: mark(WorkflowProcess.of(os.getpid()), tmp_path)}) as owned,
        sleeping(elsewhere, **{OWNER: mark(dead, elsewhere)}) as foreign,
        sleeping(tmp_path, **{OWNER: mark(replace(dead, machine="node17"), tmp_path)}) as of_another_machine,
    ):
        assert unlock(tmp_path) == [f"stopped a job of a killed workflow (process {orphan.pid})"]
        deadline = time.monotonic() + 10
        while orphan.poll() is None and time.monotonic() < deadline:
            time.sleep(0.01)
        assert orphan.poll() is not None
        assert owned.poll() is None
        assert foreign.poll() is None
        assert of_another_machine.poll() is None
