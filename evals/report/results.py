"""Read back the long-form tables of a benchmark, and the order and kinds of its comparisons."""

from __future__ import annotations

import csv
from collections.abc import Callable
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from artifacts.errors import InputError
from evals.tables.main_table import row_order
from evals.tables.rows import DifferenceRow, DriftRow, ScoreRow, WinRateRow

if TYPE_CHECKING:
    from evals.comparison import Comparison

Row = TypeVar("Row", ScoreRow, WinRateRow, DifferenceRow, DriftRow)


@dataclass(frozen=True)
class Results:
    """The rows of ``scores.csv``, ``win_rates.csv``, ``differences.csv`` and ``drift.csv``, in file order."""

    scores: tuple[ScoreRow, ...]
    win_rates: tuple[WinRateRow, ...]
    differences: tuple[DifferenceRow, ...]
    drift: tuple[DriftRow, ...]

    @classmethod
    def read(cls, root: Path) -> Results:
        """Read all four tables below ``root/tables``.

        Raises:
            InputError: a table is missing or malformed.
        """
        tables = root / "tables"
        return cls(
            scores=read_rows(tables / "scores.csv", ScoreRow),
            win_rates=read_rows(tables / "win_rates.csv", WinRateRow),
            differences=read_rows(tables / "differences.csv", DifferenceRow),
            drift=read_rows(tables / "drift.csv", DriftRow),
        )


def read_rows(path: Path, kind: type[Row]) -> tuple[Row, ...]:
    """Read a CSV file whose columns are the fields of ``kind``; text stays text, whatever it looks like.

    Raises:
        InputError: the file is missing, lacks a column, or holds a value of the wrong type.
    """
    remedy = "delete it and run snakemake again"
    try:
        with path.open(encoding="utf-8", newline="") as file:
            reader = csv.DictReader(file)
            names = reader.fieldnames or []
            missing = [field.name for field in fields(kind) if field.name not in names]
            if missing:
                raise InputError(f"{path}: column '{missing[0]}' is missing; {remedy}")
            return tuple(
                kind(**{field.name: _PARSERS[str(field.type)](row[field.name]) for field in fields(kind)})
                for row in reader
            )
    except FileNotFoundError as error:
        raise InputError(f"{path}: no such file; run snakemake to make it") from error
    except (TypeError, ValueError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"{path}: not a table of {kind.__name__} ({error}); {remedy}") from error


def _text(cell: str | None) -> str:
    if cell is None:
        raise ValueError("a row is too short")
    return cell


# Annotations are strings under `from __future__ import annotations`.
_PARSERS: dict[str, Callable[[Any], Any]] = {
    "str": _text,
    "bool": lambda cell: _text(cell) == "true",
    "int": lambda cell: int(_text(cell)),
    "float": lambda cell: float(_text(cell)),
    "float | None": lambda cell: float(cell) if _text(cell) else None,
}


@dataclass(frozen=True)
class Compared:
    """Two variants of a comparison; ``against_baseline`` when ``b`` is the baseline of ``a``."""

    a: str
    b: str
    against_baseline: bool


def compared(comparison: Comparison, results: Results) -> tuple[Compared, ...]:
    """The compared pairs in the order of the main table: first against baselines, then the rest."""
    baselines = {model.variant: model.baseline for model in comparison.models}
    position = {variant: index for index, variant in enumerate(row_order(comparison))}
    pairs = dict.fromkeys((row.a, row.b) for row in results.win_rates)
    listed = [Compared(a, b, baselines.get(a) == b) for a, b in pairs]
    return tuple(sorted(listed, key=lambda pair: (not pair.against_baseline, position.get(pair.a, len(position)))))
