"""Prompt source ``partiprompts``: 1632 prompts in Diffusion-SDPO's file and order, with the categories of Google's.

Diffusion-SDPO's file has no categories; they are joined by text from the table that was published first. That table
is not quoted, but was read as if it were on the way to Diffusion-SDPO: a prompt that begins with a quoted word has lost
the quotation marks there. So a text is also looked up as such a reading leaves it.
"""

from __future__ import annotations

import csv
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from artifacts import text_lines
from artifacts.errors import InputError
from evals.prompts import Prompt
from evals.published.prompt_files import (
    CATEGORY_OPTIONS,
    check_options,
    first_of_each,
    named_source,
    open_file,
    read_json,
)

COLUMNS = {"category": "Category", "challenge": "Challenge"}
DEFAULTS: dict[str, Any] = {
    **CATEGORY_OPTIONS,
    "categories_path": None,
    "categories_sha256": None,
    "breakdown": "category",
}


def read(options: Mapping[str, Any]) -> list[Prompt]:
    """The prompts; category is one of 12 subjects, or with ``breakdown: challenge`` one of 11 difficulties.

    Args:
        options: ``path``, ``sha256``, ``cache``, ``offline``, ``per_category``
            (:data:`evals.published.prompt_files.CATEGORY_OPTIONS`); ``categories_path`` and ``categories_sha256`` of
            the table; ``breakdown``.

    Raises:
        InputError: bad options, a file cannot be had or is not the one expected, or no prompt stands in the table.
    """
    chosen = check_options("partiprompts", options, DEFAULTS)
    if chosen["breakdown"] not in COLUMNS:
        raise InputError(
            f"prompt source 'partiprompts': breakdown is {chosen['breakdown']!r}, expected one of {', '.join(COLUMNS)}"
        )
    path = open_file("partiprompts", chosen)
    table = open_file("partiprompts", chosen, index=1, prefix="categories_")
    texts = read_json("partiprompts", path)
    categories = _categories(table, COLUMNS[chosen["breakdown"]])
    without = [text for text in texts if text not in categories]
    if texts and len(without) == len(texts):
        raise InputError(f"prompt source 'partiprompts': no prompt of {path} stands in {table}; give files that fit")
    if without:
        print(f"{len(without)} of {len(texts)} prompts have no category: they do not stand in {table}")
    prompts = [Prompt(text, categories.get(text, "")) for text in texts]
    return first_of_each(prompts, chosen["per_category"])


def _categories(path: Path, column: str) -> dict[str, str]:
    """Text to value of ``column``. The table has one line a prompt, and no quoting."""
    with named_source("partiprompts"):
        text = text_lines.read_text(path)
    header, *lines = (line.removesuffix("\r").split("\t") for line in text.split("\n"))
    if "Prompt" not in header or column not in header:
        raise InputError(
            f"prompt source 'partiprompts': {path}: no columns 'Prompt' and '{column}' (found {', '.join(header)})"
        )
    prompt, value = header.index("Prompt"), header.index(column)
    rows = {cells[prompt]: cells[value] for cells in lines if len(cells) > max(prompt, value)}
    as_quoted = {next(csv.reader([text]))[0]: row for text, row in rows.items() if text.startswith('"')}
    return as_quoted | rows
