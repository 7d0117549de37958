"""Rows of the long-form tables, and their CSV form.

Numbers are kept to ten significant digits: far below any interval, and above the rounding of a matrix product,
which may differ with the number of threads.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Sequence
from dataclasses import astuple, dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from artifacts.errors import InputError

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

POOLED = "all"
POWER = 0.8
"""Share of comparisons that are to decide a difference, where it is asked how small one may be."""
MEAN_OF_JUDGES = "mean of judges"
"""In the place of a scorer: the mean of the win rates by the scorers that judge quality."""


@dataclass(frozen=True)
class ScoreRow:
    """Mean score with its interval; ``seed`` is a number, empty (not trained here) or ``all`` (seeds pooled).

    ``n`` counts the scores in the mean: prompts, or prompts times seeds. ``truncated`` counts the prompts of the set of
    which the scorer read only the beginning.
    """

    base: str
    variant: str
    objective: str
    safeguard: bool
    seed: str
    prompt_set: str
    scorer: str
    protocol: str
    mean: float
    ci_low: float
    ci_high: float
    n: int
    truncated: int


@dataclass(frozen=True)
class WinRateRow:
    """How often ``a`` beats ``b``: units are (prompt, seed); ``win_rate`` counts ties half.

    ``p_value`` belongs to the interval, ``p_holm`` and ``p_fdr`` are its adjustments across scorers by Holm and by
    Benjamini and Hochberg; the row :data:`MEAN_OF_JUDGES` is adjusted for none. ``p_these_models`` is the exact sign
    test on prompts, the models fixed.
    """

    base: str
    a: str
    b: str
    kind: str
    prompt_set: str
    scorer: str
    wins: int
    ties: int
    losses: int
    win_rate: float
    ci_low: float
    ci_high: float
    p_value: float
    p_holm: float
    p_fdr: float
    p_these_models: float
    n_seeds: int


@dataclass(frozen=True)
class DifferenceRow:
    """Mean of score(a) - score(b) over prompts and seeds; the extremes are over the means of single seeds.

    ``n_seeds`` is 1 where neither side was trained here. ``p_holm`` and ``p_fdr`` are empty for scorers that describe
    images. ``detectable`` is the least true difference that most such comparisons would decide.
    """

    base: str
    a: str
    b: str
    kind: str
    prompt_set: str
    scorer: str
    mean_difference: float
    ci_low: float
    ci_high: float
    p_value: float
    p_holm: float | None
    p_fdr: float | None
    detectable: float
    per_seed_min: float
    per_seed_max: float
    n_prompts: int
    n_texts: int
    n_seeds: int


@dataclass(frozen=True)
class CategoryRow:
    """As :class:`DifferenceRow`, on the prompts of one category of a set; ``p_fdr`` is across the set's categories."""

    base: str
    a: str
    b: str
    kind: str
    prompt_set: str
    category: str
    scorer: str
    mean_a: float
    mean_b: float
    mean_difference: float
    ci_low: float
    ci_high: float
    p_value: float
    p_fdr: float | None
    detectable: float
    n_prompts: int
    n_texts: int
    n_seeds: int


@dataclass(frozen=True)
class RankRow:
    """Rank of a variant among those of its base, 1 the best, by the mean over its seeds; equal means share the least.

    ``minus_best`` is its paired difference to the variant ``best``, empty where they have no seed in common. ``tied``
    says that this interval holds zero; of the best itself it is true.
    """

    base: str
    variant: str
    prompt_set: str
    scorer: str
    mean: float
    rank: int
    rank_low: int
    rank_high: int
    of: int
    best: str
    minus_best: float | None
    ci_low: float | None
    ci_high: float | None
    tied: bool
    n_seeds: int


@dataclass(frozen=True)
class CostRow:
    """What a variant took, all its models together; empty where no provenance says so.

    Hours are those of a process, times the processes that shared a training; on a GPU, GPU hours.
    """

    variant: str
    models: int
    training_device: str
    training_hours: float | None
    drawing_device: str
    drawing_hours: float | None


@dataclass(frozen=True)
class DriftRow:
    """Held-out drift after training; the interval (of the winner drift) exists for ``seed`` = ``all`` only."""

    variant: str
    objective: str
    safeguard: bool
    pairs: str
    seed: str
    winner_drift: float
    loser_drift: float
    margin: float
    implicit_accuracy: float
    ci_low: float | None
    ci_high: float | None


Row = TypeVar("Row", ScoreRow, WinRateRow, DifferenceRow, CategoryRow, RankRow, CostRow, DriftRow)

TABLES: dict[str, type[DataclassInstance]] = {
    "scores": ScoreRow,
    "win_rates": WinRateRow,
    "differences": DifferenceRow,
    "categories": CategoryRow,
    "ranks": RankRow,
    "costs": CostRow,
    "drift": DriftRow,
}
"""Rows of each CSV file, by its name."""


def json_schemas() -> dict[str, dict[str, Any]]:
    """JSON schema of one row of each CSV file, as :func:`read_rows` gives it; empty cells are null."""
    from pydantic import TypeAdapter

    draft = {"$schema": "https://json-schema.org/draft/2020-12/schema"}
    return {name: {**draft, **TypeAdapter(kind).json_schema()} for name, kind in TABLES.items()}


def significant(value: float, digits: int = 10) -> float:
    """``value`` rounded to ``digits`` significant digits, without a negative zero."""
    return float(f"{value:.{digits}g}") + 0.0


def to_csv(kind: type[DataclassInstance], rows: Sequence[DataclassInstance]) -> str:
    """CSV text with the fields of ``kind`` as header; booleans as true and false, missing values empty."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([field.name for field in fields(kind)])
    for row in rows:
        writer.writerow([_cell(value) for value in astuple(row)])
    return text.getvalue()


def _cell(value: Any) -> Any:
    if value is None:
        return ""
    if isinstance(value, bool):
        return str(value).lower()
    return significant(value) if isinstance(value, float) else value


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
