"""What Snakemake logs, in one line each where it would take twenty, and without what is no news."""

from __future__ import annotations

import logging
import time
from pathlib import Path
from typing import Any

from pipeline.failure_lines import failure_line
from pipeline.job_lines import JobLines
from pipeline.lock_holder import held_line

_GUESSES = ("No SLURM account given", "No account was given", "Unable to guess SLURM account")
"""How the Slurm executor's messages begin when it looks for an account that the config does not give.

It looks by a call of ``sacct`` that always fails. A cluster that asks for an account has refused the workflow before
(:mod:`pipeline.cluster_start`).
"""


def shorten(logger: logging.Logger, folder: str | Path, *, verbose: bool = False) -> None:
    """Let Snakemake's logger say in a line each why a job has failed, who holds the folder, and how far a run is.

    Args:
        logger: Snakemake's.
        folder: where the workflow runs.
        verbose: leave what it says of jobs that go well as it is.
    """
    logger.addFilter(_Shortened(folder, verbose))


class _Shortened(logging.Filter):
    """Changes records as they pass; the log file of the run gets the same lines."""

    def __init__(self, folder: str | Path, verbose: bool) -> None:
        super().__init__()
        self._folder, self._verbose = folder, verbose
        self._lines: JobLines | None = None
        self._running = False

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether the record is shown."""
        values: Any = record
        event = getattr(getattr(record, "event", None), "name", None)
        if event == "JOB_ERROR":
            _say(record, failure_line(values.rule_name, values.rule_msg, values.log, values.aux.get("external_jobid")))
        elif getattr(record, "exception", None) == "LockException":
            _say(record, f"error: {held_line(self._folder)}; nothing was run")
        elif not self._verbose and not self._is_news(event, record):
            return False
        return not str(record.msg).startswith(_GUESSES)

    def _is_news(self, event: str | None, record: logging.LogRecord) -> bool:
        values: Any = record
        if event == "RUN_INFO":
            self._lines = JobLines({rule: count for rule, count in values.stats.items() if rule != "total"})
        elif event == "JOB_STARTED":
            # A dry run has none, and says why each job would run.
            self._running = True
        elif self._running and self._lines is not None:
            if event == "JOB_INFO":
                self._lines.begins(values.jobid, values.rule_name)
                _say(record, f"{time.strftime('%H:%M:%S')} {values.rule_msg or values.rule_name}")
            elif event == "JOB_FINISHED":
                self._lines.ends(values.job_id)
            elif event == "PROGRESS":
                _say(record, f"{time.strftime('%H:%M:%S')} {self._lines.progress(values.done, values.total)}")
        return event not in ("JOB_STARTED", "JOB_FINISHED") and record.msg != "Select jobs to execute..."


def _say(record: logging.LogRecord, text: str) -> None:
    record.msg, record.event = text, None
