from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from artifacts.errors import InputError
from sdpo import bases
from sdpo.bases.sd15 import StableDiffusion


def test_known_families() -> None:
    assert {"miniature", "sd15", "sdxl", "toy_surface"} <= set(bases.names())
    for name in bases.names():  # no helper module is among them: each can be opened
        assert callable(bases.REGISTRY.load(name).open_base)
    with pytest.raises(InputError, match=r"unknown base family 'sdxxl'.*did you mean 'sdxl'"):
        bases.open_base("sdxxl", Path())


@pytest.mark.parametrize("part", ["unet", "vae", "text_encoder", "tokenizer", "scheduler"])
def test_missing_part_is_named(base_path: Path, tmp_path: Path, part: str) -> None:
    copy = tmp_path / "base"
    shutil.copytree(base_path, copy)
    shutil.rmtree(copy / part)
    with pytest.raises(InputError, match=rf"base/{part}: missing"):
        bases.open_base("sd15", copy)


def test_coefficients_follow_the_linear_schedule(base_path: Path) -> None:
    base = StableDiffusion(base_path)
    betas = np.linspace(1e-4, 0.02, 1000)
    kept = np.cumprod(1 - betas)
    alpha, sigma = base.coefficients(torch.tensor([0, 500, 999]))
    np.testing.assert_allclose(alpha, np.sqrt(kept[[0, 500, 999]]), rtol=1e-4)
    np.testing.assert_allclose(sigma, np.sqrt(1 - kept[[0, 500, 999]]), rtol=1e-4)


def test_spread_timesteps_are_the_middles_of_equal_parts(base_path: Path) -> None:
    assert StableDiffusion(base_path).spread_timesteps(4).tolist() == [125, 375, 625, 875]


def test_drawn_timesteps_cover_the_schedule_evenly(base_path: Path) -> None:
    base = StableDiffusion(base_path)
    drawn = base.draw_timesteps(20_000, torch.Generator().manual_seed(0))
    assert drawn.min() >= 0
    assert drawn.max() == 999
    assert abs(float(drawn.float().mean()) - 499.5) < 6


def test_encoding_does_not_depend_on_the_batch(base_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    base = StableDiffusion(base_path)
    pixels = np.random.default_rng(0).integers(0, 256, (5, 32, 32, 3), dtype=np.uint8)
    images, prompts = [Image.fromarray(p) for p in pixels], ["a red circle", "", "a", "b c", "red " * 50]
    latents, texts = base.encode_images(images).mean, base.encode_prompts(prompts)["text"]
    assert latents.shape == (5, 4, 8, 8)
    assert texts.shape == (5, 20, 64)
    monkeypatch.setattr("sdpo.bases.sd15.BATCH", 2)
    torch.testing.assert_close(base.encode_images(images).mean, latents, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(base.encode_prompts(prompts)["text"], texts, atol=1e-5, rtol=1e-5)


def test_latents_are_those_of_the_autoencoder_times_its_factor(base_path: Path, tmp_path: Path) -> None:
    from diffusers import AutoencoderTiny

    copy = tmp_path / "base"
    shutil.copytree(base_path, copy)
    config = copy / "vae" / "config.json"
    config.write_text(json.dumps({**json.loads(config.read_text()), "scaling_factor": 2.5}))
    vae = AutoencoderTiny.from_pretrained(copy / "vae", torch_dtype=torch.float32)
    # Byte 255 is +1 and byte 0 is -1.
    with torch.no_grad():
        expected = 2.5 * torch.cat([vae.encode(torch.full((1, 3, 32, 32), v)).latents for v in (1.0, -1.0)])
    images = [Image.new("RGB", (32, 32), colour) for colour in ("white", "black")]
    torch.testing.assert_close(StableDiffusion(copy).encode_images(images).mean, expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("asked", ["v_prediction", "epsilon", "sample"])
def test_parametrisation_is_the_schedulers(base_path: Path, tmp_path: Path, asked: str) -> None:
    copy = tmp_path / "base"
    shutil.copytree(base_path, copy)
    file = copy / "scheduler" / "scheduler_config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "prediction_type": asked}))
    if asked == "sample":
        with pytest.raises(InputError, match="prediction_type is 'sample', expected epsilon or v_prediction"):
            StableDiffusion(copy)
    else:
        assert StableDiffusion(copy).parametrisation == asked
