"""Intervals and p-values of a mean over training seeds and prompts, that hold at two to five seeds.

Scores of one variant, or differences between two, form a matrix of S seeds by P prompts. Seeds and prompts are both
samples: another training seed or another prompt would have given another number. The mean's variance has two parts:

- seeds: the variance of the seeds' means over S. It holds what neither the seed nor the prompt explains, too.
- prompts: the variance of the prompts' means over P, less the share of that unexplained rest.

An interval's half width is the square root of (t[S - 1]² · seeds + t[P - 1]² · prompts): each part has the quantile of
its own degrees of freedom, so that few seeds are paid for where seeds matter and nowhere else. Banerjee (Sankhyā 22,
1960) shows that for independent parts such an interval covers at least as often as it says; Satterthwaite's
approximation, which is narrower, does not at two and three seeds. A p-value is the level at which the interval's edge
meets the null value. docs/statistics.md has the coverage.

A single row (one seed, or no training) has no seeds' part: its interval is over prompts and says nothing of training
again. Prompts of equal text are one unit, and prompt sets that are pooled are fixed: prompts vary within them. Where
nothing varies, nothing says how much others would differ, and the interval has no ends.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from evals.tables.rows import POWER

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]

# Smaller p-values, below 1e-148, are given as 0.
_LAST = 26.0
ALIKE = 1e-12
"""Values this near to each other, by their size, differ by rounding alone."""


@dataclass(frozen=True)
class Prompts:
    """Which columns of a matrix are one unit of chance.

    Attributes:
        texts: (P,) a number for each prompt's text; equal numbers move together.
        sets: (P,) the prompt set of each prompt, 0, 1, 2, … without a gap.
    """

    texts: Integers
    sets: Integers

    @classmethod
    def separate(cls, count: int) -> Prompts:
        """Prompts of one set that all differ."""
        return cls(np.arange(count), np.zeros(count, np.int64))

    @cached_property
    def units(self) -> int:
        """Different texts."""
        return len(np.unique(self.texts))

    def of(self, columns: Integers) -> Prompts:
        """Some of the prompts, by their columns."""
        _, sets = np.unique(self.sets[columns], return_inverse=True)
        return Prompts(self.texts[columns], sets)

    def with_others(self, count: int) -> Prompts:
        """With ``count`` more different prompts in each set, at the end."""
        sets = np.repeat(np.arange(int(self.sets.max()) + 1), count)
        texts = np.arange(len(sets)) + int(self.texts.max()) + 1
        return Prompts(np.concatenate([self.texts, texts]), np.concatenate([self.sets, sets]))


@dataclass(frozen=True)
class Estimate:
    """A mean with the two parts of its variance; all arrays have the shape of the means.

    Attributes:
        mean: on its own scale.
        seeds, prompts: variance of the mean that comes from seeds (0 of a single row) and from prompts (infinite
            where there is but one, and where nothing varies).
        seeds_df, prompts_df: their degrees of freedom; ``seeds_df`` is 0 of a single row.
    """

    mean: Floats
    seeds: Floats
    prompts: Floats
    seeds_df: int
    prompts_df: float

    def half_width(self, confidence: float) -> Floats:
        """Half the width of the interval.

        Raises:
            ValueError: ``confidence`` is not strictly between 0 and 1.
        """
        if not 0.0 < confidence < 1.0:
            raise ValueError(f"confidence must lie strictly between 0 and 1, not {confidence}")
        return self._half_width(np.full(np.shape(self.mean), (1.0 - confidence) / 2.0))

    def interval(self, confidence: float) -> tuple[float, float]:
        """Interval of a single mean."""
        half = float(self.half_width(confidence))
        return float(self.mean) - half, float(self.mean) + half

    def detectable(self, confidence: float, power: float = POWER) -> Floats:
        """The least true mean whose interval excludes zero in a share ``power`` of samples like this one.

        Of a mean with one part it is (t[(1 + confidence) / 2] + t[power]) standard errors, each quantile that of the
        part's degrees of freedom; of one with two, each quantile combines them as it does in the interval.
        """
        return self.half_width(confidence) + self._half_width(np.full(np.shape(self.mean), 1.0 - power))

    def p_value(self, null: float = 0.0) -> Floats:
        """Two-sided: one minus the level at which the interval's edge meets ``null``."""
        from scipy.special import ndtr

        distance = np.abs(self.mean - null)
        # Tails by their normal quantile; the half width falls with the quantile.
        low, high = np.zeros(np.shape(distance)), np.full(np.shape(distance), _LAST)
        for _ in range(60):
            middle = (low + high) / 2
            inside = self._half_width(ndtr(-middle)) < distance
            low, high = np.where(inside, middle, low), np.where(inside, high, middle)
        beyond = self._half_width(ndtr(np.full(np.shape(distance), -_LAST))) < distance
        p: Floats = np.where(beyond, 0.0, 2.0 * ndtr(-low))
        return p

    def _half_width(self, tail: Any) -> Floats:
        """Half the width of an interval that leaves ``tail`` on each side."""
        from scipy.special import stdtrit

        half: Floats = np.where(np.isinf(self.prompts), np.inf, 0.0)
        for variance, freedom in ((self.seeds, self.seeds_df), (self.prompts, self.prompts_df)):
            if freedom > 0:
                half = np.hypot(half, stdtrit(freedom, tail) * np.sqrt(np.where(np.isinf(variance), 0.0, variance)))
        return half


