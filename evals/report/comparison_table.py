"""What is compared, as the page shows it: a table of all of it, the matrix of win rates, and a forest plot's lines."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from evals.report.charts import IntervalMark
from evals.report.summary import ComparedScores, compared_scores, number, verdict, verdict_words
from evals.tables.main_table import row_order
from evals.tables.rows import POOLED

if TYPE_CHECKING:
    from evals.report.results import Compared, Group, Results
    from evals.tables.comparison import Comparison
    from evals.tables.rows import RankRow, WinRateRow

_STRONGEST = 60
"""Share of the colour in the cell of a win rate of 0 or 1, in percent; more would hide the number."""


@dataclass(frozen=True)
class ComparedRow:
    """One row of the table: a pair, why it is compared, and a prompt set's scores as printed."""

    pair: Compared
    heading: str
    prompt_set: str
    score: ComparedScores


@dataclass(frozen=True)
class WinRateCell:
    """A win rate as printed, with its star; ``side`` and ``share`` are the colour: who wins, and how much."""

    scorer: str
    text: str = ""
    side: str = ""
    share: int = 0


@dataclass(frozen=True)
class MatrixRow:
    """Win rates of ``a`` against ``b``, one a scorer."""

    a: str
    b: str
    cells: tuple[WinRateCell, ...]


@dataclass(frozen=True)
class MatrixBlock:
    """Rows of one kind of comparison."""

    heading: str
    rows: tuple[MatrixRow, ...]


def compared_rows(comparison: Comparison, results: Results, found: Sequence[Group]) -> tuple[ComparedRow, ...]:
    """Every pair, prompt set and scorer; the pooled prompt sets come first."""
    return tuple(
        ComparedRow(pair, group.heading, name, row)
        for group in found
        for pair in group.pairs
        for name in prompt_sets(comparison)
        for row in compared_scores(comparison, results, pair, name)
    )


def prompt_sets(comparison: Comparison) -> tuple[str, ...]:
    """Names of the prompt sets in the tables: ``all`` for those that are pooled, and each of several."""
    return (POOLED, *comparison.prompt_sets) if len(comparison.prompt_sets) > 1 else (POOLED,)


def win_rate_matrix(
    results: Results, found: Sequence[Group], scorers: Sequence[str], significant: float
) -> tuple[MatrixBlock, ...]:
    """Win rates over the pooled prompt sets.

    Args:
        results: the tables.
        found: what is compared.
        scorers: the columns.
        significant: the level; a star marks a Holm-adjusted p below it, in brackets where nothing was trained twice.
    """
    pooled = {(row.a, row.b, row.scorer): row for row in results.win_rates if row.prompt_set == POOLED}

    def cell(pair: Compared, scorer: str) -> WinRateCell:
        row = pooled.get((pair.a, pair.b, scorer))
        return WinRateCell(scorer) if row is None else _cell(row, significant)

    return tuple(
        MatrixBlock(
            group.heading,
            tuple(MatrixRow(pair.a, pair.b, tuple(cell(pair, scorer) for scorer in scorers)) for pair in group.pairs),
        )
        for group in found
    )


def _cell(row: WinRateRow, significant: float) -> WinRateCell:
    star = "" if row.p_holm >= significant else " *" if row.n_seeds > 1 else " (*)"
    side = "higher" if row.win_rate > 0.5 else "lower"
    return WinRateCell(
        row.scorer, number(row.win_rate, 3) + star, side, round(2 * _STRONGEST * abs(row.win_rate - 0.5))
    )


def difference_marks(comparison: Comparison, results: Results, found: Sequence[Group]) -> Iterator[IntervalMark]:
    """The differences of the tables, a panel a scorer and kind of comparison."""
    rows = {(r.a, r.b, r.prompt_set, r.scorer): r for r in results.differences}
    for group in found:
        for scorer in comparison.scorers:
            for name in prompt_sets(comparison):
                for pair in group.pairs:
                    row = rows.get((pair.a, pair.b, name, scorer))
                    if row is None:
                        continue
                    words = verdict_words(comparison, scorer)
                    decided = verdict(row.ci_low, row.ci_high, row.n_seeds, words=words)
                    yield IntervalMark(
                        panel=f"{group.heading}: {scorer}" if len(found) > 1 else scorer,
                        label=f"{pair.a} vs {pair.b}",
                        choice=name,
                        mean=row.mean_difference,
                        low=_finite(row.ci_low),
                        high=_finite(row.ci_high),
                        verdict=decided.word,
                        says=f"{row.n_prompts} prompts, {row.n_seeds} seeds"
                        if decided.of_training
                        else f"{row.n_prompts} prompts, one model a side: says nothing of training again",
                    )


def rank_marks(comparison: Comparison, ranks: Sequence[RankRow]) -> Iterator[IntervalMark]:
    """Ranks with their intervals, a panel a scorer and base, variants in the order of the main table."""
    order = row_order(comparison)
    several = len({row.base for row in ranks}) > 1
    places = {name: place for place, name in enumerate((*comparison.scorers, *prompt_sets(comparison), *order))}
    known = [row for row in ranks if row.prompt_set in prompt_sets(comparison)]
    for row in sorted(known, key=lambda row: (places[row.scorer], places[row.prompt_set], order.index(row.variant))):
        yield IntervalMark(
            panel=f"{row.base}: {row.scorer}" if several else row.scorer,
            label=row.variant,
            choice=row.prompt_set,
            mean=row.rank,
            low=row.rank_low,
            high=row.rank_high,
            verdict="",
            says=f"of {row.of}, {row.n_seeds} seeds{', tied with the best' if row.tied and row.rank > 1 else ''}",
        )


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
