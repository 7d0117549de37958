"""Every score of a benchmark, prompt by prompt, and what is missing of it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from artifacts import layout
from artifacts.contracts import read_table

if TYPE_CHECKING:
    import pandas as pd

    from evals.tables.comparison import ComparedModel, Comparison

Scores = NDArray[np.float64]


@dataclass(frozen=True)
class ScoreFiles:
    """Scores in the order of the prompt sets.

    Attributes:
        prompts: of each prompt set, contract ``prompts``.
        images: (model, prompt set, scorer) to scores ``(images, prompts)``, NaN where there is none; without those
            whose file is gone.
        fingerprints: those of each scorer.
        gaps: what is missing, a sentence each.
    """

    prompts: Mapping[str, pd.DataFrame]
    images: Mapping[tuple[str, str, str], Scores]
    fingerprints: Mapping[str, tuple[str, ...]]
    gaps: tuple[str, ...]

    @cached_property
    def values(self) -> Mapping[tuple[str, str, str], Scores]:
        """As ``images``, means over the images of each prompt, ``(prompts,)``; NaN where one of them has none."""
        return {key: found.mean(axis=0) for key, found in self.images.items()}

    def difference(self, comparison: Comparison, a: str, b: str, prompt_set: str, scorer: str) -> Scores:
        """Score of variant ``a`` minus that of ``b``, better ones positive, ``(seeds, prompts)``.

        Seeds are those that both have; a variant that was not trained here meets every seed.
        """
        sign = -1.0 if scorer in comparison.lower_is_better else 1.0
        count = len(self.prompts[prompt_set])
        rows = [
            sign * (self._of(first, prompt_set, scorer, count) - self._of(second, prompt_set, scorer, count))
            for first, second in sides(comparison, a, b)
        ]
        return np.stack(rows) if rows else np.empty((0, count))

    def _of(self, model: ComparedModel, prompt_set: str, scorer: str, count: int) -> Scores:
        found = self.values.get((model.name, prompt_set, scorer))
        return np.full(count, np.nan) if found is None else found


def sides(comparison: Comparison, a: str, b: str) -> Iterator[tuple[ComparedModel, ComparedModel]]:
    """Models of two variants that are compared with one another: of one seed, or any where one side has none."""
    for first in comparison.of_variant(a):
        for second in comparison.of_variant(b):
            if None in (first.seed, second.seed) or first.seed == second.seed:
                yield first, second


def read_score_files(comparison: Comparison) -> ScoreFiles:
    """Read the scores of every model. What is missing is a gap, and no error: the tables have their own rule.

    Raises:
        InputError: a prompt set is missing, or a file that is there is malformed.
    """
    prompts = {name: read_table(layout.prompts(comparison.root, name), "prompts") for name in comparison.prompt_sets}
    images: dict[tuple[str, str, str], Scores] = {}
    fingerprints: dict[str, dict[str, None]] = {scorer: {} for scorer in comparison.scorers}
    gaps = []
    for model in comparison.models:
        for name, table in prompts.items():
            for scorer in comparison.raters(name):
                path = layout.scores(comparison.root, scorer, model.name, name)
                if not path.is_file():
                    gaps.append(
                        f"{path}: gone since the tables were made: no scores of {model.name} by {scorer} on {name}"
                    )
                    continue
                frame = read_table(path, "scores")
                by_image = frame.set_index(["image", "prompt_id"])["score"]
                scores = np.stack(
                    [
                        by_image.reindex([(image, prompt_id) for prompt_id in table["prompt_id"]]).to_numpy(np.float64)
                        for image in range(comparison.images_of(name))
                    ]
                )
                fingerprints[scorer].update(dict.fromkeys(frame["fingerprint"].unique()))
                finite = np.isfinite(scores)
                images[model.name, name, scorer] = np.where(finite, scores, np.nan)
                if missing := int((~finite.all(axis=0)).sum()):
                    gaps.append(f"{path}: no score for {missing} of {len(table)} prompts of {name}")
    return ScoreFiles(prompts, images, {name: tuple(found) for name, found in fingerprints.items()}, tuple(gaps))
