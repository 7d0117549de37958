"""Several multilayer perceptrons of one shape, with a backward pass of its own.

The models of a stack are independent: they share no weight, and each is trained as if it were alone. They are kept as
rows of one tensor, so that one optimizer step serves all. Forward and backward go model by model through buffers that
are made once: a model's activations then stay in the processor's cache, which is about twice as fast as batched
matrix products under autograd.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch
    from torch import Tensor

HIDDEN = 128
LAYERS = 3
"""Linear layers, the last one included: x, y, z, t to 128, 128 to 128, 128 to the three parts of the velocity."""


def layer_sizes(hidden: int = HIDDEN, layers: int = LAYERS) -> tuple[int, ...]:
    """Width of the input, of every hidden layer, and of the output."""
    return (4, *[hidden] * (layers - 1), 3)


def parameter_count(sizes: Sequence[int]) -> int:
    """Weights and biases of one model."""
    return sum(a * b + b for a, b in pairwise(sizes))


def initial(sizes: Sequence[int], generator: torch.Generator) -> Tensor:
    """Parameters of one model, (P,): uniform in ±1/√(width of the layer's input), as torch's own linear layers."""
    import torch

    parts = []
    for a, b in pairwise(sizes):
        parts.append((torch.rand(a * b + b, generator=generator) * 2 - 1) / math.sqrt(a))
    return torch.cat(parts)


Layers = list[tuple["Tensor", "Tensor"]]
"""Weight (in, out) and bias (out,) of each layer, as views into one row of parameters."""


def layers_of(row: Tensor, sizes: Sequence[int]) -> Layers:
    """Views into the parameters of one model, (P,)."""
    found, start = [], 0
    for a, b in pairwise(sizes):
        weight = row[start : start + a * b].view(a, b)
        bias = row[start + a * b : start + a * b + b]
        found.append((weight, bias))
        start += a * b + b
    return found


class Activations:
    """Buffers for what one model's forward pass leaves for its backward pass, for batches of ``rows`` inputs.

    Only what enters each SiLU is kept: to compute its output anew is cheaper than to fetch it from memory.
    """

    def __init__(self, rows: int, sizes: Sequence[int], dtype: torch.dtype) -> None:
        import torch

        self.before = [torch.empty(rows, width, dtype=dtype) for width in sizes[1:-1]]


class MlpStack:
    """M perceptrons with SiLU between their layers.

    Args:
        parameters: (M, P), one model a row; changed in place by whoever trains them.
        sizes: see :func:`layer_sizes`.
    """

    def __init__(self, parameters: Tensor, sizes: Sequence[int]) -> None:
        import torch

        self.parameters, self.sizes = parameters, tuple(sizes)
        self.gradient = torch.zeros_like(parameters)
        self._layers = [layers_of(row, sizes) for row in parameters]
        self._gradients = [layers_of(row, sizes) for row in self.gradient]
        self._scratch: dict[tuple[int, int], tuple[Tensor, Tensor]] = {}

    def __len__(self) -> int:
        return len(self.parameters)

    def forward(self, model: int, inputs: Tensor, kept: Activations, out: Tensor) -> None:
        """Outputs of one model.

        Args:
            model: row of the stack.
            inputs: (N, 4).
            kept: filled with what :meth:`backward` needs.
            out: (N, 3), written.
        """
        import torch

        silu = torch.ops.aten.silu.out
        *hidden, (weight, bias) = self._layers[model]
        values = inputs
        for (w, b), before in zip(hidden, kept.before, strict=True):
            torch.addmm(b, values, w, out=before)
            values = silu(before, out=self._buffers(len(inputs), before.shape[1])[0])
        torch.addmm(bias, values, weight, out=out)

    def backward(self, model: int, inputs: Tensor, kept: Activations, gradient: Tensor) -> None:
        """Write the gradient of one model into :attr:`gradient`.

        Args:
            model: row of the stack.
            inputs: those of the forward pass, (N, 4).
            kept: from the forward pass.
            gradient: of the loss with respect to the outputs, (N, 3).
        """
        import torch

        silu, silu_backward = torch.ops.aten.silu.out, torch.ops.aten.silu_backward.grad_input
        current = gradient
        for layer in reversed(range(len(self.sizes) - 1)):
            weight, (weight_out, bias_out) = self._layers[model][layer][0], self._gradients[model][layer]
            values = inputs
            if layer:
                first, second = self._buffers(len(inputs), self.sizes[layer])
                values = silu(kept.before[layer - 1], out=first)
            torch.mm(values.t(), current, out=weight_out)
            torch.sum(current, 0, out=bias_out)
            if layer:
                torch.mm(current, weight.t(), out=first)
                current = silu_backward(first, kept.before[layer - 1], grad_input=second)

    def _buffers(self, rows: int, width: int) -> tuple[Tensor, Tensor]:
        if (rows, width) not in self._scratch:
            make = self.parameters.new_empty
            self._scratch[rows, width] = make(rows, width), make(rows, width)
        return self._scratch[rows, width]

    def predict(self, model: int, inputs: Tensor) -> Tensor:
        """Outputs of one model, (N, 3), with nothing kept."""
        import torch

        values = inputs
        *hidden, (weight, bias) = self._layers[model]
        for w, b in hidden:
            values = torch.nn.functional.silu(torch.addmm(b, values, w))
        return torch.addmm(bias, values, weight)
