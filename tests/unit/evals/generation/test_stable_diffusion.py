"""Our sampling against diffusers' own pipelines, on small random models in the layouts of SD 1.5 and SDXL."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from artifacts.errors import InputError
from evals.generation.pipelines import Pipeline, open_pipeline
from evals.generation.pipelines.stable_diffusion import SCHEDULERS
from evals.generation.sampling import sample, start_noise
from evals.generation.settings import SamplingSettings
from families.conditions import joined, moved

pytestmark = pytest.mark.slow

PROMPTS = ["a red cat", "", "the cafe " * 12]
IDS = ["p-0", "p-1", "p-2"]
CLEAN = SamplingSettings(scheduler="euler", steps=6, guidance_scale=7.5)
PAPER = SamplingSettings(protocol="sdpo", scheduler="euler", steps=50, guidance_scale=7.5, seed=0)


def opened(folder: Path) -> Any:
    """The folder as a pipeline of diffusers."""
    from diffusers import DiffusionPipeline

    pipeline = DiffusionPipeline.from_pretrained(folder, local_files_only=True)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


@pytest.fixture(scope="module", params=["sd", "sdxl"])
def reference(
    request: pytest.FixtureRequest, save_tiny_base: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory
) -> tuple[Any, Path]:
    """A pipeline of diffusers, and its folder."""
    folder = save_tiny_base(tmp_path_factory.mktemp(request.param) / "base", request.param)
    return opened(folder), folder


def ours(folder: Path, settings: SamplingSettings, **options: Any) -> tuple[Pipeline, torch.Tensor]:
    pipeline = open_pipeline(folder, dtype=settings.dtype, text_dtype=settings.working_dtype, **options)
    empty = pipeline.empty_prompt(zeros=settings.protocol == "clean")
    noise = start_noise(settings, IDS, pipeline.latent_shape)
    return pipeline, sample(pipeline, pipeline.denoiser, pipeline.encode_prompts(PROMPTS), empty, noise, settings)


def theirs(pipeline: Any, settings: SamplingSettings, **options: Any) -> torch.Tensor:
    """The pipeline called one prompt at a time, with our start noise and the scheduler read from its own file."""
    import diffusers

    kind = getattr(diffusers, SCHEDULERS[settings.scheduler])
    pipeline.scheduler = kind.from_pretrained(pipeline.name_or_path, subfolder="scheduler")
    shape = (4, 8, 8)
    latents = [
        pipeline(
            prompt,
            num_inference_steps=settings.steps,
            guidance_scale=settings.effective_guidance,
            latents=start_noise(settings, [name], shape),
            output_type="latent",
            **options,
        ).images
        for name, prompt in zip(IDS, PROMPTS, strict=True)
    ]
    return torch.cat(latents)


# Six steps of about 100 roundings each, of 6e-8 and either sign, which guidance of 7.5 multiplies by up to 2 × 7.5 - 1:
# 2e-5 where they cancel as chance has it, 5e-4 where none cancels. A step or a factor that is wrong shows above 1e-2.
ROUNDING = 5e-4


def relative(found: torch.Tensor, expected: torch.Tensor) -> float:
    """Largest deviation in units of the latents' standard deviation."""
    return float((found - expected).abs().max() / expected.std())


@pytest.mark.slow
@pytest.mark.parametrize("scheduler", list(SCHEDULERS))
def test_clean_protocol_is_the_pipeline_of_diffusers(reference: tuple[Any, Path], scheduler: str) -> None:
    settings = SamplingSettings(scheduler=scheduler, steps=6, guidance_scale=7.5)
    expected = theirs(reference[0], settings)
    assert relative(expected[0], expected[1]) > 0.1
    assert relative(ours(reference[1], settings)[1], expected) < ROUNDING


