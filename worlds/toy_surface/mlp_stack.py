"""Several multilayer perceptrons of one shape, with a backward pass of its own.

The models of a stack are independent: they share no weight, and each is trained as if it were alone. They are kept as
rows of one tensor, so that one optimizer step serves all. Forward and backward go model by model through buffers that
are made once: a model's activations then stay in the processor's cache, which is about twice as fast as batched
matrix products under autograd. First and last layer are those of :mod:`worlds.toy_surface.outer_layers`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import TYPE_CHECKING

from artifacts.errors import InputError
from worlds.toy_surface.outer_layers import Layer, OuterLayers, outer_layers

if TYPE_CHECKING:
    import torch
    from torch import Tensor

HIDDEN = 128
LAYERS = 3
"""Linear layers, the last one included: x, y, z, t to 128, 128 to 128, 128 to the three parts of the velocity."""


def layer_sizes(hidden: int = HIDDEN, layers: int = LAYERS) -> tuple[int, ...]:
    """Width of the input, of every hidden layer, and of the output.

    Raises:
        InputError: fewer than three layers, or a width below 1.
    """
    if layers < 3:
        raise InputError(f"layers is {layers}, expected at least 3: a first, a hidden one and a last")
    if hidden < 1:
        raise InputError(f"hidden is {hidden}, expected at least 1")
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


def layers_of(row: Tensor, sizes: Sequence[int]) -> list[Layer]:
    """Weight and bias of each layer, as views into the parameters of one model, (P,)."""
    found, start = [], 0
    for a, b in pairwise(sizes):
        weight = row[start : start + a * b].view(a, b)
        bias = row[start + a * b : start + a * b + b]
        found.append((weight, bias))
        start += a * b + b
    return found


class Activations:
    """Buffers for what one model's forward pass leaves for its backward pass, for batches of ``rows`` inputs.

    Only what enters each SiLU after the first is kept, the last without its bias: the rest is computed anew, which is
    cheaper than to fetch it from memory.
    """

    def __init__(self, rows: int, sizes: Sequence[int], dtype: torch.dtype) -> None:
        import torch

        self.before = [torch.empty(rows, width, dtype=dtype) for width in sizes[2:-1]]


class MlpStack:
    """M perceptrons with SiLU between their layers.

    Args:
        parameters: (M, P), one model a row, contiguous; changed in place by whoever trains them.
        sizes: see :func:`layer_sizes`.
        outer: computes first and last layers; by default the fastest there is.
    """

    def __init__(self, parameters: Tensor, sizes: Sequence[int], *, outer: OuterLayers | None = None) -> None:
        import torch

        self.parameters, self.sizes = parameters, tuple(sizes)
        self.outer = outer or outer_layers(self.sizes[1], parameters.dtype)
        self.gradient = torch.zeros_like(parameters)
        self._layers = [layers_of(row, sizes) for row in parameters]
        self._gradients = [layers_of(row, sizes) for row in self.gradient]
        self._scratch: dict[int, tuple[Tensor, ...]] = {}
        self._unkept: dict[int, Activations] = {}

    def __len__(self) -> int:
        return len(self.parameters)

    def forward(self, model: int, inputs: Tensor, kept: Activations, out: Tensor) -> None:
        """Outputs of one model.

        Args:
            model: row of the stack.
            inputs: (N, 4), contiguous.
            kept: filled with what :meth:`backward` needs; buffers of N rows.
            out: (N, 3), contiguous, written.

        Raises:
            ValueError: inputs of another dtype, or that are not contiguous.
        """
        import torch

        if inputs.dtype != self.parameters.dtype or not inputs.is_contiguous():
            raise ValueError(f"inputs are {inputs.dtype}: expected contiguous {self.parameters.dtype}")
        first, *middle, last = self._layers[model]
        values, *_ = self._buffers(len(inputs))
        self.outer.first(inputs, first, values)
        for (weight, bias), before in zip(middle[:-1], kept.before[:-1], strict=True):
            torch.addmm(bias, values, weight, out=before)
            torch.ops.aten.silu.out(before, out=values)
        # To add the bias here would pass over memory once more.
        weight, bias = middle[-1]
        torch.mm(values, weight, out=kept.before[-1])
        self.outer.last(kept.before[-1], bias, last, values, out)

    def backward(
        self, model: int, inputs: Tensor, kept: Activations, gradient: Tensor, rows: Tensor | None = None
    ) -> None:
        """Write the gradient of one model into :attr:`gradient`.

        Args:
            model: row of the stack.
            inputs: those of the forward pass, (N, 4), contiguous.
            kept: from the forward pass.
            gradient: of the loss with respect to the outputs, (N, 3), contiguous.
            rows: indices of the inputs to go through, where the gradient of the others is zero, (n,) of int64; all
                without it.
        """
        import torch

        befores, buffers = kept.before, self._buffers(len(inputs))
        if rows is not None:
            # The outer layers take their rows themselves.
            befores = [*(x.index_select(0, rows) for x in befores[:-1]), befores[-1]]
            buffers = tuple(x[: len(rows)] for x in buffers)
        first, *middle, last = self._layers[model]
        first_out, *middle_out, last_out = self._gradients[model]
        values, current, memo = buffers
        shift, shift_out = middle[-1][1], middle_out[-1][1]
        self.outer.last_backward(befores[-1], rows, shift, last, gradient, current, last_out, shift_out)
        for layer in reversed(range(len(middle))):
            if layer:
                torch.ops.aten.silu.out(befores[layer - 1], out=values)
            else:
                self.outer.first_again(inputs, rows, first, values, memo)
            torch.mm(values.t(), current, out=middle_out[layer][0])
            torch.mm(current, middle[layer][0].t(), out=values)
            if layer:
                torch.ops.aten.silu_backward.grad_input(values, befores[layer - 1], grad_input=current)
                torch.sum(current, 0, out=middle_out[layer - 1][1])
        self.outer.first_backward(inputs, rows, values, memo, first_out)

    def _buffers(self, rows: int) -> tuple[Tensor, ...]:
        if rows not in self._scratch:
            self._scratch[rows] = self.parameters.new_empty(3, rows, self.sizes[1]).unbind()
        return self._scratch[rows]

    def predict(self, model: int, inputs: Tensor) -> Tensor:
        """Outputs of one model, (N, 3), for inputs (N, 4), contiguous, with nothing kept."""
        rows = len(inputs)
        if rows not in self._unkept:
            self._unkept[rows] = Activations(rows, self.sizes, inputs.dtype)
        out = inputs.new_empty(rows, self.sizes[-1])
        self.forward(model, inputs, self._unkept[rows], out)
        return out
