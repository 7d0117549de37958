"""What the jobs ask for of the machine or cluster that they run on."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from pipeline.config.execution import Execution


def job_resources(execution: Execution, *, gpus: int = 0, resumes: bool = False) -> dict[str, Any]:
    """Resources of a rule.

    A job that is tried again may ask for more: memory and time are multiplied by the number of the attempt, up to
    ``max_memory_mb`` and ``max_runtime_minutes``.

    Args:
        execution: of the config.
        gpus: of the job, in all its processes.
        resumes: whether the job leaves before its time limit and goes on in the next attempt, as a training does. It
            needs more attempts then, and not more of anything.
    """
    most_memory = None if resumes else execution.max_memory_mb
    most_minutes = None if resumes else execution.max_runtime_minutes
    return {
        "mem_mb": _growing(execution.memory_mb, most_memory),
        "runtime": _growing(execution.runtime_minutes, most_minutes),
        **({"gpu": gpus} if gpus else {}),
        **execution.slurm.resources(gpus),
    }


def _growing(amount: int, most: int | None) -> Callable[[Any, int], int]:
    # Snakemake finds out by their names what a function of a resource asks for.
    def of(wildcards: Any, attempt: int) -> int:
        return amount if most is None else max(amount, min(amount * attempt, most))

    return of
