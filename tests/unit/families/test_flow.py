"""Flow models against diffusers' own pipelines, on small random models of the same classes and files."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch

from artifacts.errors import InputError
from evals.generation.pipelines import open_pipeline
from evals.generation.sampling import sample, start_noise
from evals.generation.settings import SamplingSettings
from families.flow import open_flow
from families.flow.token_latents import packed, positions, unpacked

PROMPTS = ["a red cat", "", "the cafe of an old town by the sea"]
IDS = ["p-0", "p-1", "p-2"]
SHAPE = (4, 16, 16)
SETTINGS = SamplingSettings(scheduler="euler", steps=5, guidance_scale=4.0, size=32)


def opened(folder: Path, **parts: Any) -> Any:
    from diffusers import DiffusionPipeline

    pipeline = DiffusionPipeline.from_pretrained(folder, local_files_only=True, **parts)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


@pytest.fixture(scope="module", params=["sd3", "flux", "ovis_image"])
def reference(request: pytest.FixtureRequest, tiny_flows: dict[str, Path]) -> tuple[str, Any, Path]:
    """Family, a pipeline of diffusers, and its folder."""
    folder = tiny_flows[request.param]
    return request.param, opened(folder), folder


def theirs(family: str, pipeline: Any, settings: SamplingSettings) -> list[Any]:
    """Images of the library's pipeline, one prompt at a time, from our start noise."""
    images = []
    for name, prompt in zip(IDS, PROMPTS, strict=True):
        noise = start_noise(settings, [name], SHAPE)
        lengths = {"flux": {"max_sequence_length": 24}, "sd3": {"max_sequence_length": 24}}
        images += pipeline(
            prompt,
            num_inference_steps=settings.steps,
            guidance_scale=settings.guidance_scale,
            latents=noise if family == "sd3" else packed(noise),
            height=32,
            width=32,
            **lengths.get(family, {}),
        ).images
    return images


@pytest.mark.parametrize(("steps", "guidance"), [(5, 4.0), (1, 1.0)])
def test_images_are_those_of_the_library(reference: tuple[str, Any, Path], steps: int, guidance: float) -> None:
    family, pipeline, folder = reference
    settings = SETTINGS.model_copy(update={"steps": steps, "guidance_scale": guidance})
    expected = [np.asarray(image, dtype=int) for image in theirs(family, pipeline, settings)]
    ours = open_pipeline(folder, size=32)
    latents = sample(
        ours,
        ours.denoiser,
        ours.encode_prompts(PROMPTS),
        ours.empty_prompt(zeros=True),
        start_noise(settings, IDS, ours.latent_shape),
        settings,
    )
    assert ours.latent_shape == SHAPE
    found = [np.asarray(image, dtype=int) for image in ours.decode(latents)]
    assert np.abs(expected[0] - expected[1]).max() > 10
    for one, other in zip(found, expected, strict=True):
        assert one.shape == (32, 32, 3)
        assert np.abs(one - other).max() <= 1


def test_conditions_of_a_prompt_do_not_hang_on_its_neighbours(reference: tuple[str, Any, Path]) -> None:
    model = open_flow(reference[2])
    together = model.encode_prompts(PROMPTS)
    assert {name: tensor.shape[-1] for name, tensor in together.items()} == model.condition_widths
    for row, prompt in enumerate(PROMPTS):
        for name, tensor in model.encode_prompts([prompt]).items():
            torch.testing.assert_close(together[name][row : row + 1], tensor, rtol=1e-5, atol=1e-5)


def test_tokens_hold_two_by_two_latents_row_by_row() -> None:
    latents = torch.arange(2 * 3 * 4 * 6, dtype=torch.float32).reshape(2, 3, 4, 6)
    tokens = packed(latents)
    assert tokens.shape == (2, 6, 12)
    # Second row of tokens, third column; channel 1.
    assert tokens[1, 5, 4:8].tolist() == latents[1, 1, 2:4, 4:6].flatten().tolist()
    assert torch.equal(unpacked(tokens, 4, 6), latents)
    assert positions(4, 6, latents).tolist() == [[0, r, c] for r in range(2) for c in range(3)]


def changed(source: Path, target: Path, file: str, **values: Any) -> Path:
    shutil.copytree(source, target)
    path = target / file
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))
    return target


@pytest.fixture
def sd3(tiny_flows: dict[str, Path]) -> Path:
    return tiny_flows["sd3"]


