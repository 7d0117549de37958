"""Where a config says otherwise than the tables on disk were made with."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from artifacts.block import checked
from evals.tables.comparison import CompareSpec, Comparison
from pipeline.jobs import Plan

if TYPE_CHECKING:
    from evals.tables.write import Made


def changed(plan: Plan, made: Made) -> list[str]:
    """Keys of the config that differ, of all on which a number of the tables depends; empty if none does."""
    was, now = made.comparison, checked(CompareSpec, plan.compare_spec(), "evals compare").comparison
    keys: list[str] = []
    for key, before, after in (
        ("seeds", _seeds(was), _seeds(now)),
        ("prompt_sets", was.prompt_sets, now.prompt_sets),
        ("scorers", dict(was.scorers), dict(now.scorers)),
        ("scorers", _limits_of(was), _limits_of(now)),
        ("comparisons", was.comparisons, now.comparisons),
        ("prompt_sets", dict(was.apart), dict(now.apart)),
        ("prompt_sets", _several(was, now), _several(now, was)),
        ("generation", made.generation, plan.benchmark.generation.model_dump()),
        ("statistics", was.statistics.model_dump(), now.statistics.model_dump()),
        ("models", _elsewhere(was), _elsewhere(now)),
    ):
        keys += _differing(key, before, after)
    stated = {row: _settings(plan, name, step) for row, (name, step) in plan.compared_variants.items()}
    # Tables say of a training what was measured, too; what was trained before these were recorded is not known.
    told = {row: {k: v for k, v in found.items() if k in stated.get(row, found)} for row, found in made.trained.items()}
    keys += [key for key in _differing("variants", told, stated) if told]
    digests = plan.config_digests() if made.config else {}
    return [*keys, *_blocks(keys, made.config, digests)]


def _blocks(keys: Sequence[str], before: Mapping[str, str], after: Mapping[str, str]) -> Iterator[str]:
    """Blocks of the config that differ and of which no key says so: what is above it, or below."""
    for name in dict.fromkeys((*before, *after)):
        if before.get(name) != after.get(name) and not any(
            f"{key}.".startswith(f"{name}.") or f"{name}.".startswith(f"{key}.") for key in keys
        ):
            yield name


def _differing(key: str, before: Any, after: Any) -> Iterator[str]:
    """The key, or those below it that differ; what only one of them has is named where it stands."""
    if isinstance(before, Mapping) and isinstance(after, Mapping):
        for name in dict.fromkeys((*before, *after)):
            if name in before and name in after:
                yield from _differing(f"{key}.{name}", before[name], after[name])
            else:
                yield f"{key}.{name}"
    elif before != after:
        yield key


def _seeds(comparison: Comparison) -> list[int]:
    return sorted({model.seed for model in comparison.models if model.seed is not None})


def _limits_of(comparison: Comparison) -> dict[str, Any]:
    """Prompt sets of the scorers that do not rate all, by the keys that they stand under."""
    return {f"{scorer}.prompt_sets": sets for scorer, sets in comparison.rated.items()}


def _several(comparison: Comparison, other: Comparison) -> dict[str, int]:
    """Images a prompt of each set that both have, by the keys that they stand under."""
    common = [name for name in comparison.prompt_sets if name in other.prompt_sets]
    return {f"{name}.images_per_prompt": comparison.images_of(name) for name in common}


def _elsewhere(comparison: Comparison) -> dict[str, Any]:
    """Models that nobody trained here, and what the tables say of them."""
    return {model.variant: model.model_dump() for model in comparison.models if model.seed is None}


def _settings(plan: Plan, variant: str, step: int | None) -> dict[str, Any]:
    """What :func:`evals.tables.trainings.trainings` records of a variant at a step, as the config has it."""
    from evals.tables.trainings import SETTINGS

    own, training = plan.variants[variant], plan.training(variant).model_dump()
    return {
        "objective": own.objective,
        "parameters": plan.parameters(variant),
        "safeguard": {} if own.safeguard is None else own.safeguard.model_dump(mode="json"),
        "pairs": own.pairs,
        **{name: training[name] for name in SETTINGS},
        **({} if step is None else {"steps": step}),
    }
