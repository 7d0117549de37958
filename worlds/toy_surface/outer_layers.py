"""First and last layer of a perceptron with the SiLU beside them, forward and backward.

Beside its products of hidden layers, a small perceptron spends its time passing over activations. Where gcc is
installed, ``outer_layers.c`` does what belongs to an outer layer in one such pass; elsewhere, and in float64, torch's
own operations do it in several. The two differ in rounding only.
"""

from __future__ import annotations

import ctypes
import platform
import shutil
import subprocess
import tempfile
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    import torch
    from torch import Tensor

SOURCE = Path(__file__).with_name("outer_layers.c")
FLAGS = ("-O3", "-march=native", *(["-mprefer-vector-width=512"] if platform.machine() == "x86_64" else []))
LANES = 16
"""The width of hidden layers must be a multiple of it; as in the source."""

Layer = tuple["Tensor", "Tensor"]
"""Weight (in, out), contiguous, and bias (out,), which follows it in memory."""


class OuterLayers(Protocol):
    """N rows through the outer layers of one model with hidden layers of width H; buffers are written, not made.

    What enters the last SiLU is ``product`` + ``shift``: the product of the hidden layer before it, and its bias.

    A backward pass may leave rows out. What comes from outside it, ``inputs``, ``product`` and the last layer's
    ``upstream``, then has more than N rows, and ``rows`` says which N to take, (N,) of int64; all without it.
    """

    name: str
    """For provenance: what computes."""

    def first(self, inputs: Tensor, layer: Layer, out: Tensor) -> None:
        """``out`` (N, H) = SiLU of the first layer's values for ``inputs`` (N, 4)."""

    def first_again(self, inputs: Tensor, rows: Tensor | None, layer: Layer, out: Tensor, memo: Tensor) -> None:
        """The same, with ``memo`` (N, H) for :meth:`first_backward`."""

    def first_backward(
        self, inputs: Tensor, rows: Tensor | None, upstream: Tensor, memo: Tensor, gradient: Layer
    ) -> None:
        """Gradient of the first layer from that of SiLU's output, ``upstream`` (N, H), which is lost."""

    def last(self, product: Tensor, shift: Tensor, layer: Layer, scratch: Tensor, out: Tensor) -> None:
        """``out`` (N, 3) = last layer of SiLU(``product`` + ``shift``), (N, H) and (H,)."""

    def last_backward(
        self,
        product: Tensor,
        rows: Tensor | None,
        shift: Tensor,
        layer: Layer,
        upstream: Tensor,
        downstream: Tensor,
        gradient: Layer,
        shift_gradient: Tensor,
    ) -> None:
        """From the gradient of the output.

        Args:
            product: (N, H).
            rows: see above.
            shift: (H,).
            layer: the last.
            upstream: (N, 3), contiguous.
            downstream: gradient of ``product``, (N, H), written.
            gradient: of the layer, written.
            shift_gradient: (H,), written.
        """


class TorchOuterLayers:
    """By torch's operations, for any dtype and width."""

    name = "torch"

    def first(self, inputs: Tensor, layer: Layer, out: Tensor) -> None:
        """See :class:`OuterLayers`."""
        import torch

        weight, bias = layer
        torch.addmm(bias, inputs, weight, out=out)
        torch.ops.aten.silu.out(out, out=out)

    def first_again(self, inputs: Tensor, rows: Tensor | None, layer: Layer, out: Tensor, memo: Tensor) -> None:
        """See :class:`OuterLayers`."""
        import torch

        weight, bias = layer
        torch.addmm(bias, _taken(inputs, rows), weight, out=memo)
        torch.ops.aten.silu.out(memo, out=out)

    def first_backward(
        self, inputs: Tensor, rows: Tensor | None, upstream: Tensor, memo: Tensor, gradient: Layer
    ) -> None:
        """See :class:`OuterLayers`."""
        import torch

        torch.ops.aten.silu_backward.grad_input(upstream, memo, grad_input=upstream)
        torch.mm(_taken(inputs, rows).t(), upstream, out=gradient[0])
        torch.sum(upstream, 0, out=gradient[1])

    def last(self, product: Tensor, shift: Tensor, layer: Layer, scratch: Tensor, out: Tensor) -> None:
        """See :class:`OuterLayers`."""
        import torch

        torch.add(product, shift, out=scratch)
        torch.ops.aten.silu.out(scratch, out=scratch)
        torch.addmm(layer[1], scratch, layer[0], out=out)

    def last_backward(
        self,
        product: Tensor,
        rows: Tensor | None,
        shift: Tensor,
        layer: Layer,
        upstream: Tensor,
        downstream: Tensor,
        gradient: Layer,
        shift_gradient: Tensor,
    ) -> None:
        """See :class:`OuterLayers`."""
        import torch

        before, upstream = _taken(product, rows) + shift, _taken(upstream, rows)
        torch.ops.aten.silu.out(before, out=downstream)
        # Thin products are four times as fast with the long side last.
        gradient[0].copy_(torch.mm(upstream.t(), downstream).t())
        torch.sum(upstream, 0, out=gradient[1])
        torch.mm(upstream, layer[0].t(), out=downstream)
        torch.ops.aten.silu_backward.grad_input(downstream, before, grad_input=downstream)
        torch.sum(downstream, 0, out=shift_gradient)


