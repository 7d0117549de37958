"""The main table by one scorer, narrow enough for a terminal."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping

from artifacts import markdown
from artifacts.errors import InputError
from artifacts.plugins import nearest
from evals.tables.main_table import DECIDED, DECIDED_HERE, MEAN_WIN_RATE, Cell, MainTable

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
    shown = [row.cells[name, scorer] for name in table.prompt_sets for row in table.rows]
    against = [i for i in range(len(table.against)) if any(cell.against[i].text for cell in shown)]
    header = ["", f"{scorer}  ", *(f"{table.against[i]} " for i in against), *([MEAN_WIN_RATE] if wins else [])]
    blocks = [f"{table.title}, by {scorer}; {table.confidence} intervals"]
    rows: list[list[str]] = [header]
    titles: dict[int, str] = {}
    for name in table.prompt_sets:
        titles[len(rows)] = f"{name}{f' ({settings[name]})' if name in settings else ''}"
        for row in table.rows:
            cell = row.cells[name, scorer]
            below = [f"{cell.against[i].text}{cell.against[i].mark or ' '}" for i in against]
            rate = [row.cells[name, MEAN_WIN_RATE].value] if wins else []
            rows.append([row.labels[0], _value(cell), *(text.strip() and text for text in below), *rate])
    # Laid out together, so that columns stand below one another in all blocks.
    lines = markdown.plain_table(rows, "l" + "r" * (len(header) - 1)).splitlines()
    blocks.append(textwrap.indent(lines[0], _INDENT))
    for number, line in enumerate(lines[1:], start=1):
        if number in titles:
            blocks += ["", titles[number]] if number > 1 else [titles[number]]
        blocks.append(f"{_INDENT}{line}".rstrip())
    marks = {mark for cell in shown for _, mark in cell.against}
    legend = [
        f"{DECIDED} the interval, over prompts and seeds, excludes no difference." if DECIDED in marks else "",
        f"{DECIDED_HERE} the same over prompts alone, which says nothing of training again."
        if DECIDED_HERE in marks
        else "",
        "* best, ~ second best" + ("; ≈ not told from the best." if any(cell.tied for cell in shown) else "."),
    ]
    return "\n".join([*blocks, "", *textwrap.wrap(" ".join(text for text in legend if text), 80)]) + "\n"


def _value(cell: Cell) -> str:
    return f"{cell.value}{' *~'[cell.place]}{'≈' if cell.tied else ' '}"
