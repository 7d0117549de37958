"""Settings of a training run, as the job description has them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from artifacts.errors import InputError

RUN = (
    *("log_every", "drift_every", "sample_every", "sample_prompts"),
    *("checkpoint_every", "kept_checkpoints", "keep_state"),
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
        del found["steps"]
    return found


@dataclass(frozen=True)
class LoraSettings:
    """Low-rank adapters ``W + (alpha / rank)·B·A`` on some linear layers of the denoiser.

    Attributes:
        alpha: ``None`` for ``rank``, a factor of 1.
        targets: endings of module names, such as ``to_q``.
    """

    rank: int = 16
    alpha: float | None = None
    targets: tuple[str, ...] = ("to_k", "to_q", "to_v", "to_out.0")


@dataclass(frozen=True)
class TrainingSettings:
    """Hyperparameters of the loop; one optimizer step sees ``batch_size`` pairs, in all processes together.

    Attributes:
        micro_batch_size: pairs that pass through the denoiser at once; ``None`` for all that a process has.
        learning_rate: after ``warmup_steps`` of linear warm-up it follows ``schedule``.
        scale_learning_rate: multiply the learning rate by ``batch_size``.
        schedule: ``constant``, or ``linear`` or ``cosine`` down to 0 at the last step.
        optimizer: ``adamw``, ``adam`` or ``adafactor``.
        max_grad_norm: L2 norm to which gradients are clipped.
        empty_prompt_share: share of pairs whose prompt is replaced by the empty one.
        lora: train adapters instead of all weights; a mapping of the fields of :class:`LoraSettings` will do.
        ema_decay: export a moving average of the weights with this decay; ``None`` for the weights themselves.
        device: ``auto`` for a GPU if there is one, ``cpu`` or ``cuda``.
        precision: ``float32``, or ``bfloat16`` for the denoiser by autocast; errors and losses are never in it.
        tf32: allow TF32 in products of fp32 matrices and in convolutions, on GPUs that have it.
        channels_last: memory layout of the denoiser and of what goes into it.
        compile: compile the denoiser with ``torch.compile``.
        gradient_checkpointing: compute activations a second time instead of keeping them.
        log_every, checkpoint_every, drift_every: in optimizer steps.
        kept_checkpoints: how many of the newest checkpoints stay.
        keep_state: the last one stays when the model is done, so that a longer run can go on from it.
        sample_every: steps between sample images; 0 for none.
        sample_prompts: held-out prompts that are drawn.
        heldout_pairs: at most so many held-out pairs, drawn at random, measure the drift.
        threads: torch threads; results are bit-equal only for equal numbers.
    """

    steps: int
    batch_size: int
    learning_rate: float
    warmup_steps: int
    optimizer: str
    weight_decay: float
    max_grad_norm: float
    empty_prompt_share: float
    log_every: int
    checkpoint_every: int
    drift_every: int
    heldout_pairs: int
    threads: int = 1
    micro_batch_size: int | None = None
    scale_learning_rate: bool = False
    schedule: str = "constant"
    lora: LoraSettings | None = None
    ema_decay: float | None = None
    device: str = "auto"
    precision: str = "float32"
    tf32: bool = False
    channels_last: bool = False
    compile: bool = False
    gradient_checkpointing: bool = False
    kept_checkpoints: int = 2
    keep_state: bool = False
    sample_every: int = 0
    sample_prompts: int = 4

    def __post_init__(self) -> None:
        if isinstance(self.lora, Mapping):
            given = dict(self.lora)
            if "targets" in given:
                given["targets"] = tuple(given["targets"])
            object.__setattr__(self, "lora", LoraSettings(**given))

    def refuse(self, owner: str, *names: str) -> None:
        """Refuse settings that a trainer of its own does not have.

        Args:
            owner: the trainer, as in ``base family 'x'``.
            names: settings that have to stay at their defaults.

        Raises:
            InputError: one of them does not.
        """
        defaults: dict[str, Any] = {field.name: field.default for field in fields(self)}
        for name in names:
            if getattr(self, name) != defaults[name]:
                raise InputError(
                    f"training.{name} is {getattr(self, name)!r}, which {owner} does not have; leave it out"
                )
