from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from artifacts.errors import InputError
from pipeline.job_environment import OWNER, mark
from pipeline.unlock import unlock


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


def ended_pid() -> int:
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


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
    assert unlock(locked) == ["removed the lock of a killed workflow"]
    assert sorted(path.name for path in (locked / ".snakemake").iterdir()) == ["metadata"]


def test_lock_of_a_running_workflow_stays(locked: Path) -> None:
    with sleeping(locked, "/somewhere/bin/snakemake") as process:
        with pytest.raises(InputError, match=rf"snakemake \(process {process.pid}\) runs here; wait until it ends"):
            unlock(locked)
        assert process.poll() is None
    assert (locked / ".snakemake/locks/0.output.lock").exists()


def test_a_workflow_elsewhere_does_not_count(locked: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    with sleeping(tmp_path_factory.mktemp("elsewhere"), "snakemake"):
        assert unlock(locked) == ["removed the lock of a killed workflow"]


def test_only_jobs_of_a_dead_workflow_here_are_stopped(
    tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    dead, elsewhere = ended_pid(), tmp_path_factory.mktemp("elsewhere")
    with (
        sleeping(tmp_path, **{OWNER: mark(dead, tmp_path)}) as orphan,
        sleeping(tmp_path, **{OWNER: mark(os.getpid(), tmp_path)}) as owned,
        sleeping(elsewhere, **{OWNER: mark(dead, elsewhere)}) as foreign,
    ):
        assert unlock(tmp_path) == [f"stopped a job of a killed workflow (process {orphan.pid})"]
        deadline = time.monotonic() + 10
        while orphan.poll() is None and time.monotonic() < deadline:
            time.sleep(0.01)
        assert orphan.poll() is not None
        assert owned.poll() is None
        assert foreign.poll() is None
