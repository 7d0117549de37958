"""Saying which values are not finite."""

from __future__ import annotations

from typing import TYPE_CHECKING

from artifacts.errors import InputError

if TYPE_CHECKING:
    from torch import Tensor


def refuse_not_finite(name: str, values: Tensor) -> None:
    """Refuse a tensor with infinities or NaN.

    Raises:
        InputError: says how many there are, and the first of them.
    """
    import torch

    finite = torch.isfinite(values)
    if finite.all():
        return
    wrong = values[~finite]
    raise InputError(
        f"{name} has {len(wrong)} of {values.numel()} values that are not finite, the first {float(wrong[0])}: "
        "expected finite numbers"
    )
