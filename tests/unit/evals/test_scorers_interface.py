from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from typing import Any

import pytest
import torch
from PIL import Image

from evals.scorers.interface import PixelScorer
from evals.scorers.preprocessing import Preprocessing

CUDNN: Any = torch.backends.cudnn
MATMUL: Any = torch.backends.cuda.matmul


@pytest.fixture(params=["older names", "newer names"])
def tf32(request: pytest.FixtureRequest) -> Iterator[Callable[[], Any]]:
    """TF32 switched on by one of torch's two names for it; reads (convolutions, products)."""
    if request.param == "older names":
        torch.backends.cudnn.allow_tf32, MATMUL.allow_tf32 = True, True
    else:
        CUDNN.conv.fp32_precision, MATMUL.fp32_precision = "tf32", "tf32"
    yield lambda: (CUDNN.conv.fp32_precision == "tf32", MATMUL.fp32_precision == "tf32")
    CUDNN.conv.fp32_precision, MATMUL.fp32_precision = "tf32", "none"
    MATMUL.allow_tf32 = False


@pytest.mark.parametrize("fails", [False, True])
def test_no_tf32_while_a_model_runs(tf32: Callable[[], Any], fails: bool) -> None:
    """cuDNN's convolutions use TF32 unless told otherwise; whoever imports evals keeps their own settings."""
    seen = []

    def rate(pixels: torch.Tensor, prompts: Sequence[str]) -> torch.Tensor:
        seen.append(tf32())
        if fails:
            raise RuntimeError("out of memory")
        return pixels.mean(dim=(1, 2, 3))

    scorer = PixelScorer("tiny", "f", Preprocessing(4), torch.device("cpu"), torch.float32, 2, rate)
    assert tf32() == (True, True)
    with pytest.raises(RuntimeError, match="out of memory") if fails else nullcontext():
        scorer.score([Image.new("RGB", (4, 4))] * 3, ["a"] * 3)
    assert tf32() == (True, True)
    assert seen == [(False, False)] * (1 if fails else 2)
