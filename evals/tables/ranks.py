"""``ranks.csv``: which place a variant has among those of its base, and which places it may have.

The interval of a rank is read off paired intervals, as in Mogstad, Romano, Shaikh and Wilhelm (Review of Economic
Studies 91, 2024): a variant stands behind those that are better beyond doubt and before those that are worse. Each of
the K - 1 intervals of a variant is widened by Bonferroni's rule, so that all of them hold together at the level of the
tables, and the rank's then covers as often. Ranks of resampled tables would not: with two to five seeds a bootstrap
sees too little of what seeds do (docs/statistics.md).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from evals.tables.intervals import Floats, Integers, estimate
from evals.tables.rows import POOLED, RankRow

if TYPE_CHECKING:
    from evals.tables.comparison import Comparison
    from evals.tables.matrices import ScoreMatrices


@dataclass(frozen=True)
class Rivals:
    """Every two of K variants compared, as matrices (K, K): row minus column, zero on the diagonal.

    Attributes:
        mean: paired differences; not a number where two have no seed in common.
        half: half the width of their intervals, infinite there.
        joint: the same, with all K - 1 of a row at the level of one.
        seeds: seeds in common, 1 where nothing was trained.
    """

    mean: Floats
    half: Floats
    joint: Floats
    seeds: Integers


def rank_rows(comparison: Comparison, matrices: ScoreMatrices) -> list[RankRow]:
    """Rows of every base with two variants, prompt set and judge, and of all sets that are drawn alike (``all``)."""
    rows: list[RankRow] = []
    for base in dict.fromkeys(model.base for model in comparison.models):
        variants = [variant for variant in comparison.variants if comparison.base_of(variant) == base]
        if len(variants) < 2:
            continue
        for prompt_set in (*comparison.prompt_sets, POOLED):
            sets = comparison.pooled if prompt_set == POOLED else (prompt_set,)
            for scorer in comparison.judges:
                rated = tuple(name for name in sets if name in comparison.sets_of(scorer))
                if rated:
                    found = rivals(matrices, variants, rated, scorer, comparison.statistics.confidence)
                    values = [_beside(matrices.values[v, name, scorer] for name in rated) for v in variants]
                    sign = -1 if scorer in comparison.lower_is_better else 1
                    ranked = _ranked(variants, np.array([value.mean() for value in values]), found, sign)
                    rows += [RankRow(base=base, prompt_set=prompt_set, scorer=scorer, **row) for row in ranked]
    return rows


def rivals(
    matrices: ScoreMatrices, variants: Sequence[str], sets: tuple[str, ...], scorer: str, confidence: float
) -> Rivals:
    """Compare every two variants by one scorer on prompt sets side by side."""
    count = len(variants)
    mean, half, joint = (np.full((count, count), value) for value in (np.nan, np.inf, np.inf))
    seeds = np.zeros((count, count), np.int64)
    for table, value in ((mean, 0.0), (half, 0.0), (joint, 0.0), (seeds, 1)):
        np.fill_diagonal(table, value)
    met: dict[int, list[tuple[tuple[int, int], Floats]]] = {}
    for i, a in enumerate(variants):
        for j, b in enumerate(variants[:i]):
            if matrices.meet(a, b):
                sides = [matrices.paired(a, b, name, scorer) for name in sets]
                difference = _beside(first - second for first, second in sides)
                met.setdefault(len(difference), []).append(((i, j), difference))
    for of_seeds, listed in met.items():
        found = estimate(np.stack([difference for _, difference in listed]), matrices.units[sets])
        i, j = np.array([place for place, _ in listed]).T
        mean[i, j], mean[j, i] = found.mean, -found.mean
        half[i, j] = half[j, i] = found.half_width(confidence)
        joint[i, j] = joint[j, i] = found.half_width(1.0 - (1.0 - confidence) / (count - 1))
        seeds[i, j] = seeds[j, i] = of_seeds
    return Rivals(mean, half, joint, seeds)


def _ranked(variants: Sequence[str], means: Floats, found: Rivals, sign: int) -> list[dict[str, Any]]:
    """The columns of a row that are about the rank; higher is better for a ``sign`` of 1, lower for -1."""
    from scipy.stats import rankdata

    best = int(np.argmax(sign * means))
    ahead = (sign * found.mean < -found.joint).sum(axis=1)
    behind = (sign * found.mean > found.joint).sum(axis=1)
    rows = []
    for i, (variant, rank) in enumerate(zip(variants, rankdata(-sign * means, method="min"), strict=True)):
        difference, half = float(found.mean[i, best]), float(found.half[i, best])
        known = i != best and bool(np.isfinite(difference))
        rows.append(
            {
                "variant": variant,
                "mean": float(means[i]),
                "rank": int(rank),
                "rank_low": 1 + int(ahead[i]),
                "rank_high": len(variants) - int(behind[i]),
                "of": len(variants),
                "best": variants[best],
                "minus_best": difference if known else None,
                "ci_low": difference - half if known else None,
                "ci_high": difference + half if known else None,
                "tied": i == best or not known or abs(difference) <= half,
                "n_seeds": int(found.seeds[i, best]),
            }
        )
    return rows


def _beside(values: Iterable[Floats]) -> Floats:
    """Prompt sets side by side."""
    return np.concatenate(list(values), axis=1)
