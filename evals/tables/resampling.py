"""The bootstrap resamples that all cells of a benchmark share."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache

import numpy as np

from evals.comparison import Statistics
from evals.statistics import (
    Counts,
    Floats,
    crossed_means,
    labelled_rng,
    percentile_interval,
    resample_counts,
    resampled_means,
)
from evals.tables.rows import POOLED


class Resampling:
    """Resamples of prompts and seeds, drawn once a prompt set.

    The draws depend on the benchmark's seed, the name and size of the prompt set and the number of seeds, and on
    nothing else: a new variant or scorer leaves every other row as it was, and all variants of a prompt set meet
    the same resamples. The pooled set resamples within each prompt set, which are fixed.
    """

    def __init__(self, statistics: Statistics, prompts: Mapping[str, int]) -> None:
        self.statistics = statistics
        self._prompt_counts: dict[str, Counts] = {
            name: resample_counts(size, statistics.resamples, labelled_rng(statistics.seed, "prompts", name, size))
            for name, size in prompts.items()
        }
        self._prompt_counts[POOLED] = np.concatenate(list(self._prompt_counts.values()), axis=1)
        self._seed_counts = lru_cache(maxsize=None)(self._draw_seeds)

    def _draw_seeds(self, prompt_set: str, seeds: int) -> Counts:
        rng = labelled_rng(self.statistics.seed, "seeds", prompt_set, seeds)
        return resample_counts(seeds, self.statistics.resamples, rng)

    def seed_means(self, values: Floats, prompt_set: str) -> Floats:
        """Resampled means of each seed: ``(seeds, prompts)`` to ``(seeds, resamples)``."""
        return resampled_means(values, self._prompt_counts[prompt_set])

    def prompt_interval(self, draws: Floats) -> tuple[float, float]:
        """Interval over prompts for one seed's row of :meth:`seed_means`."""
        return percentile_interval(draws, self.statistics.confidence)

    def crossed_interval(self, seed_means: Floats, prompt_set: str) -> tuple[float, float]:
        """Interval over prompts and seeds from :meth:`seed_means`."""
        counts = self._seed_counts(prompt_set, seed_means.shape[0])
        return percentile_interval(crossed_means(seed_means, counts), self.statistics.confidence)


def pooled(matrices: Sequence[Floats]) -> Floats:
    """Matrices of all prompt sets side by side, in the order of the resampling."""
    return np.concatenate(matrices, axis=1)
