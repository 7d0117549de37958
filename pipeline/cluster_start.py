"""What must be right before a workflow submits its first job to Slurm: else it ends in one line and leaves no job."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from artifacts.errors import InputError
from pipeline import slurm


def check_start(folder: str | Path, jobs: Iterable[Any], executor: Any) -> None:
    """Check that the workflow in a folder can submit its jobs and will hear of their end.

    Args:
        folder: where it runs.
        jobs: Snakemake's, those that are to be submitted.
        executor: settings of Snakemake's Slurm executor.

    Raises:
        InputError: jobs of an earlier run are still there; Slurm would not tell when a job has ended; it takes no job
            such as one of these.
    """
    try:
        if earlier := slurm.jobs_of(folder):
            raise InputError(
                f"{', '.join(map(str, earlier))}: of an earlier run in this folder, and not ended; wait for it, or let "
                "`sdpo-bench unlock` cancel it"
            )
        if problem := _unseen_end(slurm.settings(), executor):
            raise InputError(problem)
        for options, job in {tuple(sbatch_options(job)): job for job in jobs}.items():
            if reason := slurm.refusal(options):
                raise InputError(
                    f"rule '{job.rule.name}' asks Slurm for {' '.join(options)}: {reason}; change `execution` or "
                    "`execution.slurm` of the config"
                )
    except slurm.NoAnswer as error:
        raise InputError(f"{error}; is this a machine of the cluster, and does Slurm run?") from None


def _unseen_end(settings: dict[str, str], executor: Any) -> str | None:
    """Why Snakemake would wait for ever for jobs that have ended; ``None`` if it would not.

    It asks ``sacct``, unless told to ask ``squeue`` by a cluster whose memory of jobs that have ended is long enough.
    """
    if settings.get("AccountingStorageType", "(null)") not in ("accounting_storage/none", "(null)"):
        return None
    if executor.status_command != "squeue":
        return (
            "this cluster keeps no accounts, so `sacct` never tells that a job has ended; use --profile profiles/slurm"
        )
    least, remembered = 3 * executor.init_seconds_before_status_checks, settings.get("MinJobAge", "").split(" ")[0]
    if remembered.isdigit() and int(remembered) < least:
        return (
            f"this cluster keeps no accounts and forgets ended jobs after {remembered} s (MinJobAge), before Snakemake "
            f"asks; give --slurm-init-seconds-before-status-checks {int(remembered) // 3} or less"
        )
    return None


def sbatch_options(job: Any) -> list[str]:
    """What a job of Snakemake asks Slurm for, as its Slurm executor passes it on.

    Args:
        job: Snakemake's, with ``threads`` and ``resources``.
    """
    get = job.resources.get
    options = [f"--cpus-per-task={job.threads}"]
    options += [
        f"{option}={value}"
        for option, value in (
            ("--account", get("slurm_account")),
            ("--partition", get("slurm_partition")),
            ("--nodes", get("nodes")),
            ("--ntasks", get("tasks")),
            ("--gres", get("gres")),
            ("--mem", get("mem_mb")),
            ("--time", get("runtime")),
            ("--qos", get("qos")),
            ("--constraint", get("constraint")),
        )
        if value
    ]
    if gpus := get("gpu"):
        options.append(f"--gpus={f'{model}:' if (model := get('gpu_model')) else ''}{gpus}")
    return options + str(get("slurm_extra") or "").split()
