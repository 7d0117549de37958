"""Optimizers by name, with the constants of the published training scripts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from artifacts.errors import InputError

if TYPE_CHECKING:
    import torch

NAMES = ("adamw", "adam", "adafactor")


def create(
    name: str, parameters: Sequence[torch.nn.Parameter], *, learning_rate: float, weight_decay: float
) -> torch.optim.Optimizer:
    """An optimizer; Adam and AdamW in one fused kernel where the parameters are on a GPU.

    Adafactor is that of Shazeer and Stern (arXiv 1804.04235) with the learning rate given from outside and no scaling
    by the size of the parameters, as the published SDXL runs have it.

    Raises:
        InputError: no such optimizer.
    """
    import torch

    if name not in NAMES:
        raise InputError(f"training.optimizer is '{name}', expected one of {', '.join(NAMES)}")
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
