"""Score against guidance: one prompt set drawn under several guidance scales."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from evals.report.curves import Curve, over_seeds
from evals.tables.main_table import row_order
from evals.tables.rows import POOLED

if TYPE_CHECKING:
    from evals.generation.settings import SamplingSettings
    from evals.tables.comparison import ApartSet, Comparison
    from evals.tables.rows import ScoreRow

_FACTOR = "guidance_scale"


@dataclass(frozen=True)
class GuidanceLine:
    """Mean score of one variant by guidance in effect, over seeds where it was trained."""

    variant: str
    safeguard: bool
    trained: bool
    curve: Curve


@dataclass(frozen=True)
class Panel:
    """Mean score of each variant by guidance in effect.

    Attributes:
        prompt_set: whose prompts were drawn.
        scorer: that rated them.
        lines: in the order of the main table.
    """

    prompt_set: str
    scorer: str
    lines: tuple[GuidanceLine, ...]


def guided(
    apart: Mapping[str, ApartSet], rated: Mapping[str, Collection[str]]
) -> dict[tuple[str, str], tuple[str, ...]]:
    """Prompt sets of each curve, by the set whose prompts they have and by scorer.

    One factor at a time: a set that differs in more than the guidance is no point of a curve.

    Args:
        apart: prompt sets that are drawn under settings of their own.
        rated: prompt sets that each judging scorer rates.
    """
    groups: dict[str, list[str]] = {}
    for name, own in apart.items():
        if own.shows and own.shows not in apart and set(own.generation.model_dump(exclude_none=True)) == {_FACTOR}:
            groups.setdefault(own.shows, [own.shows]).append(name)
    return {
        (shown, scorer): tuple(sets)
        for shown, sets in groups.items()
        for scorer, known in rated.items()
        if set(sets) <= set(known)
    }


def guidance_panels(
    comparison: Comparison, scores: Sequence[ScoreRow], generation: SamplingSettings
) -> tuple[Panel, ...]:
    """A panel for each judging scorer and each prompt set that is drawn under two guidance scales at least.

    Args:
        comparison: what is compared.
        scores: rows of ``scores.csv``.
        generation: how the prompt sets without settings of their own are drawn.
    """
    usual = generation.effective_guidance
    own = {name: apart.generation.of(generation).effective_guidance for name, apart in comparison.apart.items()}
    rated = {scorer: comparison.sets_of(scorer) for scorer in comparison.judges}
    means = {(r.variant, r.seed, r.prompt_set, r.scorer): r.mean for r in scores if r.seed != POOLED}
    seeds: dict[str, dict[str, None]] = {}
    for variant, seed, _, _ in means:
        seeds.setdefault(variant, {})[seed] = None
    panels = []
    for (shown, scorer), sets in guided(comparison.apart, rated).items():
        lines = []
        for variant in row_order(comparison):
            of_seeds = [
                tuple((own.get(name, usual), means[variant, seed, name, scorer]) for name in sets)
                for seed in seeds[variant]
            ]
            first = comparison.of_variant(variant)[0]
            lines.append(GuidanceLine(variant, first.safeguard, first.trained, over_seeds(of_seeds)))
        panels.append(Panel(shown, scorer, tuple(lines)))
    return tuple(panels)
