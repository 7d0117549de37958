"""The main table by one scorer, narrow enough for a terminal."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping

from artifacts import markdown
from artifacts.errors import InputError
from artifacts.plugins import nearest
from evals.tables.formats import marked_value
from evals.tables.main_table import DECIDED, DECIDED_HERE, MEAN_WIN_RATE, MainTable

_INDENT = "  "


def one_scorer(table: MainTable, scorer: str, settings: Mapping[str, str]) -> str:
    """One block a prompt set: rows variants, columns the mean, its differences to base and baseline, the win rate.

    Args:
        table: the main table.
        scorer: a scorer of the table.
        settings: how the images of a prompt set were drawn, in words, where that is said beside its name.

    Raises:
        InputError: the table has no such scorer.
    """
    known = [name for block in table.blocks for name in block.columns if name != MEAN_WIN_RATE]
    if scorer not in known:
        raise InputError(f"scorer '{scorer}': expected one of {', '.join(known)}{nearest(scorer, known)}")
    wins = any(MEAN_WIN_RATE in block.columns for block in table.blocks)
    at = [(name, row) for name in table.prompt_sets for row in table.rows]
    shown = [row.cells[name, scorer] for name, row in at]
    against = [i for i in range(len(table.against)) if any(cell.against[i].text for cell in shown)]
    header = ["", f"{scorer}  ", *(f"{table.against[i]} " for i in against), *([MEAN_WIN_RATE] if wins else [])]
    rows = [
        [
            row.labels[0],
            marked_value(cell),
            *(f"{cell.against[i].text}{cell.against[i].mark or ' '}" if cell.against[i].text else "" for i in against),
            *([row.cells[name, MEAN_WIN_RATE].value] if wins else []),
        ]
        for (name, row), cell in zip(at, shown, strict=True)
    ]
    # Laid out together, so that columns stand below one another in all blocks.
    laid_out = markdown.plain_table([header, *rows], "l" + "r" * (len(header) - 1)).splitlines()
    heading, *lines = (f"{_INDENT}{line}".rstrip() for line in laid_out)
    blocks = [f"{table.title}, by {scorer}; {table.confidence} intervals", heading]
    for number, name in enumerate(table.prompt_sets):
        blocks += [""] if number else []
        blocks.append(f"{name} ({settings[name]})" if name in settings else name)
        blocks += lines[number * len(table.rows) : (number + 1) * len(table.rows)]
    marks = {mark for cell in shown for _, mark in cell.against}
    legend = [
        f"{DECIDED} the interval, over prompts and seeds, excludes no difference." if DECIDED in marks else "",
        f"{DECIDED_HERE} the same over prompts alone, which says nothing of training again."
        if DECIDED_HERE in marks
        else "",
        "* best, ~ second best" + ("; ≈ not told from the best." if any(cell.tied for cell in shown) else "."),
    ]
    return "\n".join([*blocks, "", *textwrap.wrap(" ".join(text for text in legend if text), 80)]) + "\n"
