"""Score against guidance: one prompt set drawn under several guidance scales."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from evals.report.curves import Curve, over_seeds
from evals.tables.main_table import row_order
from evals.tables.rows import POOLED

if TYPE_CHECKING:
    from evals.tables.comparison import Comparison
    from evals.tables.rows import ScoreRow


@dataclass(frozen=True)
class GuidanceLine:
    """Mean score of one variant by guidance scale, over seeds where it was trained."""

    variant: str
    safeguard: bool
    trained: bool
    curve: Curve


@dataclass(frozen=True)
class Panel:
    """Mean score of each variant by guidance scale.

    Attributes:
        prompt_set: whose prompts were drawn.
        scorer: that rated them.
        lines: in the order of the main table.
    """

    prompt_set: str
    scorer: str
    lines: tuple[GuidanceLine, ...]


def guidance_panels(comparison: Comparison, scores: Sequence[ScoreRow], guidance_scale: float) -> tuple[Panel, ...]:
    """A panel for each judging scorer and each prompt set that is drawn under two guidance scales at least.

    Args:
        comparison: what is compared.
        scores: rows of ``scores.csv``.
        guidance_scale: of the prompt sets without settings of their own.
    """
    drawn: dict[str, dict[str, float]] = {name: {name: guidance_scale} for name in comparison.pooled}
    for name, own in comparison.apart.items():
        # One factor at a time: a set that differs in more is no point of this curve.
        if own.shows in drawn and set(own.generation.model_dump(exclude_none=True)) == {"guidance_scale"}:
            drawn[own.shows][name] = float(own.generation.guidance_scale or 0.0)
    means = {(r.variant, r.seed, r.prompt_set, r.scorer): r.mean for r in scores if r.seed != POOLED}
    seeds: dict[str, dict[str, None]] = {}
    for variant, seed, _, _ in means:
        seeds.setdefault(variant, {})[seed] = None
    panels = []
    for shown, sets in drawn.items():
        if len(sets) < 2:
            continue
        for scorer in comparison.judges:
            if any(scorer not in comparison.raters(name) for name in sets):
                continue
            lines = []
            for variant in row_order(comparison):
                of_seeds = [
                    tuple((scale, means[variant, seed, name, scorer]) for name, scale in sets.items())
                    for seed in seeds[variant]
                ]
                first = comparison.of_variant(variant)[0]
                lines.append(GuidanceLine(variant, first.safeguard, first.trained, over_seeds(of_seeds)))
            panels.append(Panel(shown, scorer, tuple(lines)))
    return tuple(panels)
