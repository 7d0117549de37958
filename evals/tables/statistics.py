"""Resampling, rates and tests of the comparison tables: numpy in, numbers out, no files.

Intervals of means over seeds and of differences are in :mod:`evals.tables.intervals`. The bootstrap is for the mean of
a single model, whose scores may be skewed: its prompts are resampled.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from evals.tables.intervals import Floats, Integers, Prompts

Counts = NDArray[np.unsignedinteger]

_CHUNK_ELEMENTS = 1 << 20


def labelled_rng(seed: int, *labels: str | int) -> np.random.Generator:
    """A generator that depends on ``seed`` and ``labels`` alone, not on the process or on the order of calls."""
    digest = hashlib.sha256(json.dumps([seed, *labels], ensure_ascii=False).encode("utf-8")).digest()
    return np.random.default_rng(int.from_bytes(digest[:16], "big"))


def resample_counts(items: int, resamples: int, rng: np.random.Generator) -> Counts:
    """How often each item is drawn in each bootstrap resample: ``(resamples, items)``, every row sums to ``items``."""
    if items < 1 or resamples < 1:
        raise ValueError(f"a bootstrap needs at least one item and one resample, not {items} and {resamples}")
    dtype = np.uint16 if items <= np.iinfo(np.uint16).max else np.uint32
    counts = np.empty((resamples, items), dtype)
    step = max(1, _CHUNK_ELEMENTS // items)
    for start in range(0, resamples, step):
        rows = min(step, resamples - start)
        drawn = rng.integers(0, items, size=(rows, items)) + items * np.arange(rows)[:, None]
        counts[start : start + rows] = np.bincount(drawn.ravel(), minlength=rows * items).reshape(rows, items)
    return counts


def resampled_means(values: Floats, prompt_counts: Counts) -> Floats:
    """Mean over prompts of each seed in each resample of the prompts.

    Args:
        values: ``(seeds, prompts)``.
        prompt_counts: ``(resamples, prompts)`` from :func:`resample_counts`; every row sums to ``prompts``.

    Returns:
        ``(seeds, resamples)``.
    """
    seeds, prompts = values.shape
    resamples = prompt_counts.shape[0]
    means = np.empty((seeds, resamples))
    # The counts stay small integers and are widened a chunk at a time: 16 bits a draw instead of 64.
    step = max(1, _CHUNK_ELEMENTS // prompts)
    for start in range(0, resamples, step):
        chunk = prompt_counts[start : start + step].astype(np.float64)
        means[:, start : start + step] = values @ chunk.T
    means /= prompts
    return means


def clustered_means(values: Floats, groups: Integers, resamples: int, rng: np.random.Generator) -> Floats:
    """Bootstrap draws of the mean of ``values`` when whole groups are resampled, e.g. all images of one prompt.

    With groups of one this is the plain bootstrap. A draw is a ratio, the resampled groups' sum by their size.

    Args:
        values: ``(n,)``.
        groups: ``(n,)``, the group of each value, numbered 0, 1, 2, … without a gap.

    Returns:
        ``(resamples,)``.
    """
    sums, sizes = np.bincount(groups, weights=values), np.bincount(groups).astype(np.float64)
    counts = resample_counts(len(sizes), resamples, rng)
    totals = resampled_means(np.stack([sums, sizes]), counts)
    draws: Floats = totals[0] / totals[1]
    return draws


def percentile_interval(draws: Floats, confidence: float) -> tuple[float, float]:
    """Central percentile interval of bootstrap draws.

    Raises:
        ValueError: ``confidence`` is not strictly between 0 and 1.
    """
    if not 0.0 < confidence < 1.0:
        raise ValueError(f"confidence must lie strictly between 0 and 1, not {confidence}")
    low, high = np.quantile(draws, [(1.0 - confidence) / 2.0, (1.0 + confidence) / 2.0])
    return float(low), float(high)


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