class CompiledOuterLayers:
    """By ``outer_layers.c``: float32, on one thread."""

    def __init__(self, library: ctypes.CDLL, name: str) -> None:
        self.name = name
        self._first = _function(library, "first_forward", 3)
        self._first_again = _function(library, "first_again", 5)
        self._first_backward = _function(library, "first_backward", 5)
        self._last = _function(library, "last_forward", 4)
        self._last_backward = _function(library, "last_backward", 8)

    def first(self, inputs: Tensor, layer: Layer, out: Tensor) -> None:
        """See :class:`OuterLayers`."""
        self._first(len(inputs), inputs.data_ptr(), layer[0].data_ptr(), out.data_ptr())

    def first_again(self, inputs: Tensor, rows: Tensor | None, layer: Layer, out: Tensor, memo: Tensor) -> None:
        """See :class:`OuterLayers`."""
        self._first_again(
            len(out), _index(rows), inputs.data_ptr(), layer[0].data_ptr(), out.data_ptr(), memo.data_ptr()
        )

    def first_backward(
        self, inputs: Tensor, rows: Tensor | None, upstream: Tensor, memo: Tensor, gradient: Layer
    ) -> None:
        """See :class:`OuterLayers`."""
        self._first_backward(
            len(upstream),
            _index(rows),
            inputs.data_ptr(),
            upstream.data_ptr(),
            memo.data_ptr(),
            gradient[0].data_ptr(),
        )

    def last(self, product: Tensor, shift: Tensor, layer: Layer, scratch: Tensor, out: Tensor) -> None:
        """See :class:`OuterLayers`."""
        self._last(len(product), product.data_ptr(), shift.data_ptr(), layer[0].data_ptr(), out.data_ptr())

    def last_backward(
        self,
        product: Tensor,
        rows: Tensor | None,
        shift: Tensor,
        layer: Layer,
        upstream: Tensor,
        downstream: Tensor,
        gradient: Layer,
        shift_gradient: Tensor,
    ) -> None:
        """See :class:`OuterLayers`."""
        self._last_backward(
            len(downstream),
            _index(rows),
            product.data_ptr(),
            shift.data_ptr(),
            layer[0].data_ptr(),
            upstream.data_ptr(),
            downstream.data_ptr(),
            gradient[0].data_ptr(),
            shift_gradient.data_ptr(),
        )


def _taken(values: Tensor, rows: Tensor | None) -> Tensor:
    return values if rows is None else values.index_select(0, rows)


def _index(rows: Tensor | None) -> int | None:
    return None if rows is None else rows.data_ptr()


def _function(library: ctypes.CDLL, name: str, buffers: int) -> Any:
    """A function of a number of rows and so many buffers."""
    function = library[name]
    function.argtypes, function.restype = [ctypes.c_int64, *[ctypes.c_void_p] * buffers], None
    return function


def outer_layers(width: int, dtype: torch.dtype) -> OuterLayers:
    """The fastest that this machine has for hidden layers of ``width``; the same for the life of the process."""
    import torch

    compiled = _compiled(width) if dtype == torch.float32 and width % LANES == 0 else None
    return compiled or TorchOuterLayers()


@lru_cache
def _compiled(width: int) -> CompiledOuterLayers | None:
    """Compile for a width, in half a second; ``None`` without a gcc that can."""
    gcc = shutil.which("gcc")
    if gcc is None or not SOURCE.is_file():
        return None
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "outer_layers.so"
        command = [gcc, *FLAGS, f"-DWIDTH={width}", "-Wno-psabi", "-shared", "-fPIC", str(SOURCE), "-o", str(out)]
        try:
            subprocess.run(command, capture_output=True, timeout=60, check=True)
            version = subprocess.run([gcc, "-dumpfullversion"], capture_output=True, text=True, timeout=60, check=True)
            library = ctypes.CDLL(str(out))
        except (OSError, subprocess.SubprocessError):
            return None
    return CompiledOuterLayers(library, f"gcc {version.stdout.strip()} {' '.join(FLAGS)}")
