from __future__ import annotations

import logging
import re
from pathlib import Path
from types import SimpleNamespace

import pytest

from pipeline.snakemake_log import shorten


@pytest.fixture
def seen() -> list[logging.LogRecord]:
    return []


@pytest.fixture
def logger(tmp_path: Path, seen: list[logging.LogRecord]) -> logging.Logger:
    logger = logging.Logger("snakemake")
    handler = logging.Handler()
    handler.emit = seen.append  # type: ignore[method-assign]
    logger.addHandler(handler)
    shorten(logger, tmp_path)
    return logger


def test_a_failed_job_is_one_line_in_place_of_the_block(logger: logging.Logger, seen: list[logging.LogRecord]) -> None:
    refused = "SLURM sbatch failed. The error message was 'sbatch: error: Invalid account'.\n    sbatch call:\n"
    values = {"rule_name": "train", "rule_msg": refused, "log": [], "aux": {}}
    logger.error("Error in rule train", extra={"event": SimpleNamespace(name="JOB_ERROR"), **values})
    logger.info("10 of 20 steps")
    failure, progress = seen
    assert failure.getMessage() == "error: train: not submitted: sbatch: error: Invalid account"
    assert failure.__dict__["event"] is None
    assert progress.getMessage() == "10 of 20 steps"


def test_a_locked_folder_is_one_line(logger: logging.Logger, seen: list[logging.LogRecord], tmp_path: Path) -> None:
    text = "LockException:\nError: Directory cannot be locked. Please make sure that"
    logger.error(text, extra={"event": SimpleNamespace(name="ERROR"), "exception": "LockException"})
    (line,) = seen
    assert line.getMessage().startswith(f"error: {tmp_path}: locked")
    assert line.getMessage().endswith("; nothing was run")
    assert line.__dict__["event"] is None


def test_the_search_for_an_account_is_not_shown_and_one_that_was_found_is(
    logger: logging.Logger, seen: list[logging.LogRecord]
) -> None:
    logger.warning("No SLURM account given, trying to guess.")
    logger.warning("No account was given, not able to get a SLURM account via sacct: sacct: invalid option -- '1'")
    logger.warning("Unable to guess SLURM account. Trying to proceed without.")
    logger.warning("Guessed SLURM account: my-lab")
    assert [line.getMessage() for line in seen] == ["Guessed SLURM account: my-lab"]


def log_of_a_run(logger: logging.Logger, *, dry: bool = False) -> None:
    def say(text: str | None, event: str, **values: object) -> None:
        logger.info(text, extra={"event": SimpleNamespace(name=event), **values})

    say("Job stats:\n...", "RUN_INFO", stats={"prompts": 2, "all": 1, "total": 3})
    logger.info("Select jobs to execute...")
    if not dry:
        say("Execute 1 jobs...", "JOB_STARTED", jobs=[4])
    say("Rule: prompts, Jobid: 4", "JOB_INFO", jobid=4, rule_name="prompts", rule_msg="Prompt set seen")
    if not dry:
        say("Finished jobid: 4 (Rule: prompts)", "JOB_FINISHED", job_id=4)
        say(None, "PROGRESS", done=1, total=3)


def test_a_job_is_a_line_as_it_begins_and_one_as_it_ends(logger: logging.Logger, seen: list[logging.LogRecord]) -> None:
    log_of_a_run(logger)
    table, begins, ends = seen
    assert table.getMessage() == "Job stats:\n..."
    assert re.fullmatch(r"\d\d:\d\d:\d\d Prompt set seen", begins.getMessage())
    assert re.fullmatch(r"\d\d:\d\d:\d\d 1 of 3 jobs done in 0 s, about 1 min left", ends.getMessage())
    assert begins.__dict__["event"] is ends.__dict__["event"] is None


def test_a_dry_run_says_why_jobs_would_run(logger: logging.Logger, seen: list[logging.LogRecord]) -> None:
    log_of_a_run(logger, dry=True)
    _, job = seen
    assert job.__dict__["event"].name == "JOB_INFO"


def test_verbose_leaves_snakemakes_own_words(tmp_path: Path, seen: list[logging.LogRecord]) -> None:
    logger = logging.Logger("snakemake")
    handler = logging.Handler()
    handler.emit = seen.append  # type: ignore[method-assign]
    logger.addHandler(handler)
    shorten(logger, tmp_path, verbose=True)
    log_of_a_run(logger)
    assert [record.msg for record in seen][1:5] == [
        "Select jobs to execute...",
        "Execute 1 jobs...",
        "Rule: prompts, Jobid: 4",
        "Finished jobid: 4 (Rule: prompts)",
    ]
