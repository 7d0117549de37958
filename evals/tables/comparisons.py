"""``win_rates.csv`` and ``differences.csv``: variants against baselines, bases, and what else was asked for.

A unit is a prompt and a seed, with the same seed on both sides; the base has no seed and meets every seed. Of a prompt
with several images the score is their mean. Wins are counted image by image, from the same start noise on both sides,
and a unit's outcome is their mean: a comparison of means would win the more often the more images there are, and be
another quantity than the win rate of one image.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import numpy as np

from evals.tables.intervals import Floats
from evals.tables.paired import compare_scores, compare_wins
from evals.tables.rows import MEAN_OF_JUDGES, POOLED, DifferenceRow, WinRateRow
from evals.tables.statistics import false_discovery, holm

if TYPE_CHECKING:
    from evals.tables.comparison import Comparison, Pair
    from evals.tables.matrices import ScoreMatrices


def comparison_rows(comparison: Comparison, matrices: ScoreMatrices) -> tuple[list[WinRateRow], list[DifferenceRow]]:
    """Rows of both tables, for every prompt set and for all that are drawn alike pooled (``all``).

    p-values are adjusted, by Holm and by Benjamini and Hochberg, across the scorers that judge quality, of one pair of
    variants and one prompt set. Scorers that describe images have differences, without an adjusted p-value, and no win
    rates.

    Pooled are the prompt sets that a scorer rates. The mean of judges is that of those which rate every prompt set
    concerned, if there are two; otherwise it has no row.
    """
    win_rates: list[WinRateRow] = []
    differences: list[DifferenceRow] = []
    for pair in comparison.pairs:
        for prompt_set in (*comparison.prompt_sets, POOLED):
            wins, found = _of_prompt_set(comparison, matrices, pair, prompt_set)
            win_rates += wins
            differences += found
    return win_rates, differences


def _of_prompt_set(
    comparison: Comparison, matrices: ScoreMatrices, pair: Pair, prompt_set: str
) -> tuple[list[WinRateRow], list[DifferenceRow]]:
    sets = comparison.pooled if prompt_set == POOLED else (prompt_set,)
    rated = {s: tuple(name for name in sets if name in comparison.sets_of(s)) for s in comparison.scorers}
    rated = {scorer: names for scorer, names in rated.items() if names}
    judges = [scorer for scorer in comparison.judges if scorer in rated]
    prompts = {scorer: matrices.units[names] for scorer, names in rated.items()}
    confidence = comparison.statistics.confidence
    bases = dict.fromkeys(comparison.base_of(variant) for variant in (pair.a, pair.b))
    label: dict[str, Any] = {"base": " / ".join(bases), **pair._asdict(), "prompt_set": prompt_set}
    of_scorer = {scorer: _difference(matrices, pair, names, scorer) for scorer, names in rated.items()}
    better = {s: _better(comparison, matrices, pair, rated[s], s) for s in judges}
    wins = {scorer: compare_wins([values], prompts[scorer], confidence) for scorer, values in better.items()}
    found = {scorer: compare_scores(values, prompts[scorer], confidence) for scorer, values in of_scorer.items()}
    wins_adjusted = _adjusted({scorer: row.p_value for scorer, row in wins.items()})
    found_adjusted = _adjusted({scorer: found[scorer].p_value for scorer in judges})
    of_all = [scorer for scorer in judges if len(rated[scorer]) == len(sets)]
    if len(of_all) > 1:
        # One number of its own, not a member of the scorers' family.
        several = [better[scorer] for scorer in of_all]
        mean = wins[MEAN_OF_JUDGES] = compare_wins(several, prompts[of_all[0]], confidence)
        wins_adjusted[MEAN_OF_JUDGES] = {"p_holm": mean.p_value, "p_fdr": mean.p_value}
    return (
        [WinRateRow(**label, scorer=s, **asdict(row), **wins_adjusted[s]) for s, row in wins.items()],
        [
            DifferenceRow(**label, scorer=s, **asdict(row), **found_adjusted.get(s, {"p_holm": None, "p_fdr": None}))
            for s, row in found.items()
        ],
    )


def _adjusted(p_values: dict[str, float]) -> dict[str, dict[str, Any]]:
    """Columns of adjusted p-values by scorer."""
    given = list(p_values.values())
    both = zip(holm(given), false_discovery(given), strict=True)
    return {scorer: {"p_holm": one, "p_fdr": other} for scorer, (one, other) in zip(p_values, both, strict=True)}


def _difference(matrices: ScoreMatrices, pair: Pair, sets: Sequence[str], scorer: str) -> Floats:
    """score(a) - score(b) on prompt sets side by side, ``(seeds, prompts)``."""
    sides = [matrices.paired(pair.a, pair.b, name, scorer) for name in sets]
    return np.concatenate([first - second for first, second in sides], axis=1)


def _better(comparison: Comparison, matrices: ScoreMatrices, pair: Pair, sets: Sequence[str], scorer: str) -> Floats:
    """By how much a is better, image by image, ``(seeds, prompts, images)``; not a number where a set has fewer."""
    sides = [matrices.paired_images(pair.a, pair.b, name, scorer) for name in sets]
    found = [second - first if scorer in comparison.lower_is_better else first - second for first, second in sides]
    most = max(values.shape[-1] for values in found)
    padded = [np.pad(x, ((0, 0), (0, 0), (0, most - x.shape[-1])), constant_values=np.nan) for x in found]
    return np.concatenate(padded, axis=1)
