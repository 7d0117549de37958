"""Conditions of a denoiser: named tensors, one row an image, such as ``text`` (B, T, D) and ``pooled`` (B, P).

Which names there are, and what a denoiser does with them, is a matter of the base family.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

Conditions = dict[str, "torch.Tensor"]
"""Name to tensor (B, ...); all have the same number of rows."""


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


def moved(conditions: Conditions, device: str) -> Conditions:
    """The same on another device."""
    return {name: tensor.to(device) for name, tensor in conditions.items()}