def test_text_encoders_that_are_left_out_say_zeros(sd3: Path, tmp_path: Path) -> None:
    whole = open_flow(sd3).encode_prompts(PROMPTS)
    names = ["text_encoder", "text_encoder_2", "text_encoder_3"]
    found = {name: open_flow(sd3, without=[name]).encode_prompts(PROMPTS) for name in names}
    # CLIPs of width 16 and 24 side by side in the first 16 tokens, T5 behind them; pooled 24 + 24.
    places = {
        "text_encoder": [("text", (slice(None), slice(0, 16), slice(0, 16))), ("pooled", (slice(None), slice(0, 24)))],
        "text_encoder_2": [
            ("text", (slice(None), slice(0, 16), slice(16, 40))),
            ("pooled", (slice(None), slice(24, 48))),
        ],
    }
    for name, cut in places.items():
        expected = {key: tensor.clone() for key, tensor in whole.items()}
        for key, place in cut:
            assert expected[key][place].abs().min() > 0
            expected[key][place] = 0
        for key, tensor in expected.items():
            torch.testing.assert_close(found[name][key], tensor, rtol=1e-5, atol=1e-5)
    without = found["text_encoder_3"]["text"]
    assert without.shape == (3, 16 + 256, 40)
    assert without[:, 16:].abs().max() == 0
    torch.testing.assert_close(without[:, :16], whole["text"][:, :16], rtol=1e-5, atol=1e-5)
    # A pipeline that was saved without it says so in its index.
    index = {"text_encoder_3": [None, None], "tokenizer_3": [None, None]}
    copy = changed(sd3, tmp_path / "base", "model_index.json", **index)
    shutil.rmtree(copy / "text_encoder_3")
    torch.testing.assert_close(open_flow(copy).encode_prompts(PROMPTS)["text"], without, rtol=1e-5, atol=1e-5)
    pipeline = opened(sd3, text_encoder_3=None, tokenizer_3=None)
    settings = SETTINGS.model_copy(update={"guidance_scale": 1.0})
    noise = start_noise(settings, IDS[:1], SHAPE)
    expected_image = pipeline(PROMPTS[0], num_inference_steps=5, guidance_scale=1.0, latents=noise).images[0]
    ours = open_pipeline(sd3, without=["text_encoder_3"])
    told = ours.encode_prompts(PROMPTS[:1])
    (image,) = ours.decode(sample(ours, ours.denoiser, told, told, noise, settings))
    assert np.abs(np.asarray(image, dtype=int) - np.asarray(expected_image, dtype=int)).max() <= 1


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda p, t: open_flow(p, "flux"), r"its transformer is of family 'sd3'.*set base.family to sd3"),
        (
            lambda p, t: open_flow(p, without=["text_encoder_4"]),
            r"base.without: .*text_encoder_4.* expected one of text",
        ),
        (
            lambda p, t: open_flow(changed(p, t, "scheduler/scheduler_config.json", _class_name="DDIMScheduler")),
            r"scheduler_config.json: the scheduler is a DDIMScheduler, expected one of flow matching",
        ),
        (
            lambda p, t: open_flow(changed(p, t, "scheduler/scheduler_config.json", stochastic_sampling=True)),
            r"stochastic_sampling is set",
        ),
        (
            lambda p, t: open_flow(changed(p, t, "transformer/config.json", _class_name="WanTransformer3DModel")),
            r"the denoiser is a WanTransformer3DModel, expected one of SD3Transformer2DModel, Flux",
        ),
        (
            lambda p, t: open_flow(changed(p, t, "transformer/config.json", in_channels=16)),
            r"takes latents of 16 channels, but .*vae makes 4",
        ),
        (
            lambda p, t: open_flow(changed(p, t, "text_encoder_3/config.json", d_model=48)),
            r"text_encoder_3 makes embeddings of width 48, its transformer takes 40",
        ),
        (
            lambda p, t: open_flow(changed(p, t, "text_encoder/config.json", projection_dim=32)),
            r"pooled embeddings of width 56, its transformer takes 48",
        ),
        (lambda p, t: open_pipeline(p, size=36).latent_shape, None),
        (lambda p, t: open_pipeline(p, size=34), r"generation.size is 34, expected multiples of 4"),
        (lambda p, t: drawn(p, scheduler="ddim"), r"generation.scheduler is ddim, which no flow model"),
        (
            lambda p, t: drawn(p, protocol="sdpo", scheduler="euler"),
            r"generation.protocol is sdpo, which no",
        ),
        (lambda p, t: open_pipeline(p, size=64), r"generation.size is 64, expected at most 48 a side, 12 tokens"),
    ],
)
def test_what_does_not_fit_is_one_line(
    sd3: Path, tmp_path: Path, change: Callable[[Path, Path], Any], message: str | None
) -> None:
    if message is None:
        assert change(sd3, tmp_path / "base") == (4, 18, 18)
        return
    with pytest.raises(InputError, match=message) as error:
        change(sd3, tmp_path / "base")
    assert "\n" not in str(error.value)


def test_guidance_on_a_model_that_knows_none(tiny_pipelines: ModuleType, tmp_path: Path) -> None:
    schnell = tiny_pipelines.save_flux(tmp_path / "base", guidance=False)
    assert drawn(schnell, scheduler="euler", size=32, guidance_scale=1.0).shape == (1, *SHAPE)
    message = r"generation.guidance_scale is 3.5, but .* was distilled to do without guidance.*expected 1"
    with pytest.raises(InputError, match=message):
        drawn(schnell, scheduler="euler", size=32, guidance_scale=3.5)


def drawn(folder: Path, **settings: Any) -> torch.Tensor:
    """Latents of one prompt."""
    chosen = SamplingSettings(steps=1, **settings)
    pipeline = open_pipeline(folder, size=chosen.size)
    told = pipeline.encode_prompts(PROMPTS[:1])
    noise = start_noise(chosen, IDS[:1], pipeline.latent_shape)
    return sample(pipeline, pipeline.denoiser, told, told, noise, chosen)
