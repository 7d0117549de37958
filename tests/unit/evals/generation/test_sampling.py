from __future__ import annotations

import json
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from artifacts.errors import InputError
from evals.generation.pipelines import Pipeline, open_pipeline
from evals.generation.pipelines.stable_diffusion import SCHEDULERS
from evals.generation.sampling import noise_seed, sample, sample_prompts, start_noise
from evals.generation.settings import SamplingSettings
from families.conditions import Conditions

SHAPE = (4, 8, 8)
IDS = [f"seen-{i:05d}" for i in range(8)]
PROMPTS = [f"a small {colour} circle on a blue background" for colour in ("red", "green", "white", "cyan")] * 2


@pytest.fixture(scope="module")
def pipeline(base_path: Path) -> Pipeline:
    return open_pipeline(base_path)


def test_noise_of_a_prompt_is_its_own_whatever_stands_beside_it() -> None:
    settings = SamplingSettings(seed=3)
    together = start_noise(settings, IDS, SHAPE)
    backwards = start_noise(settings, IDS[::-1], SHAPE)
    assert torch.equal(together, backwards.flip(0))
    assert torch.equal(together[5:6], start_noise(settings, IDS[5:6], SHAPE))
    assert len({tuple(noise.flatten().tolist()) for noise in together}) == len(IDS)
    assert not torch.equal(together, start_noise(settings.model_copy(update={"seed": 4}), IDS, SHAPE))
    # Nothing but seed and identifier matters.
    assert torch.equal(together, start_noise(SamplingSettings(seed=3, batch_size=1, guidance_scale=9), IDS, SHAPE))


def test_noise_is_standard_normal() -> None:
    noise = start_noise(SamplingSettings(), [f"p-{i}" for i in range(200)], SHAPE)
    assert abs(float(noise.mean())) < 0.02
    assert abs(float(noise.std()) - 1) < 0.02


def test_seeds_of_prompts_fit_the_manifest() -> None:
    seeds = [noise_seed(SamplingSettings(seed=1), f"p-{i}") for i in range(1000)]
    assert len(set(seeds)) == 1000
    assert all(0 <= seed < 2**63 for seed in seeds)
    # What the CPU's generator uses of them, as docs/generation.md says.
    assert len({seed % 2**32 for seed in seeds}) == 1000
    drawn = [torch.randn(3, generator=torch.Generator().manual_seed(seeds[0] % 2**32 + k * 2**32)) for k in range(3)]
    assert torch.equal(drawn[0], drawn[1]) and torch.equal(drawn[0], drawn[2])
    # seed 1 of prompt 2 is not seed 12 of a prompt without a name: the separator keeps them apart.
    assert noise_seed(SamplingSettings(seed=1), "2") != noise_seed(SamplingSettings(seed=12), "")


def test_published_protocol_shares_the_noise_and_adds_one_to_the_guidance() -> None:
    settings = SamplingSettings(protocol="sdpo", seed=7, guidance_scale=7.5)
    noise = start_noise(settings, IDS[:3], SHAPE)
    assert torch.equal(noise[0], noise[1])
    assert torch.equal(noise[0], torch.randn(SHAPE, generator=torch.Generator().manual_seed(7)))
    assert noise_seed(settings, "any") == 7
    assert settings.effective_guidance == 8.5
    assert SamplingSettings(protocol="clean", guidance_scale=7.5).effective_guidance == 7.5


class FakeScheduler:
    """Returns what it is given: the combined prediction."""

    init_noise_sigma = 1.0

    def __init__(self, steps: int) -> None:
        self.timesteps = list(range(steps))

    def scale_model_input(self, latents: torch.Tensor, timestep: Any) -> torch.Tensor:
        return latents

    def step(self, combined: torch.Tensor, timestep: Any, latents: torch.Tensor) -> Any:
        return SimpleNamespace(prev_sample=combined)


class FakePipeline:
    """Its denoiser predicts the mean of the text embedding."""

    guides_itself = False

    def sampler(self, settings: SamplingSettings) -> FakeScheduler:
        return FakeScheduler(settings.steps)

    def told(self, conditions: Conditions, settings: SamplingSettings) -> Conditions:
        return conditions

    def predict(self, denoiser: Any, latents: torch.Tensor, timestep: Any, conditions: Conditions) -> torch.Tensor:
        return conditions["text"].mean((1, 2))[:, None, None, None].expand_as(latents)


def sampled(told: float, empty: float, settings: SamplingSettings) -> list[float]:
    """Values of the latents of two prompts, whose texts and the empty one are these numbers."""
    pipeline: Any = FakePipeline()
    conditions, without = {"text": torch.full((2, 5, 6), told)}, {"text": torch.full((1, 5, 6), empty)}
    latents = sample(pipeline, torch.nn.Linear(1, 1), conditions, without, torch.zeros(2, 1, 2, 2), settings)
    found: list[float] = latents.unique().tolist()
    return found


