from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from families.flow import open_flow
from worlds.miniature import tokenizer
from worlds.miniature.base_training import build_autoencoder
from worlds.miniature.denoiser_training import captioned_latents
from worlds.miniature.flow_training import FlowModules, FlowRecipe, train_flow
from worlds.miniature.pairs_samples import draw
from worlds.miniature.scenes import training_scene

BRIEF = FlowRecipe(pictures=512, denoiser_steps=80, cycles=1, batch_size=16)


@pytest.fixture(scope="module")
def vae() -> Any:
    torch.manual_seed(0)
    return build_autoencoder().eval()


@pytest.fixture(scope="module")
def brief(vae: Any) -> FlowModules:
    return train_flow(BRIEF, vae)


def velocity_error(folder: Path, vae: Any) -> float:
    """Mean squared error of the predicted velocity on new pictures, in units of the target's."""
    model = open_flow(folder, "sd3")
    pictures = captioned_latents(replace(BRIEF, seed=50, pictures=128), vae, 1)
    noise = torch.randn(pictures.latents.shape, generator=torch.Generator().manual_seed(0))
    sigmas = torch.linspace(0.05, 0.95, len(noise))
    share = sigmas[:, None, None, None]
    noisy = (1 - share) * pictures.latents + share * noise
    denoiser = model.denoiser_class.from_pretrained(folder / "transformer", torch_dtype=torch.float32)
    with torch.no_grad():
        predicted = model.velocity(denoiser, noisy, sigmas, model.encode_prompts(pictures.captions[1:]))
    target = noise - pictures.latents
    return float((predicted - target).square().mean() / target.square().mean())


@pytest.mark.slow
def test_a_written_folder_is_a_base_that_predicts_velocities(brief: FlowModules, vae: Any, tmp_path: Path) -> None:
    brief.save(tmp_path / "trained")
    train_flow(replace(BRIEF, denoiser_steps=2, denoiser_learning_rate=1e-9), vae).save(tmp_path / "fresh")
    # An untrained transformer predicts about nothing.
    assert velocity_error(tmp_path / "fresh", vae) > 0.9
    assert velocity_error(tmp_path / "trained", vae) < 0.7
    scenes = [training_scene(np.random.default_rng(3)) for _ in range(2)]
    pictures = draw(tmp_path / "trained", scenes, key="x", steps=2, guidance_scale=2.0)
    assert pictures.shape == (2, 32, 32, 3)
    assert not any(str(tmp_path) in file.read_text() for file in (tmp_path / "trained").rglob("*.json"))


@pytest.mark.slow
def test_seed_decides_the_weights_and_every_part_learns(vae: Any) -> None:
    recipe = replace(BRIEF, pictures=64, denoiser_steps=3, batch_size=8)
    first, again, other = (train_flow(r, vae) for r in (recipe, recipe, replace(recipe, seed=1)))
    start = train_flow(replace(recipe, denoiser_learning_rate=1e-12), vae)
    for part in ("transformer", "text_encoder", "text_encoder_3"):
        mine, same, different, before = (getattr(x, part).state_dict() for x in (first, again, other, start))
        assert all(torch.equal(mine[key], same[key]) for key in mine), part
        assert not all(torch.equal(mine[key], different[key]) for key in mine), part
        assert any((mine[key] - before[key]).abs().max() > 1e-5 for key in mine if mine[key].is_floating_point()), part


def test_captions_fit_both_tokenizers() -> None:
    rng = np.random.default_rng(0)
    captions = [training_scene(rng).caption for _ in range(500)]
    pieces = tokenizer.build_t5()
    for caption in captions:
        ids = pieces(caption).input_ids
        # A piece a word, and an end.
        assert len(ids) == len(caption.split()) + 1 <= tokenizer.T5_LENGTH
        assert pieces.decode(ids[:-1]) == caption
    assert len({tuple(pieces(caption).input_ids) for caption in captions}) == len(set(captions))
