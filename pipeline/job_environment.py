"""What the jobs of a workflow inherit from it."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from pipeline.workflow_process import WorkflowProcess

OWNER = "SDPO_BENCH_WORKFLOW"
"""Environment variable by which a job knows its workflow: its process, and the folder where it runs."""
CLUSTER = "SDPO_BENCH_CLUSTER"
"""Environment variable that is set in jobs on a cluster, whose time is limited."""
QUIET = {
    "TRANSFORMERS_VERBOSITY": "error",
    "DIFFUSERS_VERBOSITY": "error",
    "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "DO_NOT_TRACK": "true",
}
"""Defaults of the jobs' environment; what the user has set stays."""


def prepare_jobs(folder: str | Path, *, on_cluster: bool = False) -> None:
    """Let the jobs of this process find the project's commands, and mark them as its own.

    Args:
        folder: where the workflow runs.
        on_cluster: whether this process is itself a job on a cluster.

    The commands are those beside this interpreter, also where the environment has not been activated. The mark is how
    :func:`pipeline.unlock.unlock` knows the jobs that a killed workflow left behind.
    """
    commands = str(Path(sys.executable).parent)
    paths = os.environ.get("PATH", os.defpath).split(os.pathsep)
    if commands not in paths:
        os.environ["PATH"] = os.pathsep.join([commands, *paths])
    os.environ[OWNER] = mark(WorkflowProcess.of(os.getpid()), folder)
    os.environ.pop(CLUSTER, None)
    if on_cluster:
        os.environ[CLUSTER] = "1"
    # Loading bars and advice of the libraries would bury the jobs' own lines; errors still show.
    for name, value in QUIET.items():
        os.environ.setdefault(name, value)


def mark(process: WorkflowProcess, folder: str | Path) -> str:
    """Value of :data:`OWNER` for the jobs of a workflow."""
    return f"{process.to_json()}{Path(folder).resolve()}"


def owner(value: str) -> tuple[WorkflowProcess | None, Path]:
    """Workflow and folder of a :func:`mark`."""
    process, end, folder = value.partition("}")
    return WorkflowProcess.from_json(process + end), Path(folder)
