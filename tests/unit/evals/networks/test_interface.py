from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from evals.networks.interface import PixelScorer, scorer_record
from evals.networks.preprocessing import Preprocessing
from evals.scorers import create

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


def test_fingerprint_holds_the_source_of_the_scorer(plug_in: Callable[..., str], tmp_path: Path) -> None:
    """A cache of scores is kept by fingerprint: what other code scored is not to be taken from it."""
    code = (
        "from evals.networks.interface import fingerprint\nVERSION = 1\nPROTOCOLS = ('plain',)\nNEEDS_WEIGHTS = False\n"
        "class Scorer:\n"
        "    fingerprint = fingerprint(\n"
        "        scorer='shade', version=1, protocol='plain', files={}, preprocessing={}, dtype='float64'\n"
        "    )\n"
        "    def score(self, images, prompts):\n        return [1.0 for _ in images]\n"
        "def create(*, protocol, **_):\n    return Scorer()\n"
    )
    module = plug_in("evals.scorers", "shade", code)
    file = tmp_path / "plug-ins" / f"{module}.py"
    found = []
    for text in (code, code + "# A comment.\n", code.replace("1.0 for", "2.0 for")):
        file.write_text(text)
        sys.modules.pop(module, None)
        importlib.invalidate_caches()
        scorer = create("shade", protocol="plain")
        record = scorer_record(scorer, device="cpu", batch_size=1)
        assert record["code"]["scorer shade"]["package"] == "their-shade"
        assert record["code"]["scorer shade"]["sha256"] == record["hashed"]["source"]
        found.append(scorer.fingerprint)
    assert found[0] == found[1] != found[2]
