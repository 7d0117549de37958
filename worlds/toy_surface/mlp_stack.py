"""Several multilayer perceptrons of one shape in one pass: the models of a stack.

They share no weight and are kept as rows of one tensor, (M, P), so that one batched product does a layer of all of
them, and one optimizer step serves all. Points come last, (M, values, N): the thin products of the first and the last
layer then have their long side last, which makes a training step an eighth faster than with points first.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import TYPE_CHECKING

from artifacts.errors import InputError

if TYPE_CHECKING:
    import torch
    from torch import Tensor

HIDDEN = 128
LAYERS = 3
"""Linear layers, the last one included: x, y, z, t to 128, 128 to 128, 128 to the three parts of the velocity."""


def layer_sizes(hidden: int = HIDDEN, layers: int = LAYERS) -> tuple[int, ...]:
    """Width of the input, of every hidden layer, and of the output.

    Raises:
        InputError: fewer than two layers, or a width below 1.
    """
    if layers < 2:
        raise InputError(f"layers is {layers}, expected at least 2: a first and a last")
    if hidden < 1:
        raise InputError(f"hidden is {hidden}, expected at least 1")
    return (4, *[hidden] * (layers - 1), 3)


def parameter_count(sizes: Sequence[int]) -> int:
    """Weights and biases of one model, P."""
    return sum(a * b + b for a, b in pairwise(sizes))


def initial(sizes: Sequence[int], generator: torch.Generator) -> Tensor:
    """Parameters of one model, (P,): uniform in ±1/√(width of the layer's input), as torch's own linear layers."""
    import torch

    parts = []
    for a, b in pairwise(sizes):
        parts.append((torch.rand(a * b + b, generator=generator) * 2 - 1) / math.sqrt(a))
    return torch.cat(parts)


def predict(parameters: Tensor, inputs: Tensor, sizes: Sequence[int]) -> Tensor:
    """Outputs of M perceptrons with SiLU between their layers, (M, 3, N); differentiable.

    Args:
        parameters: (M, P), one model a row: of each layer its weight, (in, out), and its bias, (out,).
        inputs: (M, 4, N).
        sizes: see :func:`layer_sizes`.
    """
    import torch

    shapes = list(pairwise(sizes))
    parts = iter(parameters.split([count for a, b in shapes for count in (a * b, b)], dim=1))
    values = inputs
    for layer, (shape, weight, bias) in enumerate(zip(shapes, parts, parts, strict=True)):
        if layer:
            values = torch.nn.functional.silu(values)
        values = torch.baddbmm(bias.unsqueeze(2), weight.unflatten(1, shape).mT, values)
    return values
