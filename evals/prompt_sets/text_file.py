"""Prompt source ``text_file``: a UTF-8 file with one prompt a line; blank lines are skipped."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from artifacts.errors import InputError
from evals.prompt_sets import Prompt

DEFAULTS: dict[str, Any] = {"path": None}


def read(options: Mapping[str, Any]) -> list[Prompt]:
    """Read the prompts.

    Args:
        options: ``path`` of the file.

    Raises:
        InputError: no ``path``, or the file cannot be read as UTF-8.
    """
    if set(options) != {"path"}:
        raise InputError(f"prompt source 'text_file': options are {sorted(options)}, expected exactly 'path'")
    try:
        text = Path(options["path"]).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"prompt source 'text_file': {options['path']}: {error}; give a UTF-8 text file") from error
    return [Prompt(line.strip()) for line in text.splitlines() if line.strip()]