@dataclass(frozen=True)
class Rate:
    """A share with its estimate on the scale of log odds, where intervals stay between 0 and 1."""

    share: float
    log_odds: Estimate

    def interval(self, confidence: float) -> tuple[float, float]:
        """Interval of the share; it holds the share itself."""
        from scipy.special import expit

        low, high = (float(expit(end)) for end in self.log_odds.interval(confidence))
        return min(low, self.share), max(high, self.share)

    def p_value(self) -> float:
        """Two-sided, against even odds."""
        return float(self.log_odds.p_value(0.0))


def estimate(values: Floats, prompts: Prompts | None = None) -> Estimate:
    """The mean of a matrix and what it varies by.

    Args:
        values: ``(…, seeds, prompts)``; leading axes are matrices of their own.
        prompts: what the columns are; left out, different prompts of one set.
    """
    rows = values.mean(axis=-1)
    seeds = rows.shape[-1]
    between = rows.var(axis=-1, ddof=1) / seeds if seeds > 1 else np.zeros(rows.shape[:-1])
    within, freedom = _prompts_part(values, prompts or Prompts.separate(values.shape[-1]))
    return Estimate(rows.mean(axis=-1), between, within, seeds - 1, freedom)


def rate(outcomes: Floats, prompts: Prompts | None = None) -> Rate:
    """The share of a matrix of outcomes (1 won, 0.5 tied, 0 lost, or means of these)."""
    return Rate(float(outcomes.mean()), log_odds(outcomes, prompts))


def log_odds(outcomes: Floats, prompts: Prompts | None = None) -> Estimate:
    """Log odds of a share, by the delta method.

    Each set counts two more prompts that are won and two that are lost (Agresti and Coull, The American Statistician
    52, 1998): a few unanimous prompts are no certainty.

    Args:
        outcomes: ``(…, seeds, prompts)`` in [0, 1].
        prompts: as in :func:`estimate`.
    """
    prompts = prompts or Prompts.separate(outcomes.shape[-1])
    more = prompts.with_others(4)
    added = np.tile([0.0, 0.0, 1.0, 1.0], (len(more.sets) - len(prompts.sets)) // 4)
    padded = np.concatenate([outcomes, np.broadcast_to(added, (*outcomes.shape[:-1], len(added)))], axis=-1)
    plain, cautious = estimate(outcomes, prompts), estimate(padded, more)
    share = cautious.mean
    slope = (1.0 / (share * (1.0 - share))) ** 2
    return Estimate(
        np.log(share / (1.0 - share)),
        plain.seeds * slope,
        cautious.prompts * slope,
        cautious.seeds_df,
        cautious.prompts_df,
    )


def _prompts_part(values: Floats, prompts: Prompts) -> tuple[Floats, float]:
    """Variance of the mean that comes from prompts, and its degrees of freedom.

    A text's share in the variance is the square of the sum of its prompts' deviations from their set's mean, divided
    by what such a square would be on average were the texts' means equally uncertain; for texts of one prompt that is
    the usual 1 - 1/P.
    """
    count, seeds = values.shape[-1], values.shape[-2]
    _, text = np.unique(prompts.texts, return_inverse=True)
    sets = _strata(prompts.sets, text)
    sizes = np.bincount(text).astype(np.float64)
    deviations, expected = np.empty_like(values), np.full(len(sizes), np.inf)
    for columns in sets:
        deviations[..., columns] = values[..., columns] - values[..., columns].mean(axis=-1, keepdims=True)
        share = np.bincount(text[columns], minlength=len(sizes)) / len(columns)
        average = 1.0 - 2.0 * share + (share**2).sum()
        expected = np.where(share > 0.0, np.minimum(expected, average), expected)
    if (expected < 1e-12).any():
        # One text: nothing says how others would have done.
        return np.full(values.shape[:-2], np.inf), 1.0
    sums = _sums(deviations, text, len(sizes))
    of_text = sums.mean(axis=-2)
    total = (of_text**2 / expected).sum(axis=-1) / count**2
    if seeds > 1:
        rest = ((sums - of_text[..., None, :]) ** 2 / expected).sum(axis=(-1, -2)) / (count**2 * seeds * (seeds - 1))
        total = np.maximum(total - rest, 0.0)
    # Nor where seeds and prompts all did the same: a scorer too coarse to tell them apart is no certainty.
    spread = np.max([np.ptp(values[..., columns], axis=(-1, -2)) for columns in sets], axis=0)
    total = np.where(spread <= ALIKE * np.abs(values).max(axis=(-1, -2)), np.inf, total)
    weight = (sizes / count) ** 2 / expected
    return total, max(1.0, float(weight.sum() ** 2 / (weight**2).sum()) - len(sets))


def _strata(sets: Integers, text: Integers) -> list[Integers]:
    """Columns of each set; one of a single text, which has no spread of its own, joins the smallest other."""
    strata = [np.flatnonzero(sets == name) for name in range(int(sets.max()) + 1)]

    def texts(columns: Integers) -> int:
        return len(np.unique(text[columns]))

    while len(strata) > 1:
        strata.sort(key=texts)
        if texts(strata[0]) > 1:
            break
        strata[:2] = [np.concatenate(strata[:2])]
    return strata


def _sums(values: Floats, text: Integers, count: int) -> Floats:
    """Sums over the prompts of each text: ``(…, prompts)`` to ``(…, texts)``."""
    if count == values.shape[-1]:
        return values
    order = np.argsort(text, kind="stable")
    starts = np.searchsorted(text[order], np.arange(count))
    sums: Floats = np.add.reduceat(values[..., order], starts, axis=-1)
    return sums