@pytest.mark.slow
def test_published_protocol_is_the_pipeline_with_one_more_guidance_and_one_noise(reference: tuple[Any, Path]) -> None:
    # An empty negative prompt that is given is encoded, where SDXL would otherwise take zeros.
    expected = theirs(reference[0], PAPER, negative_prompt="")
    assert relative(ours(reference[1], PAPER)[1], expected) < ROUNDING
    # The same noise for all prompts, and images that differ by text alone.
    noise = start_noise(PAPER, IDS, (4, 8, 8))
    assert torch.equal(noise[0], noise[2])
    assert relative(expected[0], expected[2]) > 0.1


def test_published_protocol_rounds_as_the_published_loop_does(reference: tuple[Any, Path]) -> None:
    """In bfloat16, to the last bit: the loop of Diffusion-SDPO's ``test_sd15.py``, for one prompt."""
    settings = SamplingSettings(protocol="sdpo", scheduler="euler", steps=10, guidance_scale=7.5, dtype="bfloat16")
    pipeline = open_pipeline(reference[1], dtype="bfloat16", text_dtype="bfloat16")
    told, empty = pipeline.encode_prompts(PROMPTS[:1]), pipeline.empty_prompt(zeros=False)
    noise = start_noise(settings, IDS[:1], pipeline.latent_shape)
    found = sample(pipeline, pipeline.denoiser, told, empty, noise, settings)
    scheduler = pipeline.sampler(settings)
    both = moved(joined([empty, told]), pipeline.device, torch.bfloat16)
    arguments: dict[str, Any] = {"encoder_hidden_states": both["text"]}
    if "pooled" in both:
        arguments["added_cond_kwargs"] = {"text_embeds": both["pooled"], "time_ids": both["time_ids"]}
    latents = noise * scheduler.init_noise_sigma
    with torch.inference_mode():
        for t in scheduler.timesteps:
            inputs = scheduler.scale_model_input(torch.cat([latents] * 2), t)
            uncond, text = pipeline.denoiser(inputs, t, **arguments).sample.chunk(2)
            latents = scheduler.step(text + 7.5 * (text - uncond), t, latents).prev_sample
    assert found.dtype == latents.dtype == torch.bfloat16
    assert torch.equal(found, latents)


def test_protocols_differ_in_what_no_text_is(save_tiny_base: Callable[..., Path], tmp_path: Path) -> None:
    save_tiny_base(tmp_path, "sdxl")
    pipeline = open_pipeline(tmp_path)
    zeros, encoded = pipeline.empty_prompt(zeros=True), pipeline.empty_prompt(zeros=False)
    assert zeros["text"].abs().max() == 0
    assert zeros["pooled"].abs().max() == 0
    assert encoded["text"].abs().max() > 0.1
    # Heights and widths before cropping, the crop's corner, and the target.
    assert zeros["time_ids"].tolist() == [[16.0, 16.0, 0.0, 0.0, 16.0, 16.0]]
    index = json.loads((tmp_path / "model_index.json").read_text())
    (tmp_path / "model_index.json").write_text(json.dumps({**index, "force_zeros_for_empty_prompt": False}))
    torch.testing.assert_close(open_pipeline(tmp_path).empty_prompt(zeros=True)["text"], encoded["text"])


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["sd", "sdxl"])
def test_v_prediction_comes_from_the_scheduler_config(
    save_tiny_base: Callable[..., Path], tmp_path: Path, kind: str
) -> None:
    folder = save_tiny_base(tmp_path / "v", kind, prediction_type="v_prediction")
    expected = theirs(opened(folder), CLEAN)
    assert relative(ours(folder, CLEAN)[1], expected) < ROUNDING
    # The same weights read as another prediction.
    assert relative(ours(save_tiny_base(tmp_path / "e", kind), CLEAN)[1], expected) > 0.1


def test_decoding_is_that_of_the_pipeline_in_float32(reference: tuple[Any, Path]) -> None:
    pipeline, latents = ours(reference[1], CLEAN)
    factor = reference[0].vae.config.scaling_factor
    with torch.no_grad():
        decoded = reference[0].vae.decode(latents / factor, return_dict=False)[0]
    expected = reference[0].image_processor.postprocess(decoded, output_type="pil")
    assert pipeline.autoencoder.module.dtype == torch.float32
    for found, wanted in zip(pipeline.decode(latents), expected, strict=True):
        assert found.size == (16, 16)
        # The last digit of a byte may turn on rounding.
        assert np.abs(np.asarray(found, dtype=int) - np.asarray(wanted, dtype=int)).max() <= 1


