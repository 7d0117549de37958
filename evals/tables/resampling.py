"""Intervals of the mean of a single model: the prompts are resampled."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np

from evals.tables.comparison import Statistics
from evals.tables.intervals import Floats, Prompts
from evals.tables.statistics import labelled_rng, percentile_interval, resample_counts, resampled_means


class Resampling:
    """Resamples of prompts, drawn once a prompt set; prompts of equal text are drawn together.

    The draws depend on the seed, the name of the prompt set and its number of texts, and on nothing else: a new variant
    or scorer leaves every other row as it was.
    """

    def __init__(self, statistics: Statistics, prompts: Mapping[str, Prompts]) -> None:
        self.statistics = statistics
        self._texts = {name: np.unique(found.texts, return_inverse=True)[1] for name, found in prompts.items()}
        self._counts = {
            name: resample_counts(
                found.units, statistics.resamples, labelled_rng(statistics.seed, "prompts", name, found.units)
            )
            for name, found in prompts.items()
        }

    def intervals(self, values: Floats, prompt_set: str) -> list[tuple[float, float]]:
        """Percentile interval of each row's mean over prompts, ``(rows, prompts)``; without ends for a single text."""
        text, counts = self._texts[prompt_set], self._counts[prompt_set]
        if counts.shape[1] == 1:
            return [(-math.inf, math.inf)] * len(values)
        sums = np.stack([np.bincount(text, weights=row) for row in (*values, np.ones(len(text)))]).astype(np.float64)
        totals = resampled_means(sums, counts)
        return [percentile_interval(row, self.statistics.confidence) for row in totals[:-1] / totals[-1]]
