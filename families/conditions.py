"""Conditions of a denoiser: named tensors, one row an image, such as ``text`` (B, T, D) and ``pooled`` (B, P).

Which names there are, and what a denoiser does with them, is a matter of the base family.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

Conditions = dict[str, "torch.Tensor"]
"""Name to tensor (B, ...); all have the same number of rows."""
TIME_IDS = "time_ids"
"""Name of what SDXL is told of an image: (B, 6) pixels."""


def joined(parts: Sequence[Conditions]) -> Conditions:
    """Conditions of several batches one after the other; all parts have the same names."""
    import torch

    return {name: torch.cat([part[name] for part in parts]) for name in parts[0]}


def picked(conditions: Conditions, rows: torch.Tensor | slice) -> Conditions:
    """Some rows of conditions."""
    return {name: tensor[rows] for name, tensor in conditions.items()}


def split(conditions: Conditions, size: int) -> list[Conditions]:
    """Consecutive parts of ``size`` rows, the last one perhaps shorter."""
    columns = {name: tensor.split(size) for name, tensor in conditions.items()}
    return [dict(zip(columns, part, strict=True)) for part in zip(*columns.values(), strict=True)]


def converted(conditions: Conditions, dtype: torch.dtype) -> Conditions:
    """The same in another dtype."""
    return {name: tensor.to(dtype) for name, tensor in conditions.items()}


def moved(conditions: Conditions, device: Any, dtype: torch.dtype | None = None) -> Conditions:
    """The same on another device, and in another dtype if one is given.

    Counts of pixels are exact in every precision that is used.
    """
    return {name: tensor.to(device, dtype) for name, tensor in conditions.items()}


def repeated(conditions: Conditions, count: int) -> Conditions:
    """Those of one image for each of ``count``."""
    return {name: tensor.expand(count, *tensor.shape[1:]) for name, tensor in conditions.items()}


def zeroed(conditions: Conditions) -> Conditions:
    """The same with zeros for all text; sizes and crops stay."""
    return {name: tensor if name == TIME_IDS else tensor.new_zeros(tensor.shape) for name, tensor in conditions.items()}
