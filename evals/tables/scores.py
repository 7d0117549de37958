"""``scores.csv``: mean score of every model and of every variant over its seeds."""

from __future__ import annotations

from typing import TYPE_CHECKING

from evals.tables.intervals import estimate
from evals.tables.rows import POOLED, ScoreRow, significant

if TYPE_CHECKING:
    from evals.tables.comparison import Comparison
    from evals.tables.matrices import ScoreMatrices
    from evals.tables.resampling import Resampling


def score_rows(comparison: Comparison, matrices: ScoreMatrices, resampling: Resampling) -> list[ScoreRow]:
    """One row a model, prompt set and scorer, and one with ``seed`` = ``all`` a variant, prompt set and scorer.

    A single model's interval resamples prompts; that of several seeds is over seeds and prompts. Prompt sets are not
    pooled.
    """
    rows = []
    for variant, models in matrices.models.items():
        for prompt_set in comparison.prompt_sets:
            for scorer in comparison.raters(prompt_set):
                values = matrices.values[variant, prompt_set, scorer]
                intervals = resampling.intervals(values, prompt_set)
                cells = [
                    ("" if model.seed is None else str(model.seed), scores, interval)
                    for model, scores, interval in zip(models, values, intervals, strict=True)
                ]
                several = len(values) > 1
                pooled = estimate(values, matrices.units[prompt_set,]).interval(comparison.statistics.confidence)
                cells.append((POOLED, values, pooled if several else intervals[0]))
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
                        mean=significant(float(scores.mean())),
                        ci_low=significant(low),
                        ci_high=significant(high),
                        n=scores.size,
                        truncated=matrices.truncated[prompt_set, scorer],
                    )
                    for seed, scores, (low, high) in cells
                ]
    return rows
