"""Block ``training``: hyperparameters of the training loop."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import Field, create_model

from artifacts.block import Block
from pipeline.config import raw
from pipeline.config.raw import Raw
from sdpo.training.settings import TrainingSettings


class Training(TrainingSettings):
    """Defaults of all variants; a variant's own ``training`` block overrides single keys, of blocks in it too."""


def _overrides() -> type[Block]:
    """:class:`Training` with no key required and no default, so that constraints are written once."""
    fields: dict[str, Any] = {}
    for name, field in Training.model_fields.items():
        annotation: Any = field.annotation
        for constraint in field.metadata:
            annotation = Annotated[annotation, constraint]
        fields[name] = (annotation, Field(default=None, description=field.description))
    return create_model(
        "TrainingOverrides", __base__=Block, __doc__="Keys of `training` that differ for one variant.", **fields
    )


TrainingOverrides = _overrides()


def merged_training(defaults: Training, overrides: Block) -> Training:
    """The settings of one variant: its own keys over the defaults.

    Args:
        overrides: an instance of :data:`TrainingOverrides`.
    """
    return Training.model_validate(_over(defaults.model_dump(), overrides.model_dump(exclude_unset=True)))


def merged_as_read(data: Raw, variant: Raw) -> dict[str, Any]:
    """The settings of a variant of a config as it was read, defaults filled in, whatever their types."""
    return _over(_over(Training().model_dump(), raw.block(data, "training")), raw.block(variant, "training"))


def _over(defaults: Mapping[str, Any], own: Mapping[str, Any]) -> dict[str, Any]:
    """The keys of ``own`` over those of ``defaults``; of what is a block in both, again key by key."""
    merged = {**defaults, **own}
    for key, value in own.items():
        if isinstance(value, Mapping) and isinstance(before := defaults.get(key), Mapping):
            merged[key] = _over(before, value)
    return merged
