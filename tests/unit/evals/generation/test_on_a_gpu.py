"""What only a GPU can show: that images and scores made there are the CPU's."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

import evals.generation.generate
from artifacts import layout
from artifacts.contracts import write_table
from evals.generation.generate import generate
from evals.scorers import create

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")

PROMPTS = {f"own-{i:05d}": f"{'a' * (i + 1)} cat" for i in range(6)}
# float32's rounding is magnified by the networks' random weights; a bfloat16 number has 8 bits.
DEVIATIONS = {"float32": 1e-4, "float16": 3e-2, "bfloat16": 2e-1}


@pytest.mark.parametrize("dtype", DEVIATIONS)
@pytest.mark.parametrize("name", ["pickscore", "hpsv2", "clip", "aesthetic", "imagereward"])
def test_scores_are_the_cpus(
    name: str, dtype: str, request: pytest.FixtureRequest, awkward_images: list[Image.Image], prompts: list[str]
) -> None:
    folder = {"hpsv2": "open_clip_folder", "clip": "open_clip_folder"}.get(name, f"{name}_folder")
    weights = request.getfixturevalue(folder)
    here = create(name, weights=weights).score(awkward_images, prompts)
    there = create(name, weights=weights, device="cuda", dtype=dtype).score(awkward_images, prompts)
    assert np.isfinite(there).all()
    deviation = np.abs(there - here).max() / np.abs(here).max()
    print(f"{name} {dtype}: {deviation:.1e} of the largest score")
    assert deviation < DEVIATIONS[dtype]


@pytest.fixture(params=["sd", "sdxl"])
def drawn(
    request: pytest.FixtureRequest, save_tiny_base: Callable[..., Path], tmp_path: Path, monkeypatch: Any
) -> Callable[..., np.ndarray]:
    """Images of the six prompts, (6, H, W, 3), by a tiny base."""
    base = save_tiny_base(tmp_path / "base", request.param)
    frame = pd.DataFrame({"prompt_id": [*PROMPTS], "prompt": [*PROMPTS.values()], "category": "", "source": "test"})

    def draw(device: str, **generation: Any) -> np.ndarray:
        root = tmp_path / f"root{len(list(tmp_path.iterdir()))}"
        write_table(layout.prompts(root, "own"), frame, "prompts")
        monkeypatch.setattr(evals.generation.generate, "take_device", lambda: device)
        generate(
            {
                "root": str(root),
                "base": {"name": "tiny", "family": {"sd": "sd15"}.get(request.param, "sdxl"), "path": str(base)},
                "models": ["tiny/base"],
                "prompt_sets": ["own"],
                "generation": {"scheduler": "euler", "steps": 3, "batch_size": 4, "guidance_scale": 3.0, **generation},
            }
        )
        folder = layout.images(root, "tiny/base", "own")
        return np.stack([np.asarray(Image.open(folder / f"{i:05d}.png"), dtype=int) for i in range(len(PROMPTS))])

    return draw


def test_clean_images_are_the_cpus(drawn: Callable[..., np.ndarray]) -> None:
    here, there = drawn("cpu"), drawn("cuda")
    assert here.std() > 5
    assert np.abs(here - there).max() <= 2
    alone = drawn("cuda", batch_size=1)
    assert np.abs(alone - there).max() <= 2


@pytest.mark.parametrize("protocol", ["clean", "sdpo"])
def test_half_precision_draws_nearly_the_same(drawn: Callable[..., np.ndarray], protocol: str) -> None:
    # The published protocol draws its noise on the device, so that only images of one device can be compared.
    exact = drawn("cuda", protocol=protocol)
    for dtype, levels in (("bfloat16", 4), ("float16", 1)):
        half = drawn("cuda", protocol=protocol, dtype=dtype)
        assert half.std() > 5
        assert np.abs(half - exact).mean() < levels
