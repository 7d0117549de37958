"""Block ``variants``: an objective with its hyperparameters and its safeguard."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any

from pydantic import Field, SerializeAsAny, field_validator

from artifacts.block import Block, Name
from artifacts.validation import known
from pipeline.config import registries
from pipeline.config.training import TrainingOverrides
from sdpo.safeguard import Safeguard

BASELINE_KEYS = ("objective", "parameters", "pairs", "training")
"""What a safeguarded variant has in common with its baseline."""


class Variant(Block):
    """One row of the table: trained once for each seed."""

    name: Name = Field(description="Name in paths and tables; not `base`, which is the untrained base.")
    objective: Annotated[str, known("objective", registries.objectives)] = Field(description="The training loss.")
    parameters: dict[str, Any] = Field(
        default_factory=dict, description="Hyperparameters of the objective, listed below by objective."
    )
    safeguard: Safeguard | None = Field(
        default=None, description="The SDPO scaling of the loser's gradient; left out, it is off."
    )
    pairs: str = Field(description="Data set of `pairs` to train on.")
    training: SerializeAsAny[TrainingOverrides] = Field(  # type: ignore[valid-type]
        default_factory=TrainingOverrides, description="Keys of `training` that differ for this variant."
    )
    baseline: str | None = Field(
        default=None,
        description="Variant without safeguard that this one is compared with; needed only where no variant, or "
        "more than one, is equal but for name and safeguard. Any other two are compared by `comparisons`.",
    )

    @field_validator("safeguard", mode="before")
    @classmethod
    def _mapping(cls, value: Any) -> Any:
        # `safeguard: on` would otherwise be reported in terms of Python.
        if value is None or isinstance(value, Mapping | Safeguard):
            return value
        raise ValueError("expected keys with values, of which mu is needed (`safeguard: {mu: 0.9}`), or nothing")


def baselines(name: str, settings: Sequence[Mapping[str, Any]]) -> list[str]:
    """Names of the variants that could be the baseline of the safeguarded variant ``name``.

    Args:
        settings: all variants, each with ``name``, ``safeguard`` and :data:`BASELINE_KEYS`, defaults filled in.
    """
    (own,) = (s for s in settings if s["name"] == name)
    return [s["name"] for s in settings if s["safeguard"] is None and all(s[key] == own[key] for key in BASELINE_KEYS)]
