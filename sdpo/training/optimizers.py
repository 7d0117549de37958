"""Optimizers by name, with the constants of the published training scripts, and the learning rate of each step."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from sdpo.training.sharding import as_shared

if TYPE_CHECKING:
    import torch

    from sdpo.training.settings import TrainingSettings


def create(
    name: str, parameters: Sequence[torch.nn.Parameter], *, learning_rate: float, weight_decay: float
) -> torch.optim.Optimizer:
    """``adamw``, ``adam`` or ``adafactor``; Adam and AdamW in one fused kernel where the parameters are on a GPU.

    Adafactor is that of Shazeer and Stern (arXiv 1804.04235) with the learning rate given from outside and no scaling
    by the size of the parameters, as the published SDXL runs have it.
    """
    import torch

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
