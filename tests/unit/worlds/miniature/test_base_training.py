from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from worlds.miniature import base_training, denoiser_training, tokenizer
from worlds.miniature.base_training import BaseModules, BaseRecipe, train_autoencoder, train_base
from worlds.miniature.rendering import faulty, render
from worlds.miniature.scenes import random_scene, training_scene

BRIEF = BaseRecipe(pictures=512, autoencoder_steps=60, denoiser_steps=60, cycles=1, batch_size=16)


@pytest.fixture(scope="module")
def brief() -> BaseModules:
    return train_base(BRIEF)


def untrained() -> BaseModules:
    torch.manual_seed(0)
    words = tokenizer.build()
    parts = base_training.build_text_encoder(words).eval(), words, base_training.build_unet().eval()
    return BaseModules(base_training.build_autoencoder().eval(), *parts, base_training.build_scheduler())


def reconstruction_error(vae: Any) -> float:
    """Mean squared error on clean pictures that training has not seen."""
    rng = np.random.default_rng(100)
    pixels = base_training.to_tensor(render([random_scene(rng) for _ in range(64)], rng))
    with torch.no_grad():
        return float(torch.nn.functional.mse_loss(vae.decode(vae.encode(pixels).latents).sample, pixels))


def noise_error(base: BaseModules, latents: torch.Tensor, captions: list[str]) -> float:
    """Mean squared error of the predicted noise at timesteps spread over the schedule."""
    random = torch.Generator().manual_seed(0)
    noise = torch.randn(latents.shape, generator=random)
    timesteps = torch.linspace(10, 990, len(latents)).long()
    ids = base.tokenizer(captions, padding="max_length", truncation=True, return_tensors="pt").input_ids
    with torch.no_grad():
        hidden = base.text_encoder(ids).last_hidden_state
        predicted = base.unet(base.scheduler.add_noise(latents, noise, timesteps), timesteps, hidden).sample
    return float(torch.nn.functional.mse_loss(predicted, noise))


@pytest.mark.slow
def test_brief_training_reconstructs_far_better_than_none(brief: BaseModules) -> None:
    before, after = reconstruction_error(untrained().vae), reconstruction_error(brief.vae)
    assert after < before / 4


@pytest.mark.slow
def test_brief_training_predicts_the_noise(brief: BaseModules) -> None:
    rng = np.random.default_rng(101)
    scenes = [training_scene(rng) for _ in range(64)]
    latents = denoiser_training.encode(brief.vae, faulty(scenes, rng, contradiction=0.3, degradation=0.3))
    captions = [scene.caption for scene in scenes]
    # Predicting zero has an error of one.
    assert noise_error(untrained(), latents, captions) > 0.95
    assert noise_error(brief, latents, captions) < 0.75


@pytest.mark.slow
def test_latents_have_unit_variance(brief: BaseModules) -> None:
    rng = np.random.default_rng(102)
    latents = denoiser_training.encode(brief.vae, render([random_scene(rng) for _ in range(300)], rng))
    assert latents.shape == (300, 4, 8, 8)
    assert 0.8 < float(latents.std()) < 1.25
    assert brief.vae.config.scaling_factor != 1


@pytest.mark.slow
def test_text_encoder_is_trained_too(brief: BaseModules) -> None:
    torch.manual_seed(BRIEF.seed + 1)
    fresh = base_training.build_text_encoder(brief.tokenizer)
    moved = [not torch.equal(a, b) for a, b in zip(brief.text_encoder.parameters(), fresh.parameters(), strict=True)]
    assert all(moved)


@pytest.mark.slow
def test_seed_decides_the_weights() -> None:
    recipe = replace(BRIEF, pictures=128, autoencoder_steps=6, denoiser_steps=6, batch_size=16)
    first, again, other = (train_base(r) for r in (recipe, recipe, replace(recipe, seed=1)))
    for part in ("vae", "unet", "text_encoder"):
        mine, same, different = (getattr(base, part).state_dict() for base in (first, again, other))
        assert all(torch.equal(mine[key], same[key]) for key in mine), part
        assert not all(torch.equal(mine[key], different[key]) for key in mine), part
    assert first.vae.config.scaling_factor == again.vae.config.scaling_factor


@pytest.mark.slow
def test_going_on_after_the_first_cycle_is_the_whole_training(tmp_path: Path) -> None:
    recipe = replace(BRIEF, pictures=64, autoencoder_steps=3, denoiser_steps=3, cycles=2, batch_size=8)
    whole = train_base(recipe)
    resumed = train_base(recipe, start=train_base(replace(recipe, cycles=1)))
    first = train_base(replace(recipe, cycles=1))
    assert not torch.equal(first.unet.conv_in.weight, whole.unet.conv_in.weight)
    # A saved base is half precision, so it starts the second cycle a rounding away.
    first.save(tmp_path)
    loaded = train_base(recipe, start=BaseModules.load(tmp_path))
    loaded.save(tmp_path / "again")
    assert not any(str(tmp_path) in file.read_text() for file in (tmp_path / "again").rglob("*.json"))
    for part in ("vae", "unet", "text_encoder"):
        mine, theirs, near = (getattr(base, part).state_dict() for base in (whole, resumed, loaded))
        assert all(torch.equal(value, theirs[key]) for key, value in mine.items()), part
        assert all(torch.allclose(value, near[key], atol=0.05) for key, value in mine.items()), part


@pytest.mark.slow
def test_autoencoder_alone_is_that_of_the_base() -> None:
    recipe = replace(BRIEF, pictures=64, autoencoder_steps=3, denoiser_steps=1, batch_size=8)
    alone = train_autoencoder(recipe).state_dict()
    assert all(torch.equal(value, alone[key]) for key, value in train_base(recipe).vae.state_dict().items())


@pytest.mark.slow
def test_written_folder_is_a_stable_diffusion_pipeline(brief: BaseModules, tmp_path: Path) -> None:
    from diffusers import StableDiffusionPipeline

    brief.save(tmp_path / "base")
    assert {p.suffix for p in (tmp_path / "base" / "unet").iterdir()} == {".json", ".safetensors"}
    # Saving in half precision leaves the modules in single.
    assert next(brief.unet.parameters()).dtype == torch.float32
    pipeline = StableDiffusionPipeline.from_pretrained(tmp_path / "base", torch_dtype=torch.float32)
    pipeline.set_progress_bar_config(disable=True)
    image = pipeline(
        "a small red circle on a blue background",
        num_inference_steps=3,
        generator=torch.Generator().manual_seed(0),
    ).images[0]
    assert image.size == (32, 32)
    assert image.mode == "RGB"
    for key, value in brief.unet.state_dict().items():
        torch.testing.assert_close(pipeline.unet.state_dict()[key], value, atol=1e-3, rtol=1e-3)
    assert pipeline.vae.config.scaling_factor == brief.vae.config.scaling_factor


def test_schedule_ends_in_nearly_pure_noise() -> None:
    kept = base_training.build_scheduler().alphas_cumprod
    assert len(kept) == 1000
    assert float(kept[0]) == pytest.approx(1 - 1e-4)
    assert float(kept[-1]) < 1e-4


def test_pictures_become_channels_first_from_minus_one_to_one() -> None:
    pictures = np.zeros((1, 32, 32, 3), dtype=np.float32)
    pictures[0, 2, 5] = (1, 0.5, 0)
    tensor = base_training.to_tensor(pictures)
    assert tensor.shape == (1, 3, 32, 32)
    assert tensor[0, :, 2, 5].tolist() == [1, 0, -1]
    assert tensor[0, :, 5, 2].tolist() == [-1, -1, -1]
