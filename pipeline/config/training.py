"""Block ``training``: hyperparameters of the training loop."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, create_model

from pipeline.config.block import Block


class Lora(Block):
    """Low-rank adapters instead of all weights; the reference is the policy with its adapters off."""

    rank: int = Field(default=16, ge=1, description="Rank of each adapter.")
    alpha: float | None = Field(
        default=None, gt=0, description="Adapters count by `alpha / rank`; left out, `rank`, a factor of 1."
    )
    targets: list[str] = Field(
        default=["to_k", "to_q", "to_v", "to_out.0"],
        min_length=1,
        description="Endings of the names of layers that get one; by default the projections of all attention.",
    )


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
    learning_rate: float = Field(default=1e-4, gt=0, description="Learning rate at the end of warm-up.")
    scale_learning_rate: bool = Field(
        default=False,
        description="Multiply the learning rate by `batch_size`, as the published scripts do (1e-8 × 2048).",
    )
    schedule: Literal["constant", "cosine", "linear"] = Field(
        default="constant", description="Learning rate after warm-up: as it is, or down to 0 at the last step."
    )
    warmup_steps: int = Field(default=10, ge=0, description="Steps of linear warm-up, at most `steps`.")
    optimizer: Literal["adafactor", "adam", "adamw"] = Field(
        default="adamw", description="Optimizer. Published: `adamw` (SD 1.5), `adafactor` (SDXL)."
    )
    weight_decay: float = Field(default=0.01, ge=0, description="Weight decay, decoupled for `adamw`.")
    max_grad_norm: float = Field(default=1.0, gt=0, description="L2 norm to which the gradient is clipped.")
    empty_prompt_share: float = Field(
        default=0.0, ge=0, le=1, description="Share of pairs trained with the empty prompt instead of their own."
    )
    lora: Lora | None = Field(default=None, description="Train adapters; left out, all weights are trained.")
    ema_decay: float | None = Field(
        default=None,
        ge=0,
        lt=1,
        description="Decay of a moving average of the weights, which is then what is exported and whose drift is "
        "measured; left out, the weights themselves.",
    )
    device: Literal["auto", "cpu", "cuda"] = Field(default="auto", description="`auto`: a GPU if there is one.")
    precision: Literal["float32", "bfloat16"] = Field(
        default="float32",
        description="Precision of the denoisers' products and convolutions. Weights, predictions, errors and losses "
        "stay in float32 or better. Published: `bfloat16`.",
    )
    tf32: bool = Field(
        default=False, description="Allow TF32 where the precision is float32, on GPUs that have it. Published: true."
    )
    channels_last: bool = Field(default=False, description="Memory layout of the denoisers; pays on GPUs in bfloat16.")
    compile: bool = Field(default=False, description="Compile the denoisers with `torch.compile`.")
    gradient_checkpointing: bool = Field(
        default=False,
        description="Compute activations again in the backward pass instead of keeping them. Published: SDXL only.",
    )
    log_every: int = Field(default=5, ge=1, description="Steps between rows of `training.parquet`.")
    checkpoint_every: int = Field(
        default=50, ge=1, description="Steps between checkpoints, from which a killed run goes on."
    )
    kept_checkpoints: int = Field(default=2, ge=1, description="How many of the newest checkpoints are kept.")
    keep_state: bool = Field(
        default=False,
        description="Keep the last checkpoint when the model is done: under `schedule: constant` a run with more "
        "`steps` goes on from it.",
    )
    drift_every: int = Field(default=50, ge=1, description="Steps between measurements of the held-out drift.")
    heldout_pairs: int = Field(
        default=256,
        ge=1,
        description="Held-out pairs on which the drift is measured: a sample, the same for every model of a pair set.",
    )
    sample_every: int = Field(
        default=0, ge=0, description="Steps between sample images, in `samples/` of the model's folder; 0 for none."
    )
    sample_prompts: int = Field(
        default=4,
        ge=1,
        description="Held-out prompts that sample images are drawn for: a sample, the same for every model.",
    )
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
