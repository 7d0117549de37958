"""Cleaning up after a workflow that was killed: its lock and the jobs it left behind."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from artifacts.errors import InputError
from pipeline import slurm
from pipeline.job_environment import OWNER, owner
from pipeline.workflow_process import recorded

if TYPE_CHECKING:
    import psutil

LOCKS = Path(".snakemake") / "locks"
SLURM_LOGS = Path(".snakemake") / "slurm_logs"
"""Made by Snakemake's Slurm executor: without it no job has been submitted from a folder."""

GRACE_SECONDS = 10.0


def unlock(folder: str | Path) -> list[str]:
    """Remove a stale lock and stop jobs whose workflow is gone, on Slurm too; a running workflow is left alone.

    A workflow that was killed with ``kill -9`` could not do either. Its jobs would go on beside those of the next run.
    Jobs on Slurm get the time that they need to save their state.
    A lock is left where it is unless the workflow that held it is known to have run on this machine and to be gone.

    Returns:
        What was done, one line each.

    Raises:
        InputError: a workflow runs in this folder, or the lock may be that of another machine.
    """
    folder = Path(folder).resolve()
    records = recorded(folder)
    unknown = []
    for path, process in records.items():
        runs = None if process is None else process.runs()
        if process is not None and runs:
            raise InputError(f"{folder}: snakemake (process {process.pid}) runs here; wait until it ends, or stop it")
        if runs is None:
            unknown.append((path, process))
    locks = folder / LOCKS
    locked = locks.is_dir() and any(locks.iterdir())
    if locked and unknown:
        path, process = unknown[0]
        who = "an unknown machine" if process is None else f"machine {process.machine} (process {process.pid})"
        raise InputError(
            f"{locks}: may be held by a workflow on {who}, which cannot be seen from here; run it there, or delete "
            f"{locks} and {path} if that workflow is gone"
        )
    if locked and not records:
        raise InputError(
            f"{locks}: nothing says which workflow holds it, perhaps one on another machine; delete it if none runs"
        )
    # First, since where Slurm's node is this machine, its jobs are processes here too, which would get less time.
    done = _cancel_on_slurm(folder)
    done += [f"stopped a job of a killed workflow (process {pid})" for pid in _stop_orphans(folder)]
    if locked:
        shutil.rmtree(locks)
        done.append("removed the lock of a killed workflow")
    for path in records.keys() - {path for path, _ in unknown}:
        path.unlink(missing_ok=True)
    return done


def _stop_orphans(folder: Path) -> list[int]:
    """Stop the jobs whose workflow in ``folder`` is gone; returns their process ids."""
    import psutil

    orphans = []
    for process in psutil.process_iter():
        try:
            value = process.environ().get(OWNER)
        except (psutil.Error, OSError):
            continue
        if value is None or process.pid == os.getpid():
            continue
        workflow, where = owner(value)
        if where == folder and workflow is not None and workflow.runs() is False:
            orphans.append(process)
    for process in orphans:
        _signal(process, force=False)
    _, alive = psutil.wait_procs(orphans, timeout=GRACE_SECONDS)
    for process in alive:
        _signal(process, force=True)
    return [process.pid for process in orphans]


def _cancel_on_slurm(folder: Path) -> list[str]:
    if not (folder / SLURM_LOGS).is_dir():
        return []
    try:
        return [f"cancelled {job} of a killed workflow" for job in slurm.cancel(folder)]
    except slurm.NoAnswer as error:
        return [f"jobs on Slurm, if there are any, were left alone: {error}"]


def _signal(process: psutil.Process, *, force: bool) -> None:
    import psutil

    try:
        process.kill() if force else process.terminate()
    except psutil.Error:
        return
