"""One line for a job that has failed, in place of Snakemake's block with the job's whole spec."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

_LONGEST = 300


def failure_line(rule: str, message: str | None, logs: Sequence[str], cluster_job: str | None = None) -> str:
    """The line.

    Args:
        rule: of the job.
        message: of the executor, if it has one.
        logs: of the rule, and of the executor behind it.
        cluster_job: what Slurm or Kubernetes calls it, if it was submitted.
    """
    if message and "sbatch failed" in message:
        # The executor quotes what sbatch says, and then its own call of some thousand characters.
        said = message.partition("The error message was '")[2].partition("'.\n")[0]
        return f"error: {rule}: not submitted: {_one_line(said)}"
    if message and not cluster_job:
        return f"error: {rule}: {_one_line(message.partition('For further error details')[0])}"
    state = re.search(r"SLURM status is: '(\w+)'", message or "")
    known = f"Slurm job {cluster_job}, {state[1]}" if state else f"job {cluster_job}"
    where = f" ({known})" if cluster_job else ""
    for log in logs:
        if last := _last_line(Path(log)):
            return f"error: {rule} failed{where}: {log} ends with: {last}"
    return f"error: {rule} failed{where}: its log {logs[0] if logs else ''} is empty"


def _last_line(log: Path) -> str:
    try:
        text = log.read_bytes()[-65536:].decode(errors="replace")
    except OSError:
        return ""
    # A line of progress is written over and over.
    lines = [line.strip() for line in re.split(r"[\r\n]", text) if line.strip()]
    # After what a process says of its own end, launchers of several say at length that it has ended.
    said = [line for line in lines if line.startswith("error: ")] or lines
    return _one_line(said[-1]) if said else ""


def _one_line(text: str) -> str:
    line = "; ".join(part.strip() for part in text.splitlines() if part.strip())
    return line if len(line) <= _LONGEST else f"{line[: _LONGEST - 1]}…"
