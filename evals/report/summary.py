"""What the tables say, cell by cell: verdicts from intervals, and numbers as the page prints them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from evals.tables import numbers
from evals.tables.main_table import NOT_RATED
from evals.tables.numbers import deciding, decimals, p_value
from evals.tables.rows import MEAN_OF_JUDGES, POOLED, DifferenceRow, DriftRow, WinRateRow

if TYPE_CHECKING:
    from evals.report.results import Compared, Results
    from evals.tables.comparison import Comparison

BETTER, WORSE, UNDECIDED = "better", "worse", "undecided"
MORE, LESS = "more", "less"


@dataclass(frozen=True)
class Verdict:
    """What an interval decides: ``better`` or ``worse`` of a judge, ``more`` or ``less`` of a description.

    ``of_training`` says whether the interval covers training again; otherwise it speaks of these very models.
    """

    word: str
    of_training: bool


@dataclass(frozen=True)
class Verdicts:
    """One compared pair and its verdict in each column, pooled over prompt sets."""

    pair: Compared
    of_column: tuple[Verdict, ...]


@dataclass(frozen=True)
class ComparedScores:
    """One row of the comparison table: win rate and difference of the same pair, prompt set and scorer, as printed.

    Where there is no win rate, or no difference, its texts are empty. Both are a dash where the scorer does not rate
    the prompt set.
    """

    scorer: str
    win_rate: str = ""
    win_interval: str = ""
    outcomes: str = ""
    win_p: str = ""
    difference: str = ""
    difference_interval: str = ""
    difference_p: str = ""
    seed_range: str = ""


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


def verdict(low: float, high: float, seeds: int, *, words: tuple[str, str], null: float = 0.0) -> Verdict:
    """What the interval from ``low`` to ``high`` decides; one that touches ``null`` does not exclude it.

    Args:
        low, high: the interval's ends.
        seeds: how many it is over; 1 where nothing was trained.
        words: for an interval above and below ``null``.
        null: no difference.
    """
    word = words[0] if low > null else words[1] if high < null else UNDECIDED
    return Verdict(word, seeds > 1)


def verdict_columns(comparison: Comparison, results: Results) -> tuple[str, ...]:
    """Judges, the mean of their win rates if it is pooled, and scorers that describe."""
    pooled = {row.scorer for row in results.win_rates if row.prompt_set == POOLED}
    mean = [MEAN_OF_JUDGES] if MEAN_OF_JUDGES in pooled else []
    return (*comparison.judges, *mean, *(name for name in comparison.scorers if name in comparison.no_judges))


def verdicts(comparison: Comparison, results: Results, pairs: Sequence[Compared]) -> tuple[Verdicts, ...]:
    """Verdicts of each pair in each of :func:`verdict_columns`."""
    found = {
        (r.a, r.b, r.scorer): verdict(r.ci_low, r.ci_high, r.n_seeds, words=verdict_words(comparison, r.scorer))
        for r in results.differences
        if r.prompt_set == POOLED
    }
    found |= {
        (r.a, r.b, r.scorer): verdict(r.ci_low, r.ci_high, r.n_seeds, words=(BETTER, WORSE), null=0.5)
        for r in results.win_rates
        if r.prompt_set == POOLED and r.scorer == MEAN_OF_JUDGES
    }
    columns = verdict_columns(comparison, results)
    # Nothing is pooled of a scorer that rates only sets drawn under settings of their own.
    unknown = Verdict(NOT_RATED, of_training=False)
    return tuple(
        Verdicts(pair, tuple(found.get((pair.a, pair.b, name), unknown) for name in columns)) for pair in pairs
    )


def verdict_words(comparison: Comparison, scorer: str) -> tuple[str, str]:
    """Words for a difference above and below zero by a scorer."""
    if scorer in comparison.no_judges:
        return MORE, LESS
    return (WORSE, BETTER) if scorer in comparison.lower_is_better else (BETTER, WORSE)


def compared_scores(
    comparison: Comparison, results: Results, pair: Compared, prompt_set: str
) -> tuple[ComparedScores, ...]:
    """Rows of the comparison table of one pair on one prompt set (or ``all``), one a scorer and one for their mean."""
    key = pair.a, pair.b, prompt_set
    win_rates = {r.scorer: r for r in results.win_rates if (r.a, r.b, r.prompt_set) == key}
    differences = {r.scorer: r for r in results.differences if (r.a, r.b, r.prompt_set) == key}
    if not differences:
        return ()
    rows = {
        scorer: ComparedScores(
            scorer, **_win_texts(win_rates.get(scorer)), **_difference_texts(differences.get(scorer))
        )
        for scorer in (*differences, *win_rates)
    }
    for scorer in comparison.scorers if prompt_set != POOLED else ():
        if prompt_set not in comparison.sets_of(scorer):
            win_rate = "" if scorer in comparison.no_judges else NOT_RATED
            rows[scorer] = ComparedScores(scorer, win_rate=win_rate, difference=NOT_RATED)
    return tuple(rows[scorer] for scorer in (*comparison.scorers, MEAN_OF_JUDGES) if scorer in rows)


def _win_texts(row: WinRateRow | None) -> dict[str, str]:
    if row is None:
        return {}
    digits = deciding(row.ci_low, row.ci_high, 3, 0.5)
    return {
        "win_rate": number(row.win_rate, 3),
        "win_interval": interval(row.ci_low, row.ci_high, digits),
        "outcomes": f"{row.wins} / {row.ties} / {row.losses}",
        "win_p": p_value(row.p_holm),
    }


def _difference_texts(row: DifferenceRow | None) -> dict[str, str]:
    if row is None:
        return {}
    digits = decimals([row.ci_high - row.ci_low, row.mean_difference])
    digits = deciding(row.ci_low, row.ci_high, digits)
    seeds = f"{signed(row.per_seed_min, digits)} to {signed(row.per_seed_max, digits)}"
    return {
        "difference": signed(row.mean_difference, digits),
        "difference_interval": interval(row.ci_low, row.ci_high, digits, plus=True),
        "difference_p": "" if row.p_holm is None else p_value(row.p_holm),
        "seed_range": seeds if row.n_seeds > 1 else "",
    }


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


def number(value: float, digits: int) -> str:
    """As :func:`evals.tables.numbers.number`, with a true minus sign."""
    return numbers.number(value, digits).replace("-", "−")


def signed(value: float, digits: int) -> str:
    """As :func:`evals.tables.numbers.signed`, with a true minus sign."""
    return numbers.signed(value, digits).replace("-", "−")


def interval(low: float, high: float, digits: int, *, plus: bool = False) -> str:
    """``low to high``; with ``plus``, both ends carry their sign; a dash where nothing is known."""
    form = signed if plus else number
    return f"{form(low, digits)} to {form(high, digits)}" if math.isfinite(low) and math.isfinite(high) else "–"
