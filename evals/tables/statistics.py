"""Rates and tests of the comparison tables: numpy in, numbers out, no files.

Intervals of means and of differences are in :mod:`evals.tables.intervals`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from evals.tables.intervals import Floats, Prompts


def preferences(difference: Floats) -> Floats:
    """1 where the first side is better (difference > 0), 0 where it is worse, 0.5 for a tie."""
    outcome: Floats = (np.sign(difference) + 1.0) / 2.0
    return outcome


def win_rate(wins: int, ties: int, losses: int) -> float:
    """Share of wins with ties counted half, in [0, 1].

    Raises:
        ValueError: there is nothing to count.
    """
    total = wins + ties + losses
    if total < 1:
        raise ValueError("a win rate needs at least one comparison")
    return (wins + 0.5 * ties) / total


def prompt_signs(difference: Floats, prompts: Prompts | None = None) -> tuple[int, int]:
    """Prompts won and lost, ``(seeds, prompts)`` reduced to the net sign over seeds; net ties are in neither.

    Prompts of equal text count as one.
    """
    prompts = prompts or Prompts.separate(difference.shape[1])
    _, text = np.unique(prompts.texts, return_inverse=True)
    net = np.sign(np.bincount(text, weights=np.sign(difference).sum(axis=0)))
    return int(np.count_nonzero(net > 0)), int(np.count_nonzero(net < 0))


def sign_test(wins: int, losses: int) -> float:
    """Exact two-sided sign test: P(at least as uneven a split) under a fair coin; ties are dropped before.

    1.0 when nothing is left to test.
    """
    from scipy.stats import binomtest

    return float(binomtest(wins, wins + losses).pvalue) if wins + losses else 1.0


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's step-down adjusted p-values (Scandinavian Journal of Statistics 6, 1979), in the order given."""
    count = len(p_values)
    adjusted = [0.0] * count
    largest = 0.0
    for rank, index in enumerate(sorted(range(count), key=lambda i: p_values[i])):
        largest = max(largest, min(1.0, (count - rank) * p_values[index]))
        adjusted[index] = largest
    return adjusted


def false_discovery(p_values: Sequence[float]) -> list[float]:
    """Adjusted p-values of Benjamini and Hochberg (Journal of the Royal Statistical Society B 57, 1995), in the order
    given: of those below q, a share q is chance on average. Holm's instead bounds the chance that any is.
    """
    from scipy.stats import false_discovery_control

    return [float(value) for value in false_discovery_control(p_values)] if p_values else []


def t_interval(values: Sequence[float], confidence: float) -> tuple[float, float] | None:
    """Student interval of the mean of a few seeds; ``None`` for fewer than two values."""
    from scipy.special import stdtrit

    count = len(values)
    if count < 2:
        return None
    sample = np.asarray(values, dtype=np.float64)
    half = float(stdtrit(count - 1, (1.0 + confidence) / 2.0)) * float(sample.std(ddof=1)) / math.sqrt(count)
    return float(sample.mean()) - half, float(sample.mean()) + half
