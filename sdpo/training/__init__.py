"""Training: from job descriptions to the folders of trained models."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from artifacts.block import checked
from artifacts.errors import InputError
from sdpo import bases
from sdpo.training.settings import TrainSpec

if TYPE_CHECKING:
    from sdpo.training.sharding import Sharding
    from sdpo.training.time_budget import TimeBudget


def train_together(
    specs: Sequence[Mapping[str, Any]], budget: TimeBudget | None = None, sharding: Sharding = "replicated"
) -> None:
    """Train variants of one base: at once if its family can, else one after another.

    Args:
        specs: one a variant, each a :class:`sdpo.training.settings.TrainSpec`.
        budget: when to save and leave; a family's own training does not know it.
        sharding: what each of several processes holds of a model.

    Raises:
        InputError: unknown family, bad settings, or damaged input files.
        StoppedEarly: the budget is used up; the state is saved.
    """
    for spec in specs:
        checked(TrainSpec, spec, "sdpo train")
    family = specs[0]["base"]["family"]
    own = getattr(bases.REGISTRY.load(family), "train", None)
    if own is not None:
        from sdpo.training.processes import join

        if join("cpu").count > 1:
            raise InputError(f"base family '{family}' trains in one process; leave execution.processes out")
        own(specs)
        return
    from sdpo.training.job import train_all

    train_all(specs, budget, sharding)
