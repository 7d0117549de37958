"""Weights that are not finite: a model with one of them makes black images and scores without a word."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from artifacts.errors import InputError

if TYPE_CHECKING:
    import torch


def check_finite(state: Mapping[str, torch.Tensor], path: Path) -> None:
    """Refuse weights that are not finite, by name.

    Args:
        state: tensors by name.
        path: file or folder that they were read from.

    Raises:
        InputError: there are some, or a tensor that is not dense.
    """
    wrong = []
    for name, tensor in state.items():
        if tensor.is_floating_point() and tensor.numel():
            try:
                # Both are NaN where there is one; no mask of the tensor's size is made. float8 has no minimum.
                ends = (tensor if tensor.element_size() > 1 else tensor.float()).aminmax()
                finite = math.isfinite(ends.min) and math.isfinite(ends.max)
            # Which of them depends on what it is: sparse, of four bits, or without content.
            except (NotImplementedError, RuntimeError) as error:
                raise InputError(
                    f"{path}: '{name}' is no plain tensor ({tensor.dtype}, {tensor.layout}, on {tensor.device}); save "
                    "it dense, in float32, bfloat16 or float16"
                ) from error
            if not finite:
                wrong.append(name)
    if wrong:
        # What is beyond 65504 becomes infinite when it is read as float16; bfloat16 reaches as far as float32.
        other = ", or read it as bfloat16 or float32 (encoding.encoder_dtype, generation.dtype)"
        raise InputError(
            f"{path}: '{wrong[0]}' has values that are not finite ({len(wrong)} such tensors in all); "
            "fetch it again, or take a checkpoint from before its training failed"
            + (other if str(state[wrong[0]].dtype) == "torch.float16" else "")
        )
