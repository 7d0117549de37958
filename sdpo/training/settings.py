"""Settings of a training run, as the config and the job description state them."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Annotated, Any, Literal

from pydantic import Field

from artifacts.block import BaseBlock, Block, JobSpec, Name, Seed, checked
from artifacts.errors import InputError
from artifacts.validation import known
from sdpo.diffusion.timesteps import UNIFORM, TimestepSettings
from sdpo.training.loggers import names as logger_names

RUN = (
    *("log_every", "drift_every", "sample_every", "sample_prompts", "sample_guidance"),
    *("checkpoint_every", "kept_checkpoints", "keep_state", "loggers", "export_at"),
    *("device", "threads", "gradient_checkpointing"),
)
"""Settings on which no weight depends, but for the rounding of another device or number of threads.

They are about what is noted and kept on the way, and where it is computed. Changing one neither starts a run anew nor
makes a finished model again.
"""


def without_run_settings(training: Mapping[str, Any]) -> dict[str, Any]:
    """The settings of a training but for :data:`RUN`."""
    return {key: value for key, value in training.items() if key not in RUN}


def shaping(training: Mapping[str, Any]) -> dict[str, Any]:
    """What of the settings shapes a run up to any of its steps.

    The number of steps only where the learning rate depends on it: under a constant one a longer run goes on from the
    state of a shorter one.
    """
    found = without_run_settings(training)
    if training.get("schedule", "constant") == "constant":
        found.pop("steps", None)
    return found


class LoraSettings(Block):
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


class TrainingSettings(Block):
    """Hyperparameters of the loop; one optimizer step sees ``batch_size`` pairs, in all processes together."""

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
    optimizer: Literal["adafactor", "adam", "adamw", "adamw_8bit"] = Field(
        default="adamw",
        description="Optimizer. Published: `adamw` (SD 1.5), `adafactor` (SDXL). `adamw_8bit` keeps AdamW's moments in "
        "8 bits and needs the extra `adamw-8bit`.",
    )
    weight_decay: float = Field(default=0.01, ge=0, description="Weight decay, decoupled for all but `adam`.")
    max_grad_norm: float = Field(default=1.0, gt=0, description="L2 norm to which the gradient is clipped.")
    empty_prompt_share: float = Field(
        default=0.0, ge=0, le=1, description="Share of pairs trained with the empty prompt instead of their own."
    )
    timesteps: TimestepSettings = Field(default=UNIFORM, description="Which timesteps are drawn.")
    embedded_guidance: float | None = Field(
        default=None,
        ge=0,
        description="What a denoiser that is told the guidance (FLUX dev) is told in training; left out, 3.5, our "
        "choice: the library's default for drawing.",
    )
    lora: LoraSettings | None = Field(default=None, description="Train adapters; left out, all weights are trained.")
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
    export_at: list[Annotated[int, Field(ge=1)]] = Field(
        default=[],
        description="Steps before the last whose models are written, drawn, scored and compared too, as "
        "`<variant>@<step>`.",
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
    sample_guidance: float = Field(
        default=7.5,
        ge=1,
        description="Guidance scale of sample images; 1 is none, for a denoiser that is told the guidance (FLUX dev).",
    )
    loggers: list[Annotated[str, known("logger", logger_names)]] = Field(
        default=[],
        description="Where the rows of the log go too while a training goes on: `mlflow` to the server that the "
        "environment variable MLFLOW_TRACKING_URI names, or a plug-in's.",
    )
    threads: int = Field(
        default=1, ge=1, description="CPU threads of a training run; results are bit-equal only for equal numbers."
    )

    @property
    def exports(self) -> list[int]:
        """Steps of :attr:`export_at` before the last, each once, in order."""
        return sorted({step for step in self.export_at if step < self.steps})

    def refuse_all_but(self, owner: str, names: Collection[str], instead: Mapping[str, str]) -> None:
        """Refuse settings that a trainer of its own does not have.

        Args:
            owner: the trainer, as in ``base family 'x'``.
            names: settings that it has; all others have to stay at their defaults, those of later releases too.
            instead: what to do in place of one that it does not have.

        Raises:
            InputError: one of them does not.
        """
        for name, field in type(self).model_fields.items():
            if name not in names and getattr(self, name) != field.default:
                raise InputError(
                    f"training.{name} is {getattr(self, name)!r}, which {owner} does not have; leave it out"
                    f"{instead.get(name, '')}"
                )


class ObjectiveBlock(Block):
    """The training loss."""

    name: str = Field(description="Objective.")
    parameters: dict[str, Any] = Field(default={}, description="Its hyperparameters.")
    safeguard: dict[str, Any] | None = Field(default=None, description="Settings of the safeguard; null is off.")


class TrainSpec(JobSpec):
    """The job description of ``sdpo train`` for one variant."""

    base: BaseBlock = Field(description="What training starts from.")
    pairs: str = Field(description="Folder of the pair cache.")
    variant: Name = Field(description="Name of the variant.")
    objective: ObjectiveBlock = Field(description="The training loss.")
    training: TrainingSettings = Field(description="Hyperparameters of the loop.")
    root: str = Field(description="Folder of the benchmark, `results/<benchmark>`.")
    seeds: Annotated[list[Seed], Field(min_length=1)] = Field(description="A model is trained for each.")


class JointTrainSpec(JobSpec):
    """The job description of ``sdpo train`` for several variants."""

    together: Annotated[list[TrainSpec], Field(min_length=1)] = Field(description="Descriptions of one variant each.")


def parts(spec: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """The description of each variant of a job of ``sdpo train``, as it was given.

    Raises:
        InputError: it is neither a :class:`TrainSpec` nor a :class:`JointTrainSpec`.
    """
    together = "together" in spec
    checked(JointTrainSpec if together else TrainSpec, spec, "sdpo train")
    return list(spec["together"]) if together else [spec]
