"""Block ``training``: hyperparameters of the training loop."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, create_model

from pipeline.config.block import Block


class Training(Block):
    """Defaults of all variants; a variant's own ``training`` block overrides single keys."""

    steps: int = Field(default=100, ge=1, description="Optimizer steps.")
    batch_size: int = Field(default=16, ge=1, description="Pairs an optimizer step sees.")
    micro_batch_size: int | None = Field(
        default=None,
        ge=1,
        description="Pairs that pass through the denoiser at once, and share a λ under `granularity: microbatch`; left "
        "out, `batch_size`. Published: 8 of 2048.",
    )
    learning_rate: float = Field(default=1e-4, gt=0, description="Learning rate after warm-up; then constant.")
    warmup_steps: int = Field(default=10, ge=0, description="Steps of linear warm-up, at most `steps`.")
    optimizer: Literal["adam", "adamw"] = Field(default="adamw", description="Optimizer.")
    weight_decay: float = Field(default=0.01, ge=0, description="Weight decay, decoupled for `adamw`.")
    max_grad_norm: float = Field(default=1.0, gt=0, description="L2 norm to which the gradient is clipped.")
    empty_prompt_share: float = Field(
        default=0.0, ge=0, le=1, description="Share of pairs trained with the empty prompt instead of their own."
    )
    log_every: int = Field(default=5, ge=1, description="Steps between rows of `training.parquet`.")
    checkpoint_every: int = Field(
        default=50, ge=1, description="Steps between checkpoints, from which a killed run goes on."
    )
    drift_every: int = Field(default=50, ge=1, description="Steps between measurements of the held-out drift.")
    heldout_pairs: int = Field(default=256, ge=1, description="Held-out pairs on which the drift is measured.")
    threads: int = Field(
        default=1, ge=1, description="CPU threads of a training run; results are bit-equal only for equal numbers."
    )


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
    return Training.model_validate(defaults.model_dump() | overrides.model_dump(exclude_unset=True))
