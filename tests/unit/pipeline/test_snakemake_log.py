from __future__ import annotations

import logging
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
    logger.info("10 of 20 steps", extra={"event": SimpleNamespace(name="PROGRESS")})
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
