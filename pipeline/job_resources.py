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


def training_resources(execution: Execution) -> dict[str, Any]:
    """Resources of a training, on one machine or several.

    On several they are those of a job of MPI to Snakemake's Slurm executor: it starts the command once, on the first,
    and leaves it to start one on each (:func:`on_each_machine`). GPUs are asked for by machine: each gets as many.
    """
    count, gpus = execution.machines, execution.gpu * execution.processes
    found = job_resources(execution, gpus=gpus, resumes=True)
    if count == 1:
        return found
    model = found.pop("gpu_model", None)
    if found.pop("gpu", 0):
        found["gres"] = f"gpu:{f'{model}:' if model else ''}{gpus // count}"
    # Without the last the executor takes `tasks` for those of each GPU.
    return {**found, "nodes": count, "tasks": count, "mpi": "srun", "tasks_per_gpu": 0}


def on_each_machine(command: str, machines: int, threads: int) -> str:
    """A shell command that, in a job of Slurm, starts another on each of its machines.

    Elsewhere it starts it once, which then says that it does not know of the others. One that fails ends all.

    Args:
        command: to start.
        machines: of the job.
        threads: of the command on each.
    """
    if machines == 1:
        return command
    where = f"--nodes={machines} --ntasks={machines} --ntasks-per-node=1 --cpus-per-task={threads}"
    return f"${{SLURM_JOB_ID:+srun {where} --kill-on-bad-exit=1}} {command}"


def _growing(amount: int, most: int | None) -> Callable[[Any, int], int]:
    # Snakemake finds out by their names what a function of a resource asks for.
    def of(wildcards: Any, attempt: int) -> int:
        return amount if most is None else max(amount, min(amount * attempt, most))

    return of
