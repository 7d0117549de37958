"""The tables that people read, from the rows that programs read: equal CSV files give equal tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from artifacts.errors import InputError
from evals.tables.formats import to_html, to_latex, to_markdown
from evals.tables.main_table import main_table
from evals.tables.rows import (
    POOLED,
    TABLES,
    CategoryRow,
    DifferenceRow,
    RankRow,
    Row,
    ScoreRow,
    WinRateRow,
    read_rows,
    significant,
    to_csv,
)

if TYPE_CHECKING:
    from evals.tables.comparison import Comparison
    from evals.tables.main_table import MainTable


@dataclass(frozen=True)
class Rows:
    """Rows of the tables that scores alone decide; each field is called as its file."""

    scores: Sequence[ScoreRow]
    win_rates: Sequence[WinRateRow]
    differences: Sequence[DifferenceRow]
    categories: Sequence[CategoryRow]
    ranks: Sequence[RankRow]

    def as_written(self) -> Rows:
        """Numbers as a CSV file keeps them, so that whatever is printed follows from the files."""
        changed: dict[str, Any] = {name: [_as_written(row) for row in getattr(self, name)] for name in _NAMES}
        return Rows(**changed)

    def csv_texts(self) -> dict[str, str]:
        """The CSV files, by name."""
        return {f"{name}.csv": to_csv(TABLES[name], getattr(self, name)) for name in _NAMES}


_NAMES = tuple(field.name for field in fields(Rows))


def read(folder: Path, comparison: Comparison) -> Rows:
    """Read the rows of a folder of tables.

    Raises:
        InputError: a file is missing, malformed, or of another comparison.
    """
    found: dict[str, Any] = {name: read_rows(folder / f"{name}.csv", TABLES[name]) for name in _NAMES}
    rows = Rows(**found)
    present = {(row.variant, row.prompt_set, row.scorer) for row in rows.scores if row.seed == POOLED}
    for variant in comparison.variants:
        for prompt_set in comparison.prompt_sets:
            for rater in comparison.raters(prompt_set):
                if (variant, prompt_set, rater) not in present:
                    raise InputError(
                        f"{folder / 'scores.csv'}: no row for variant '{variant}', prompt set '{prompt_set}', scorer "
                        f"'{rater}'; run snakemake to bring the tables up to date"
                    )
    return rows


def table_of(
    rows: Rows,
    comparison: Comparison,
    generation: Mapping[str, Any] | None = None,
    trained: Mapping[str, Mapping[str, Any]] | None = None,
    remarks: Sequence[str] = (),
) -> MainTable:
    """The main table.

    Args:
        rows: as a CSV file keeps them.
        comparison: what was compared.
        generation, trained: settings of the images and of the trainings, for the notes.
        remarks: further notes.
    """
    table = main_table(rows.scores, rows.differences, rows.win_rates, rows.ranks, comparison, generation, trained or {})
    return replace(table, notes=(*table.notes, *remarks))


def read_by_people(rows: Rows, table: MainTable, confidence: float) -> dict[str, str]:
    """The files that people read, by name: the main table in its formats, and the categories."""
    from evals.tables.categories import to_markdown as categories_markdown

    return {
        "categories.md": categories_markdown(rows.categories, confidence),
        "main.md": to_markdown(table),
        "main.tex": to_latex(table),
        "main.html": to_html(table),
    }


def _as_written(row: Row) -> Row:
    values = {field.name: getattr(row, field.name) for field in fields(row)}
    changed: dict[str, Any] = {name: significant(value) for name, value in values.items() if isinstance(value, float)}
    return replace(row, **changed)
