"""Which workflow has locked a folder, for another one that finds it locked."""

from __future__ import annotations

import os
from datetime import datetime
from pathlib import Path

from pipeline.workflow_process import recorded


def held_line(folder: str | Path) -> str:
    """One line: which workflow holds the folder's lock, and what to do.

    Snakemake's lock does not say whose it is: it is that of a workflow recorded in the folder, this process apart. Of
    several it is the one that was started last; those that write other files may run here too.
    """
    folder = Path(folder).resolve()
    others = {process: process.runs() for process in recorded(folder).values() if process is not None}
    for process, runs in sorted(others.items(), key=lambda item: (item[1] is True, item[0].started), reverse=True):
        if runs is False or (runs and process.pid == os.getpid()):
            continue
        since = datetime.fromtimestamp(process.started).strftime("%Y-%m-%d %H:%M")
        who = f"snakemake (process {process.pid}, since {since})"
        if runs:
            return f"{folder}: {who} runs here and writes the same files; wait until it ends, or stop it"
        return (
            f"{folder}: may be held by {who} on {process.machine}, which cannot be seen from here; wait until it ends, "
            "or run `sdpo-bench unlock` there if it was killed"
        )
    return f"{folder}: locked, and no workflow is known to run here; `sdpo-bench unlock` cleans up after a killed one"
