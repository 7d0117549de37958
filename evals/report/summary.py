"""What the tables say, cell by cell: verdicts from intervals, and numbers as the page prints them."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from evals.report.results import Compared, compared
from evals.tables.rows import POOLED, DifferenceRow, DriftRow, WinRateRow

if TYPE_CHECKING:
    from evals.comparison import Comparison
    from evals.report.results import Results

HIGHER, LOWER, UNDECIDED = "higher", "lower", "undecided"


@dataclass(frozen=True)
class Verdicts:
    """One compared pair and its verdict for each scorer, pooled over prompt sets."""

    pair: Compared
    of_scorer: tuple[str, ...]


@dataclass(frozen=True)
class ComparedScores:
    """One row of the comparison table: win rate and difference of the same pair, prompt set and scorer."""

    scorer: str
    win_rate: str
    win_interval: str
    outcomes: str
    p_holm: str
    difference: str
    difference_interval: str
    seed_range: str


@dataclass(frozen=True)
class DriftSummary:
    """Held-out drift of one variant at the end of training, as printed."""

    variant: str
    safeguard: bool
    pairs: str
    winner_drift: str
    interval: str
    risen: str
    loser_drift: str
    margin: str
    implicit_accuracy: str


def verdict(row: DifferenceRow) -> str:
    """``higher`` or ``lower`` if the interval of the difference excludes zero, ``undecided`` otherwise."""
    if row.ci_low > 0:
        return HIGHER
    return LOWER if row.ci_high < 0 else UNDECIDED


def verdicts(comparison: Comparison, results: Results) -> tuple[Verdicts, ...]:
    """Verdicts of every compared pair, in the order of :func:`evals.report.results.compared`."""
    pooled = {(r.a, r.b, r.scorer): verdict(r) for r in results.differences if r.prompt_set == POOLED}
    return tuple(
        Verdicts(pair, tuple(pooled.get((pair.a, pair.b, scorer), UNDECIDED) for scorer in comparison.scorers))
        for pair in compared(comparison, results)
    )


def compared_scores(
    comparison: Comparison, results: Results, pair: Compared, prompt_set: str
) -> tuple[ComparedScores, ...]:
    """Rows of the comparison table of one pair on one prompt set (or ``all``), one a scorer."""
    win_rates = {r.scorer: r for r in results.win_rates if (r.a, r.b, r.prompt_set) == (pair.a, pair.b, prompt_set)}
    differences = {r.scorer: r for r in results.differences if (r.a, r.b, r.prompt_set) == (pair.a, pair.b, prompt_set)}
    return tuple(
        _compared_row(win_rates[scorer], differences[scorer])
        for scorer in comparison.scorers
        if scorer in win_rates and scorer in differences
    )


def _compared_row(win: WinRateRow, difference: DifferenceRow) -> ComparedScores:
    digits = decimals([difference.ci_high - difference.ci_low, difference.mean_difference])
    return ComparedScores(
        scorer=win.scorer,
        win_rate=number(win.win_rate, 2),
        win_interval=interval(win.ci_low, win.ci_high, 2),
        outcomes=f"{win.wins} / {win.ties} / {win.losses}",
        p_holm=p_value(win.p_holm),
        difference=signed(difference.mean_difference, digits),
        difference_interval=interval(difference.ci_low, difference.ci_high, digits, plus=True),
        seed_range=f"{signed(difference.per_seed_min, digits)} to {signed(difference.per_seed_max, digits)}",
    )


def drift_summaries(rows: Sequence[DriftRow], order: Sequence[str]) -> tuple[DriftSummary, ...]:
    """One row a trained variant in the given order; ``risen`` counts the seeds whose winner drift is above zero."""
    pooled = {row.variant: row for row in rows if row.seed == POOLED}
    # One digit more than the typical drift needs: the safeguarded ones are several times smaller.
    digits = 1 + decimals([value for row in pooled.values() for value in (row.winner_drift, row.loser_drift)])
    summaries = []
    for variant in order:
        if variant not in pooled:
            continue
        row = pooled[variant]
        seeds = [other.winner_drift for other in rows if other.variant == variant and other.seed != POOLED]
        known = row.ci_low is not None and row.ci_high is not None
        summaries.append(
            DriftSummary(
                variant=variant,
                safeguard=row.safeguard,
                pairs=row.pairs,
                winner_drift=signed(row.winner_drift, digits),
                interval=interval(row.ci_low or 0.0, row.ci_high or 0.0, digits, plus=True) if known else "–",
                risen=f"{sum(drift > 0 for drift in seeds)} of {len(seeds)}",
                loser_drift=signed(row.loser_drift, digits),
                margin=signed(row.margin, digits),
                implicit_accuracy=number(row.implicit_accuracy, 2),
            )
        )
    return tuple(summaries)


def decimals(values: Iterable[float]) -> int:
    """Decimals, 0 to 8, with which the median size of the values that are not zero shows two significant digits."""
    sizes = [abs(value) for value in values if value and math.isfinite(value)]
    if not sizes:
        return 2
    return min(max(1 - math.floor(math.log10(statistics.median(sizes))), 0), 8)


def number(value: float, digits: int) -> str:
    """Fixed decimals, a true minus sign, and no negative zero."""
    return f"{round(value, digits) + 0.0:.{digits}f}".replace("-", "−")


def signed(value: float, digits: int) -> str:
    """As :func:`number`, with a plus sign before what is above zero as printed."""
    return ("+" if round(value, digits) > 0 else "") + number(value, digits)


def interval(low: float, high: float, digits: int, *, plus: bool = False) -> str:
    """``low to high``; with ``plus``, both ends carry their sign."""
    form = signed if plus else number
    return f"{form(low, digits)} to {form(high, digits)}"


def p_value(value: float) -> str:
    """Three decimals; below a thousandth as ``< 0.001``."""
    return "< 0.001" if value < 0.001 else f"{value:.3f}"
