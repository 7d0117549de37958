"""One comparison of two sides by one scorer: the estimator of a benchmark's tables and of two folders alike."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from artifacts.prompt_text import same
from evals.tables.intervals import Floats, Prompts, estimate, rate
from evals.tables.statistics import preferences, prompt_signs, sign_test


@dataclass(frozen=True)
class WinRate:
    """How often the first side wins; ties count half.

    Wins, ties and losses are of images, hence of (seed, prompt) units where a prompt has one. In ``win_rate`` every
    such unit counts once, as the mean over its images.

    ``p_value`` belongs to the interval, against even odds. ``p_these_models`` is the exact sign test on prompts, which
    takes the models as fixed.
    """

    wins: int
    ties: int
    losses: int
    win_rate: float
    ci_low: float
    ci_high: float
    p_value: float
    p_these_models: float
    n_seeds: int


@dataclass(frozen=True)
class Difference:
    """Mean of the first side's score minus the second's; the extremes are over the means of single seeds.

    ``detectable`` is :meth:`evals.tables.intervals.Estimate.detectable`.
    """

    mean_difference: float
    ci_low: float
    ci_high: float
    p_value: float
    detectable: float
    per_seed_min: float
    per_seed_max: float
    n_prompts: int
    n_texts: int
    n_seeds: int


def prompts_of(sets: Sequence[Iterable[str]]) -> Prompts:
    """What the prompts of one or more sets, side by side, are as units of chance.

    Prompts are equal if :func:`artifacts.prompt_text.same` says so.
    """
    numbers: dict[str, int] = {}
    texts, of_set = [], []
    for number, listed in enumerate(sets):
        for text in listed:
            texts.append(numbers.setdefault(same(text), len(numbers)))
            of_set.append(number)
    return Prompts(np.array(texts, np.int64), np.array(of_set, np.int64))


def compare_scores(difference: Floats, prompts: Prompts, confidence: float) -> Difference:
    """The mean difference.

    Args:
        difference: ``(seeds, prompts)``; one row where nothing was trained.
        prompts: its columns.
        confidence: level of the interval.
    """
    found = estimate(difference, prompts)
    low, high = found.interval(confidence)
    per_seed = difference.mean(axis=1)
    return Difference(
        mean_difference=float(found.mean),
        ci_low=low,
        ci_high=high,
        p_value=float(found.p_value()),
        detectable=float(found.detectable(confidence)),
        per_seed_min=float(per_seed.min()),
        per_seed_max=float(per_seed.max()),
        n_prompts=difference.shape[1],
        n_texts=prompts.units,
        n_seeds=difference.shape[0],
    )


def compare_wins(better: Sequence[Floats], prompts: Prompts, confidence: float) -> WinRate:
    """The win rate by one scorer, or the mean of several scorers' win rates.

    Args:
        better: one ``(seeds, prompts, images)`` a scorer, above zero where the first side is better; not a number where
            a prompt has fewer images. A prompt's outcome is the mean over its images, which are one unit of chance, and
            over the scorers, which are taken jointly.
        prompts: their columns.
        confidence: level of the interval.
    """
    outcomes = np.stack([preferences(values) for values in better])
    outcome = np.nanmean(outcomes, axis=-1).mean(axis=0)
    found = rate(outcome, prompts)
    low, high = found.interval(confidence)
    wins, ties, losses = (int((outcomes == value).sum()) for value in (1.0, 0.5, 0.0))
    return WinRate(
        wins=wins,
        ties=ties,
        losses=losses,
        win_rate=found.share,
        ci_low=low,
        ci_high=high,
        p_value=found.p_value(),
        p_these_models=sign_test(*prompt_signs(outcome - 0.5, prompts)),
        n_seeds=outcome.shape[0],
    )
