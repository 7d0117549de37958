"""What Snakemake logs, in one line each where it would take twenty, and without what is no news."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

from pipeline.failure_lines import failure_line
from pipeline.lock_holder import held_line

_GUESSES = ("No SLURM account given", "No account was given", "Unable to guess SLURM account")
"""How the Slurm executor's messages begin when it looks for an account that the config does not give.

It looks by a call of ``sacct`` that always fails. A cluster that asks for an account has refused the workflow before
(:mod:`pipeline.cluster_start`).
"""


def shorten(logger: logging.Logger, folder: str | Path) -> None:
    """Let Snakemake's logger say in one line why a job has failed and who holds the folder.

    Args:
        logger: Snakemake's.
        folder: where the workflow runs.
    """

    def shortened(record: logging.LogRecord) -> bool:
        values: Any = record
        if getattr(getattr(record, "event", None), "name", None) == "JOB_ERROR":
            record.msg = failure_line(values.rule_name, values.rule_msg, values.log, values.aux.get("external_jobid"))
            values.event = None
        elif getattr(record, "exception", None) == "LockException":
            record.msg = f"error: {held_line(folder)}; nothing was run"
            values.event = None
        return not str(record.msg).startswith(_GUESSES)

    logger.addFilter(shortened)
