from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from artifacts import layout
from artifacts.atomic import file_sha256, json_sha256
from artifacts.contracts import read_table, write_table
from artifacts.errors import InputError
from evals.generate import generate
from evals.sampling import SamplingSettings, noise_seed

SEEN = {"seen-00000": "a small red circle on a blue background", "seen-00001": "", "seen-00002": "a cat"}
SETTINGS = {"scheduler": "ddim", "steps": 2, "guidance_scale": 4.0, "seed": 5, "batch_size": 2}


@pytest.fixture
def job(base_path: Path, tmp_path: Path) -> Callable[..., dict[str, Any]]:
    """Two models, the base and one with other weights, on one prompt set of three."""
    frame = pd.DataFrame({"prompt_id": list(SEEN), "prompt": list(SEEN.values()), "category": "", "source": "test"})
    write_table(layout.prompts(tmp_path, "seen"), frame, "prompts")
    from diffusers import UNet2DConditionModel

    unet = UNet2DConditionModel.from_pretrained(base_path / "unet")
    with torch.no_grad():
        for parameter in unet.parameters():
            parameter.mul_(1.5)
    unet.save_pretrained(layout.model(tmp_path, "mini/dmpo/seed0") / "unet")

    def make(**changed: Any) -> dict[str, Any]:
        return {
            "root": str(tmp_path),
            "base": {"name": "mini", "path": str(base_path)},
            "models": ["mini/base", "mini/dmpo/seed0"],
            "prompt_sets": ["seen"],
            "generation": SETTINGS,
            "threads": 1,
            **changed,
        }

    return make


def pictures(root: Path, model: str) -> np.ndarray:
    folder = layout.images(root, model, "seen")
    return np.stack([np.asarray(Image.open(folder / f"{i:05d}.png"), dtype=int) for i in range(len(SEEN))])


def test_folder_is_complete_and_its_manifest_true(job: Callable[..., dict[str, Any]], tmp_path: Path) -> None:
    generate(job())
    for model in ("mini/base", "mini/dmpo/seed0"):
        folder = layout.images(tmp_path, model, "seen")
        manifest = read_table(folder / "manifest.parquet", "manifest")
        assert manifest["prompt_id"].tolist() == list(SEEN)
        assert manifest["sha256"].tolist() == [file_sha256(folder / file) for file in manifest["file"]]
        assert manifest["seed"].tolist() == [noise_seed(SamplingSettings(**SETTINGS), name) for name in SEEN]
        assert {p.name for p in folder.iterdir()} == {*manifest["file"], "manifest.parquet", "provenance.json"}
        provenance = json.loads((folder / "provenance.json").read_text())
        assert provenance["spec"] == {"generation": SETTINGS, "model": model, "prompt_set": "seen"}
        assert provenance["config_sha256"] == json_sha256(provenance["spec"])
        assert provenance["stage"] == "generate"
    assert abs(pictures(tmp_path, "mini/base") - pictures(tmp_path, "mini/dmpo/seed0")).max() > 1


def test_order_of_models_and_sharding_change_nothing(job: Callable[..., dict[str, Any]], tmp_path: Path) -> None:
    generate(job())
    together = pictures(tmp_path, "mini/dmpo/seed0")
    shutil.rmtree(tmp_path / "images")
    generate(job(models=["mini/dmpo/seed0"], generation={**SETTINGS, "batch_size": 3}))
    assert abs(pictures(tmp_path, "mini/dmpo/seed0") - together).max() <= 1


def test_missing_model_is_named(job: Callable[..., dict[str, Any]]) -> None:
    with pytest.raises(InputError, match=r"mini/sft/seed0/unet: no denoiser"):
        generate(job(models=["mini/sft/seed0"]))


def test_missing_prompt_set_is_named(job: Callable[..., dict[str, Any]]) -> None:
    with pytest.raises(InputError, match=r"unseen.parquet: no such file"):
        generate(job(prompt_sets=["unseen"]))
