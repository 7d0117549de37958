"""Cleaning up after a workflow that was killed: its lock and the jobs it left behind."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from artifacts.errors import InputError
from pipeline.job_environment import OWNER

if TYPE_CHECKING:
    import psutil

LOCKS = Path(".snakemake") / "locks"

GRACE_SECONDS = 10.0


def unlock(folder: str | Path) -> list[str]:
    """Remove a stale lock and stop jobs whose workflow is gone; a running workflow is left alone.

    A workflow that was killed with ``kill -9`` could not do either. Its jobs would go on beside those of the next run.

    Returns:
        What was done, one line each.

    Raises:
        InputError: a workflow runs in this folder.
    """
    folder = Path(folder).resolve()
    running = [process.pid for process in _workflows(folder)]
    if running:
        raise InputError(f"{folder}: snakemake (process {running[0]}) runs here; wait until it ends, or stop it")
    done = [f"stopped a job of a killed workflow (process {pid})" for pid in _stop_orphans(folder)]
    locks = folder / LOCKS
    if locks.is_dir() and any(locks.iterdir()):
        shutil.rmtree(locks)
        done.append("removed the lock of a killed workflow")
    return done


def _workflows(folder: Path) -> Iterator[psutil.Process]:
    """Snakemake processes that work in ``folder``."""
    import psutil

    for process in psutil.process_iter():
        try:
            words = process.cmdline()[:4]
            if any(Path(w).name == "snakemake" for w in words) and Path(process.cwd()).resolve() == folder:
                yield process
        except (psutil.Error, OSError):
            continue


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
        pid, _, where = value.partition(":")
        if Path(where) == folder and not psutil.pid_exists(int(pid)):
            orphans.append(process)
    for process in orphans:
        _signal(process, force=False)
    _, alive = psutil.wait_procs(orphans, timeout=GRACE_SECONDS)
    for process in alive:
        _signal(process, force=True)
    return [process.pid for process in orphans]


def _signal(process: psutil.Process, *, force: bool) -> None:
    import psutil

    try:
        process.kill() if force else process.terminate()
    except psutil.Error:
        return