@pytest.mark.parametrize(("protocol", "expected"), [("clean", 1 + 3 * (4 - 1)), ("sdpo", 4 + 3 * (4 - 1))])
def test_guidance_by_hand(protocol: str, expected: float) -> None:
    settings = SamplingSettings(protocol=protocol, guidance_scale=3, steps=1)
    assert sampled(4.0, 1.0, settings) == [expected]


@pytest.mark.parametrize("scheduler", list(SCHEDULERS))
def test_images_do_not_depend_on_the_batch(pipeline: Pipeline, scheduler: str) -> None:
    conditions = pipeline.encode_prompts(PROMPTS)
    settings = SamplingSettings(scheduler=scheduler, steps=3, batch_size=8)
    whole, parts = (
        np.stack(
            [
                np.asarray(image, dtype=int)
                for image in sample_prompts(
                    pipeline, pipeline.denoiser, conditions, IDS, settings.model_copy(update={"batch_size": size})
                )
            ]
        )
        for size in (8, 3)
    )
    assert whole.shape == (8, 32, 32, 3)
    assert abs(whole - parts).max() <= 1
    # Prompt 0 and prompt 4 are the same text with noise of their own.
    assert abs(whole[0] - whole[4]).max() > 1


def test_guidance_of_one_is_the_conditional_prediction_alone() -> None:
    settings = SamplingSettings(guidance_scale=1.0, steps=1)
    assert sampled(4.0, float("nan"), settings) == [4.0]


def test_schedulers_keep_the_schedule_of_the_base(pipeline: Pipeline) -> None:
    for name, class_name in SCHEDULERS.items():
        scheduler = pipeline.sampler(SamplingSettings(scheduler=name))
        assert type(scheduler).__name__ == class_name
        assert (scheduler.config.beta_start, scheduler.config.beta_end) == (1e-4, 0.02)
        assert scheduler.config.beta_schedule == "linear"


def test_prompts_are_padded_and_cut(pipeline: Pipeline) -> None:
    embeddings = pipeline.encode_prompts(["", "a red circle", "red " * 100])["text"]
    assert embeddings.shape == (3, 20, 64)
    assert embeddings.dtype == torch.float32
    torch.testing.assert_close(
        pipeline.encode_prompts(["a red circle"])["text"][0], embeddings[1], atol=1e-5, rtol=1e-5
    )


def test_decoding_undoes_the_scaling_factor(pipeline: Pipeline) -> None:
    latents = torch.randn(2, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    module = pipeline.autoencoder.module
    with torch.no_grad():
        pixels = module.decode(latents / module.config.scaling_factor).sample
    expected = ((pixels / 2 + 0.5).clamp(0, 1) * 255).round().permute(0, 2, 3, 1).numpy()
    found = np.stack([np.asarray(image) for image in pipeline.decode(latents)])
    np.testing.assert_array_equal(found, expected)


def test_no_part_is_trainable(pipeline: Pipeline) -> None:
    for part in (pipeline.denoiser, pipeline.autoencoder.module, *pipeline.text_encoders):
        assert not part.training
        assert not any(parameter.requires_grad for parameter in part.parameters())


def test_foreign_library_is_not_run(base_path: Path, tmp_path: Path) -> None:
    copy = tmp_path / "base"
    shutil.copytree(base_path, copy)
    index = copy / "model_index.json"
    index.write_text(json.dumps({**json.loads(index.read_text()), "vae": ["os", "system"]}))
    with pytest.raises(InputError, match="part 'vae' comes from 'os'; only diffusers and transformers are run"):
        open_pipeline(copy)


def test_folder_that_is_no_base(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"model_index.json: no such file"):
        open_pipeline(tmp_path)


def test_model_without_a_denoiser_is_named(pipeline: Pipeline, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="unet: no denoiser; train the model first"):
        pipeline.load_denoiser(tmp_path)


def test_images_of_a_prompt_start_from_noise_of_their_own() -> None:
    settings = SamplingSettings(seed=3)
    first, second = (start_noise(settings, IDS, SHAPE, image=image) for image in (0, 1))
    assert torch.equal(first, start_noise(settings, IDS, SHAPE))
    assert len({noise_seed(settings, name, image) for name in IDS for image in range(4)}) == 4 * len(IDS)
    assert not torch.equal(first, second)
    published = SamplingSettings(protocol="sdpo", seed=3)
    # One noise for all prompts: that of the published code with the next seed.
    shared = start_noise(published, IDS[:2], SHAPE, image=1)
    assert torch.equal(shared[0], shared[1])
    assert torch.equal(shared, start_noise(published.model_copy(update={"seed": 4}), IDS[:2], SHAPE))