def test_separate_autoencoder_takes_the_place_of_the_own(save_tiny_base: Callable[..., Path], tmp_path: Path) -> None:
    base = opened(save_tiny_base(tmp_path / "base", "sdxl"))
    with torch.no_grad():
        base.vae.decoder.conv_out.bias.add_(1.0)
    base.vae.save_pretrained(tmp_path / "vae")
    shutil.rmtree(tmp_path / "base/vae/")
    base.vae.save_config(tmp_path / "base/vae")
    latents = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    with pytest.raises(InputError, match="vae: cannot be loaded"):
        open_pipeline(tmp_path / "base").decode(latents)
    found = np.asarray(open_pipeline(tmp_path / "base", vae=tmp_path / "vae").decode(latents)[0], dtype=int)
    with torch.no_grad():
        pixels = base.vae.decode(latents / base.vae.config.scaling_factor).sample[0].permute(1, 2, 0)
    assert np.abs(found - ((pixels / 2 + 0.5).clamp(0, 1) * 255).round().numpy()).max() <= 1


@pytest.mark.parametrize(("protocol", "working"), [("clean", torch.float32), ("sdpo", torch.bfloat16)])
def test_bfloat16_denoiser(reference: tuple[Any, Path], protocol: str, working: torch.dtype) -> None:
    settings = SamplingSettings(protocol=protocol, scheduler="euler", steps=4, guidance_scale=2.0, dtype="bfloat16")
    pipeline, latents = ours(reference[1], settings)
    assert pipeline.denoiser.dtype == torch.bfloat16
    assert {encoder.dtype for encoder in pipeline.text_encoders} == {working}
    assert latents.dtype == working
    # Near the float32 result from the same noise, but not equal to it.
    noise = start_noise(settings, IDS, pipeline.latent_shape).float()
    exact = open_pipeline(reference[1])
    full = SamplingSettings(protocol=protocol, scheduler="euler", steps=4, guidance_scale=2.0)
    empty = exact.empty_prompt(zeros=protocol == "clean")
    expected = sample(exact, exact.denoiser, exact.encode_prompts(PROMPTS), empty, noise, full)
    deviation = float((latents.float() - expected).std() / expected.std())
    assert 1e-5 < deviation < 0.1
    assert np.asarray(pipeline.decode(latents)[0]).shape == (16, 16, 3)


def test_text_encoders_are_loaded_only_for_text(reference: tuple[Any, Path], tmp_path: Path) -> None:
    copy = tmp_path / "base"
    shutil.copytree(reference[1], copy)
    shutil.rmtree(copy / "text_encoder")
    pipeline = open_pipeline(copy)
    assert pipeline.latent_shape == (4, 8, 8)
    with pytest.raises(InputError, match="text_encoder: missing"):
        pipeline.encode_prompts(["a"])


def test_denoiser_that_does_not_go_with_its_text_encoders(save_tiny_base: Callable[..., Path], tmp_path: Path) -> None:
    save_tiny_base(tmp_path / "sd", "sd")
    save_tiny_base(tmp_path / "sdxl", "sdxl")
    shutil.copytree(tmp_path / "sd/unet", tmp_path / "sdxl/unet", dirs_exist_ok=True)
    with pytest.raises(InputError, match="addition_embed_type is None, which does not go with two text encoders"):
        open_pipeline(tmp_path / "sdxl")


def test_base_of_another_kind(tmp_path: Path) -> None:
    (tmp_path / "model_index.json").write_text(json.dumps({"transformer": ["diffusers", "SD3Transformer2DModel"]}))
    with pytest.raises(InputError, match=r"names no tokenizer; expected a base shaped like Stable Diffusion 1\.x"):
        open_pipeline(tmp_path)
