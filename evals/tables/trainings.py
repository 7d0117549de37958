"""How each variant was trained, from the provenance of its models: what a table must name beside its numbers."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from artifacts import layout
from artifacts.errors import InputError

if TYPE_CHECKING:
    from evals.tables.comparison import Comparison

SETTINGS = ("steps", "batch_size", "learning_rate")
"""Settings of a training that are shown; the rest stands in the provenance."""
FIRST = ("mu", "granularity")
"""Settings of the safeguard without which a result does not say what it is of."""


def trainings(comparison: Comparison) -> dict[str, dict[str, Any]]:
    """Objective, its parameters, safeguard, label noise and main settings of each trained variant, by its first model.

    A model without provenance, which no job of a benchmark leaves behind, is left out.

    Raises:
        InputError: a provenance file is not readable JSON.
    """
    found = {}
    for variant in comparison.variants:
        model = comparison.of_variant(variant)[0]
        path = layout.model(comparison.root, model.name) / "provenance.json"
        if not model.trained or not path.is_file():
            continue
        try:
            provenance = json.loads(path.read_text(encoding="utf-8"))
            spec = provenance["spec"]
            objective, training = _mapping(spec.get("objective")), _mapping(spec.get("training"))
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise InputError(
                f"{path}: not a readable provenance ({error!r}); delete the model's folder and run snakemake again"
            ) from error
        found[variant] = {
            "objective": objective.get("name", model.objective),
            "parameters": dict(_mapping(objective.get("parameters"))),
            "safeguard": dict(_mapping(objective.get("safeguard"))),
            "pairs": model.pairs,
            **({"flipped": provenance["flipped"]} if provenance.get("flipped") else {}),
            **{name: training[name] for name in SETTINGS if name in training},
            **({} if model.step is None else {"steps": model.step}),
        }
    return found


def in_words(values: Mapping[str, Any]) -> str:
    """``mu 0.9, granularity pair``: slack and granularity first, and nothing that is off."""
    on = [name for name, value in values.items() if value not in (None, "none", 0, False)]
    shown = dict.fromkeys([*(name for name in FIRST if name in values), *on])
    return ", ".join(f"{name} {_number(values[name])}" for name in shown)


def _number(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}
