"""Slurm's own commands: the jobs of a folder, and whether the cluster takes a job."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

ANSWER_SECONDS = 60.0
"""After which a command counts as not answering, as when Slurm's controller is restarted."""
CANCEL_SECONDS = 120.0
"""What a cancelled job gets to end: Slurm kills it after ``KillWait``, 30 s unless the cluster has another one."""

_UNAVAILABLE = "Requested node configuration is not available"


class NoAnswer(Exception):
    """A command of Slurm failed or did not answer; the message is one line."""


@dataclass(frozen=True)
class SlurmJob:
    """A job of Slurm that has not ended.

    Attributes:
        number: Slurm's.
        state: such as ``RUNNING``.
        name: rule and chunk as Snakemake's Slurm executor writes them into the comment.
    """

    number: str
    state: str
    name: str

    def __str__(self) -> str:
        return f"Slurm job {self.number} ({self.name}, {self.state.lower()})"


def jobs_of(folder: str | Path) -> list[SlurmJob]:
    """This user's jobs that Snakemake has submitted from a folder and that have not ended, in Slurm's order.

    Raises:
        NoAnswer: of Slurm.
    """
    lines = _run(["squeue", "--me", "--all", "--noheader", "--format=%i|%T|%k|%Z"]).splitlines()
    jobs = []
    for number, state, comment, where in (line.split("|", 3) for line in lines if line.count("|") >= 3):
        if comment.startswith("rule_") and Path(where).resolve() == Path(folder).resolve():
            jobs.append(SlurmJob(number, state, comment.removeprefix("rule_").replace("_wildcards_", " ")))
    return jobs


def cancel(folder: str | Path) -> list[SlurmJob]:
    """Cancel the jobs of a folder and wait until they have ended, by which a training has saved its state.

    Raises:
        NoAnswer: of Slurm, or a job is still there after :data:`CANCEL_SECONDS`.
    """
    jobs = jobs_of(folder)
    if jobs:
        _run(["scancel", *(job.number for job in jobs)])
    deadline = time.monotonic() + CANCEL_SECONDS
    while jobs and (left := jobs_of(folder)):
        if time.monotonic() > deadline:
            raise NoAnswer(f"{left[0]} has been cancelled and does not end; ask those who run the cluster")
        time.sleep(1.0)
    return jobs


def settings() -> dict[str, str]:
    """The cluster's settings by name, from ``scontrol show config``.

    Raises:
        NoAnswer: of Slurm.
    """
    lines = (line.partition("=") for line in _run(["scontrol", "show", "config"]).splitlines())
    return {name.strip(): value.strip() for name, equals, value in lines if equals}


def refusal(options: Sequence[str]) -> str | None:
    """Why ``sbatch`` does not take a job with these options; ``None`` if it does.

    Raises:
        NoAnswer: of Slurm.
    """
    tested = _command(["sbatch", "--test-only", *options, "--wrap=true"])
    if tested.returncode == 0 or _UNAVAILABLE not in tested.stderr:
        return _reason(tested.stderr) if tested.returncode else None
    # So it answers both where no node is large enough and where those that are, are down. A submission tells the two
    # apart.
    late = _command(["sbatch", "--begin=now+7days", "--parsable", "--output=/dev/null", *options, "--wrap=true"])
    if late.returncode == 0:
        _run(["scancel", late.stdout.strip().split(";")[0]])
        return None
    return _reason(late.stderr)


def _run(command: Sequence[str]) -> str:
    done = _command(command)
    if done.returncode:
        raise NoAnswer(f"{command[0]}: {_reason(done.stderr)}")
    return done.stdout


def _command(command: Sequence[str]) -> subprocess.CompletedProcess[str]:
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=ANSWER_SECONDS)
    except subprocess.TimeoutExpired:
        raise NoAnswer(f"{command[0]}: no answer for {ANSWER_SECONDS:.0f} s") from None
    except OSError as error:
        raise NoAnswer(f"{command[0]}: {error.strerror}") from None


def _reason(errors: str) -> str:
    """The last thing that a command of Slurm has said."""
    lines = [line.strip() for line in errors.splitlines() if line.strip()]
    return lines[-1] if lines else "failed without a word"
