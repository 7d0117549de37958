"""The main table in the paper's layout, before it takes a format: rows variants, columns prompt set by scorer."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from evals.tables.rows import POOLED, ScoreRow

if TYPE_CHECKING:
    from evals.comparison import Comparison

FEW_SEEDS = 5


@dataclass(frozen=True)
class Cell:
    """Mean and half width as printed, the interval's ends as printed, and whether the mean is the column's best."""

    mean: str
    half_width: str
    low: str
    high: str
    best: bool


@dataclass(frozen=True)
class TableRow:
    """A variant's label cells, one a label column, and its cells by (prompt set, scorer)."""

    labels: tuple[str, ...]
    cells: dict[tuple[str, str], Cell]


@dataclass(frozen=True)
class MainTable:
    """A table without a format; all text is raw and is escaped by the format that prints it."""

    title: str
    label_columns: tuple[str, ...]
    prompt_sets: tuple[str, ...]
    scorers: tuple[str, ...]
    confidence: str
    rows: tuple[TableRow, ...]
    notes: tuple[str, ...]


def main_table(rows: Sequence[ScoreRow], comparison: Comparison, generation: Mapping[str, Any] | None) -> MainTable:
    """Arrange the pooled rows of ``scores.csv``.

    Args:
        rows: rows of ``scores.csv``; those with ``seed`` = ``all`` are used.
        comparison: gives the order of rows and columns.
        generation: how images were made, as key and value, for the notes.
    """
    pooled = {(row.variant, row.prompt_set, row.scorer): row for row in rows if row.seed == POOLED}
    order = row_order(comparison)
    decimals = {s: _decimals([row for row in pooled.values() if row.scorer == s]) for s in comparison.scorers}
    best_means = {
        (name, scorer): (min if scorer in comparison.lower_is_better else max)(
            pooled[variant, name, scorer].mean for variant in order
        )
        for name in comparison.prompt_sets
        for scorer in comparison.scorers
    }
    pair_sets = {model.pairs for model in comparison.models if model.trained}
    table_rows = []
    for variant in order:
        first = comparison.of_variant(variant)[0]
        labels = [variant, "on" if first.safeguard else ""]
        if len(pair_sets) > 1:
            labels.append(first.pairs or "")
        cells = {key: _cell(pooled[variant, *key], decimals[key[1]], best) for key, best in best_means.items()}
        table_rows.append(TableRow(tuple(labels), cells))
    return MainTable(
        title=comparison.benchmark,
        label_columns=("variant", "safeguard", "pairs") if len(pair_sets) > 1 else ("variant", "safeguard"),
        prompt_sets=comparison.prompt_sets,
        scorers=tuple(comparison.scorers),
        confidence=percent(comparison.statistics.confidence),
        rows=tuple(table_rows),
        notes=_notes(pooled, comparison, generation),
    )


def row_order(comparison: Comparison) -> tuple[str, ...]:
    """Variants in the comparison's order, each safeguarded one moved directly below its baseline."""
    baseline = {variant: comparison.of_variant(variant)[0].baseline for variant in comparison.variants}
    order: list[str] = []
    for variant in comparison.variants:
        if baseline[variant] not in comparison.variants:
            order.append(variant)
            order += [other for other in comparison.variants if baseline[other] == variant]
    # Whatever hangs from a baseline that has one itself keeps its place at the end.
    return tuple(dict.fromkeys([*order, *comparison.variants]))


def percent(share: float) -> str:
    """A share as text: 0.95 as ``95%``."""
    return f"{100 * share:g}%"


def _decimals(rows: Sequence[ScoreRow]) -> int:
    """Decimals with which a typical half width of this scorer shows two significant digits."""
    widths = [(row.ci_high - row.ci_low) / 2 for row in rows if row.ci_high > row.ci_low]
    if widths:
        decimals = 1 - math.floor(math.log10(statistics.median(widths)))
    else:
        largest = max((abs(row.mean) for row in rows), default=0.0)
        decimals = 2 - math.floor(math.log10(largest)) if largest > 0 else 2
    return min(max(decimals, 0), 8)


