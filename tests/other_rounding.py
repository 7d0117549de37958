"""Run tests as on a processor that rounds otherwise: ``PYTHONPATH=tests pytest -p other_rounding``.

Kernels of another processor sum in another order, and the order may differ with an operation's shape and with the place
of a row in it. Here the results of rounding operations are moved by one unit of rounding, up, down or not at all, by a
pattern that hangs on size and place alone. So an operation repeated on the same shapes in the same place gives the same
bits, as every processor has it; the same row elsewhere in a batch, or in a batch of another size, does not.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_map_only

# In inference mode composite operations arrive whole, elsewhere as their parts.
ROUNDING = frozenset(
    [
        "linear",
        "matmul",
        "mm",
        "addmm",
        "bmm",
        "baddbmm",
        "mv",
        "addmv",
        "dot",
        "einsum",
        "conv1d",
        "conv2d",
        "convolution",
        "convolution_backward",
        "layer_norm",
        "group_norm",
        "native_layer_norm",
        "native_layer_norm_backward",
        "native_group_norm",
        "native_group_norm_backward",
        "softmax",
        "log_softmax",
        "_softmax",
        "_log_softmax",
        "_softmax_backward_data",
        "_log_softmax_backward_data",
        "scaled_dot_product_attention",
        "_scaled_dot_product_flash_attention_for_cpu",
        "_scaled_dot_product_flash_attention_for_cpu_backward",
        "_native_multi_head_attention",
        "sum",
        "mean",
        "var",
        "var_mean",
        "std",
        "norm",
        "linalg_vector_norm",
        "cumsum",
        "cumprod",
        "mse_loss",
        "exp",
        "expm1",
        "log",
        "log1p",
        "sin",
        "cos",
        "erf",
        "pow",
        "rsqrt",
        "sigmoid",
        "tanh",
        "silu",
        "silu_backward",
        "gelu",
        "gelu_backward",
        "softplus",
        "log_sigmoid_forward",
        "_upsample_bilinear2d_aa",
        "_upsample_bicubic2d_aa",
        "upsample_bilinear2d",
        "upsample_bicubic2d",
    ]
)


def moved(values: torch.Tensor) -> torch.Tensor:
    """``values`` times 1, 1 + ε or 1 − ε, by size and place.

    Whole numbers stay: sums of them are exact everywhere. So do shorter floats, which are rounded from float32 sums.
    """
    if values.dtype not in (torch.float32, torch.float64) or values.numel() == 0 or values.is_meta:
        return values
    # Where they are, also while a library makes a model whose tensors are on another device until they are loaded.
    places = torch.arange(values.numel(), dtype=torch.int64, device=values.device)
    # Knuth's multiplier spreads neighbouring places over all residues. The last side is that of the matrix which a
    # layer makes of its input.
    last = values.shape[-1] if values.ndim else 1
    mixed = (places + 7 * values.numel() + last) * 2654435761 % 2**32 >> 13
    units = (mixed % 3 - 1).to(values.dtype).reshape(values.shape)
    return torch.where(values == values.round(), values, values * (1 + torch.finfo(values.dtype).eps * units))


class OtherRounding(TorchDispatchMode):
    """Within, operations that round do so as another processor might."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        if func._schema.name.removeprefix("aten::") in ROUNDING and not func._schema.is_mutable:
            out = tree_map_only(torch.Tensor, moved, out)
        return out


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call() -> Iterator[None]:
    """Run the test, not its fixtures, with other rounding."""
    with OtherRounding():
        return (yield)
