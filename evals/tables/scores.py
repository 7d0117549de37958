"""``scores.csv``: mean score of every model and of every variant over its seeds."""

from __future__ import annotations

from typing import TYPE_CHECKING

from evals.tables.intervals import estimate
from evals.tables.rows import POOLED, ScoreRow

if TYPE_CHECKING:
    from evals.tables.comparison import Comparison
    from evals.tables.matrices import ScoreMatrices


def score_rows(comparison: Comparison, matrices: ScoreMatrices) -> list[ScoreRow]:
    """One row a model, prompt set and scorer, and one with ``seed`` = ``all`` a variant, prompt set and scorer.

    A single model's interval is over prompts; that of several seeds over seeds and prompts. Sets are not pooled.
    """
    rows = []
    for variant, models in matrices.models.items():
        for prompt_set in comparison.prompt_sets:
            for scorer in comparison.raters(prompt_set):
                values = matrices.values[variant, prompt_set, scorer]
                units, confidence = matrices.units[prompt_set,], comparison.statistics.confidence
                seeds = ["" if model.seed is None else str(model.seed) for model in models]
                cells = [(seed, row[None]) for seed, row in zip(seeds, values, strict=True)] + [(POOLED, values)]
                rows += [
                    ScoreRow(
                        base=models[0].base,
                        variant=variant,
                        objective=models[0].objective or "",
                        safeguard=models[0].safeguard,
                        seed=seed,
                        prompt_set=prompt_set,
                        scorer=scorer,
                        protocol=comparison.scorers[scorer],
                        mean=float(scores.mean()),
                        ci_low=low,
                        ci_high=high,
                        n=scores.size,
                        truncated=matrices.truncated[prompt_set, scorer],
                    )
                    for seed, scores in cells
                    for low, high in (estimate(scores, units).interval(confidence),)
                ]
    return rows
