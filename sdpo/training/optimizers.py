"""Optimizers by name, with the constants of the published training scripts, and the learning rate of each step."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from importlib import import_module
from typing import TYPE_CHECKING, Any

from artifacts.errors import InputError
from sdpo.training.sharding import as_shared

if TYPE_CHECKING:
    import torch

    from sdpo.training.settings import TrainingSettings


EXTRAS: Mapping[str, str] = {"adamw_8bit": "bitsandbytes"}
"""Packages of optimizers that are no part of what is always installed.

diffusers and peft import bitsandbytes wherever it is: every job would wait for it, and have its warnings in the log.
"""


def expected_instead(training: Mapping[str, Any]) -> tuple[str, str] | None:
    """The first setting of a training that its optimizer does not allow, and what was expected of it."""
    if training.get("optimizer") == "adamw_8bit" and training.get("channels_last"):
        return "channels_last", "expected false: optimizer adamw_8bit lays the weights one after another"
    return None


def check(training: Mapping[str, Any]) -> None:
    """Refuse what :func:`expected_instead` finds, and an optimizer whose package is not there.

    Raises:
        InputError: there is something.
    """
    if found := expected_instead(training):
        name, expected = found
        raise InputError(f"training.{name} is {training[name]!r}: {expected}")
    name = training["optimizer"]
    if package := EXTRAS.get(name):
        try:
            import_module(package)
        except ImportError as error:
            raise InputError(
                f"training.optimizer is {name!r}: package '{package}' cannot be imported ({error}); "
                "pip install --no-deps -r requirements-adamw-8bit.lock, or use adamw"
            ) from error


def create(
    name: str, parameters: Sequence[torch.nn.Parameter], *, learning_rate: float, weight_decay: float
) -> torch.optim.Optimizer:
    """One of the settings' optimizers; Adam and AdamW in one fused kernel where the parameters are on a GPU.

    Adafactor is that of Shazeer and Stern (arXiv 1804.04235) with the learning rate given from outside and no scaling
    by the size of the parameters, as the published SDXL runs have it. AdamW in 8 bits is that of Dettmers et al. (arXiv
    2110.02861): a moment is kept as one of 256 values, times the largest of its block of 256; moments of tensors of
    fewer than 4096 numbers stay in float32.
    """
    import torch

    if name == "adamw_8bit":
        from bitsandbytes.optim import AdamW8bit

        eight_bit: torch.optim.Optimizer = AdamW8bit(parameters, lr=learning_rate, weight_decay=weight_decay)
        return eight_bit
    if name == "adafactor":
        from transformers.optimization import Adafactor

        adafactor: torch.optim.Optimizer = Adafactor(
            parameters,
            lr=learning_rate,
            weight_decay=weight_decay,
            scale_parameter=False,
            relative_step=False,
            clip_threshold=1.0,
        )
        return adafactor
    # On the CPU the fused kernel rounds otherwise, and gains nothing beside the denoiser.
    fused = True if parameters and parameters[0].device.type == "cuda" else None
    if name == "adam":
        return torch.optim.Adam(parameters, lr=learning_rate, weight_decay=weight_decay, fused=fused)
    return torch.optim.AdamW(parameters, lr=learning_rate, weight_decay=weight_decay, fused=fused)


def take_up(optimizer: torch.optim.Optimizer, state: dict[str, Any]) -> None:
    """Take up a saved state, whose moments are whole, as the parameters are shared out."""
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    moments = {
        index: {
            name: as_shared(value, parameters[index]) if hasattr(value, "shape") else value
            for name, value in of_one.items()
        }
        for index, of_one in state["state"].items()
    }
    optimizer.load_state_dict({**state, "state": moments})


def peak(settings: TrainingSettings) -> float:
    """Learning rate at the end of warm-up; with scaling, ``learning_rate`` is that of a batch of one pair."""
    return settings.learning_rate * (settings.batch_size if settings.scale_learning_rate else 1)


def learning_rate(settings: TrainingSettings, step: int) -> float:
    """Learning rate of step ``step`` (from 1).

    Warm-up rises linearly and reaches the peak at step ``warmup_steps``; ``linear`` and ``cosine`` fall from there and
    would be 0 one step after the last.
    """
    rate = peak(settings) * min(1.0, step / max(settings.warmup_steps, 1))
    if settings.schedule == "constant" or step <= settings.warmup_steps:
        return rate
    done = (step - settings.warmup_steps) / (settings.steps - settings.warmup_steps + 1)
    return rate * (1.0 - done if settings.schedule == "linear" else (1.0 + math.cos(math.pi * done)) / 2.0)
