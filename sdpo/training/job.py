"""Training: from a job description to the folders of its models."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from sdpo.training import checkpoint
from sdpo.training.run import TrainingRun
from sdpo.training.settings import TrainingSettings
from sdpo.training.sharding import Sharding
from sdpo.training.time_budget import TimeBudget
from sdpo.training.variant_training import SAMPLES, VariantTraining

__all__ = ["TrainingRun", "TrainingSettings", "train", "train_all"]


def train(spec: Mapping[str, Any], budget: TimeBudget | None = None) -> None:
    """Train one variant for each of its seeds; as :func:`train_all`."""
    train_all([spec], budget)


def train_all(
    specs: Sequence[Mapping[str, Any]], budget: TimeBudget | None = None, sharding: Sharding = "replicated"
) -> None:
    """Train variants one after another, each for each of its seeds.

    Until the last model of the job is written, states stay: after an interruption finished models are written again
    from theirs.

    Args:
        specs: one a variant, each a :class:`~sdpo.training.settings.TrainSpec`.
        budget: when to save and leave; never by default.
        sharding: what each process holds of a model.

    Raises:
        InputError: bad settings, or damaged input files.
        StoppedEarly: the budget is used up; the state is saved.
    """
    states = {state: spec for spec in specs for state in _train_variant(spec, budget, sharding)}
    for state, spec in states.items():
        if spec["training"].get("keep_state"):
            continue
        shutil.rmtree(state / SAMPLES, ignore_errors=True)
        checkpoint.remove(state)


def _train_variant(spec: Mapping[str, Any], budget: TimeBudget | None, sharding: Sharding) -> list[Path]:
    """Train one variant for each of its seeds.

    Returns:
        Folders of the states, which the caller removes; none in a process that is not the main one.
    """
    variant = VariantTraining(spec, sharding)
    states = [state for seed in variant.job.seeds for state in variant.train(seed, budget)]
    return states if variant.processes.main else []
