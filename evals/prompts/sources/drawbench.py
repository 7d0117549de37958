"""Prompt source ``drawbench``: 200 prompts in 11 categories, from a copy of the authors' sheet.

The copy is a Parquet table whose categories are numbers; a local file may also be the sheet itself, exported as CSV.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from artifacts import text_lines
from artifacts.errors import InputError
from evals.prompts import Prompt
from evals.published.prompt_files import CATEGORY_OPTIONS, check_options, first_of_each, named_source, open_file

DEFAULTS: dict[str, Any] = CATEGORY_OPTIONS
# In the order that the table's numbers count them.
CATEGORIES = (
    "Colors",
    "Conflicting",
    "Counting",
    "DALL-E",
    "Descriptions",
    "Gary Marcus et al.",
    "Misspellings",
    "Positional",
    "Rare Words",
    "Reddit",
    "Text",
)


def read(options: Mapping[str, Any]) -> list[Prompt]:
    """The prompts with their categories.

    Args:
        options: ``path`` (``.parquet`` or ``.csv``), ``sha256``, ``cache``, ``offline``, ``per_category``
            (:data:`evals.published.prompt_files.CATEGORY_OPTIONS`).

    Raises:
        InputError: bad options, the file cannot be had, is not the one expected or has other columns or categories.
    """
    chosen = check_options("drawbench", options, DEFAULTS)
    path = open_file("drawbench", chosen)
    rows = _read_csv(path) if path.suffix.lower() == ".csv" else _read_parquet(path)
    prompts = []
    for number, (text, category) in enumerate(rows, start=1):
        where = f"prompt source 'drawbench': {path}: row {number}"
        if not isinstance(text, str) or not text.strip():
            raise InputError(f"{where}: the prompt is {text!r}, expected text")
        if isinstance(category, int) and 0 <= category < len(CATEGORIES):
            category = CATEGORIES[category]
        if not isinstance(category, str) or category.strip() not in CATEGORIES:
            raise InputError(f"{where}: category is {category!r}, expected one of {', '.join(CATEGORIES)}")
        prompts.append(Prompt(text, category.strip()))
    return first_of_each(prompts, chosen["per_category"])


def _read_csv(path: Path) -> list[tuple[Any, Any]]:
    with named_source("drawbench"):
        rows = [row for _, row in text_lines.table(path)]
    columns = {name.strip().lower(): name for name in (rows[0] if rows else ())}
    _check_columns(path, columns)
    return [(row[columns["prompts"]], row[columns["category"]]) for row in rows]


def _read_parquet(path: Path) -> list[tuple[Any, Any]]:
    import pyarrow
    import pyarrow.parquet

    try:
        table = pyarrow.parquet.read_table(path)
    except (OSError, pyarrow.ArrowException) as error:
        raise InputError(
            f"prompt source 'drawbench': {path}: not a Parquet file ({error}); give one, or .csv"
        ) from error
    _check_columns(path, table.column_names)
    return list(zip(table["prompts"].to_pylist(), table["category"].to_pylist(), strict=True))


def _check_columns(path: Path, found: Mapping[str, str] | list[str]) -> None:
    if "prompts" not in found or "category" not in found:
        raise InputError(
            f"prompt source 'drawbench': {path}: no columns 'prompts' and 'category' (found {', '.join(found)})"
        )