def _cell(row: ScoreRow, decimals: int, best: float) -> Cell:
    def printed(value: float) -> str:
        return f"{round(value, decimals) + 0.0:.{decimals}f}"

    half = (row.ci_high - row.ci_low) / 2
    return Cell(printed(row.mean), printed(half), printed(row.ci_low), printed(row.ci_high), row.mean == best)


def _notes(
    pooled: Mapping[tuple[str, str, str], ScoreRow], comparison: Comparison, generation: Mapping[str, Any] | None
) -> tuple[str, ...]:
    level, resamples = percent(comparison.statistics.confidence), comparison.statistics.resamples
    first, scorer = comparison.variants[0], next(iter(comparison.scorers))
    prompts = {
        name: pooled[first, name, scorer].n // len(comparison.of_variant(first)) for name in comparison.prompt_sets
    }
    seeds = {v: len(comparison.of_variant(v)) for v in comparison.variants if comparison.of_variant(v)[0].trained}
    notes = [
        f"Mean ± half the width of the {level} percentile bootstrap interval over prompts and seeds (crossed, "
        + f"{resamples} resamples); its ends are in scores.csv.",
        "Bold (* in plain text) is the best mean of a column, before rounding, and no claim of significance; "
        + "for that see win_rates.csv and differences.csv. "
        + _direction_note(comparison),
        "Scorers and protocols: " + ", ".join(f"{name} ({how})" for name, how in comparison.scorers.items()) + ".",
        "Prompts: " + ", ".join(f"{name} {count}" for name, count in prompts.items()) + ". " + _seed_note(seeds),
    ]
    cut = {(name, scorer): pooled[first, name, scorer].truncated for name in prompts for scorer in comparison.scorers}
    notes.append(_truncation_note(cut, prompts))
    if seeds and min(seeds.values()) < FEW_SEEDS:
        notes.append(
            f"With fewer than {FEW_SEEDS} seeds the bootstrap understates the spread between seeds: "
            "look at the single seeds in scores.csv too."
        )
    alone = sorted({m.variant for m in comparison.models if m.trained and m.safeguard and m.baseline is None})
    if alone:
        notes.append(f"No variant is like {', '.join(alone)} but without safeguard, so what that changes is not shown.")
    if generation:
        notes.append("Generation: " + ", ".join(_settings(generation)) + ".")
    return tuple(notes)


def _truncation_note(cut: Mapping[tuple[str, str], int], prompts: Mapping[str, int]) -> str:
    """Says how many prompts of each set a scorer read only the beginning of."""
    listed = [f"{scorer} {count} of {prompts[name]} of {name}" for (name, scorer), count in cut.items() if count]
    if not listed:
        return "No prompt is longer than any scorer reads."
    return "Prompts of which a scorer read only the beginning: " + ", ".join(listed) + "."


def _direction_note(comparison: Comparison) -> str:
    lower = [name for name in comparison.scorers if name in comparison.lower_is_better]
    return f"Higher is better, lower for {', '.join(lower)}." if lower else "Higher is better for every scorer."


def _seed_note(seeds: Mapping[str, int]) -> str:
    if not seeds:
        return "No model was trained here."
    if len(set(seeds.values())) == 1:
        return f"Seeds a trained variant: {next(iter(seeds.values()))}."
    return "Seeds: " + ", ".join(f"{variant} {count}" for variant, count in seeds.items()) + "."


def _settings(values: Mapping[str, Any], prefix: str = "") -> list[str]:
    listed = []
    for key, value in values.items():
        listed += _settings(value, f"{prefix}{key}.") if isinstance(value, Mapping) else [f"{prefix}{key} {value}"]
    return listed
