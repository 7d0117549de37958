"""What a base's parts say of themselves, checked alike where it is trained from and where it is drawn from."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from artifacts.errors import InputError
from evals.generation.pipelines import open_pipeline
from evals.generation.sampling import sample, sample_batch, start_noise
from evals.generation.settings import SamplingSettings
from sdpo.bases import open_base

SETTINGS = SamplingSettings(steps=3, guidance_scale=1.0)


@pytest.fixture
def base(tiny_sd15: Path, tmp_path: Path) -> Path:
    """A base of 32 pixels that may be changed."""
    shutil.copytree(tiny_sd15, tmp_path / "base")
    return tmp_path / "base"


def edit(file: Path, **values: Any) -> None:
    """Set values of a JSON object; ``None`` removes them."""
    content = {**json.loads(file.read_text()), **values}
    file.write_text(json.dumps({key: value for key, value in content.items() if value is not None}))


def both(folder: Path) -> list[Callable[[], object]]:
    return [lambda: open_pipeline(folder), lambda: open_base("sd15", folder)]


def refused(folder: Path, message: str) -> None:
    """By one line, for training and for generation."""
    for opened in both(folder):
        with pytest.raises(InputError, match=message) as caught:
            opened()
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "name",
    [
        *("FlowMatchEulerDiscreteScheduler", "FlowMatchHeunDiscreteScheduler", "EDMEulerScheduler", "LCMScheduler"),
        *(
            "EDMDPMSolverMultistepScheduler",
            "ScoreSdeVeScheduler",
            "CMStochasticIterativeScheduler",
            "VQDiffusionScheduler",
        ),
    ],
)
def test_scheduler_of_another_family(base: Path, name: str) -> None:
    edit(base / "scheduler/scheduler_config.json", _class_name=name)
    refused(base, rf"scheduler_config\.json: the scheduler is a {name}, whose noise schedule is not that")


def test_scheduler_of_another_family_in_the_index_alone(base: Path) -> None:
    edit(base / "model_index.json", scheduler=["diffusers", "FlowMatchEulerDiscreteScheduler"])
    refused(base, r"model_index\.json: the scheduler is a FlowMatch")


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"prediction_type": "flow_prediction"}, "prediction_type is 'flow_prediction', expected epsilon or v_pred"),
        ({"prediction_type": "sample"}, "prediction_type is 'sample', expected epsilon or v_prediction"),
        ({"_class_name": "UniPCMultistepScheduler", "use_flow_sigmas": True}, "use_flow_sigmas is set"),
    ],
)
def test_schedule_of_another_kind(base: Path, values: dict[str, Any], message: str) -> None:
    edit(base / "scheduler/scheduler_config.json", **values)
    refused(base, message)


@pytest.mark.parametrize("name", ["DDIMScheduler", "DPMSolverMultistepScheduler", "UniPCMultistepScheduler"])
def test_schedulers_of_the_family_are_taken(base: Path, name: str) -> None:
    """A configuration that does not say what is predicted means epsilon, as diffusers has it."""
    edit(base / "scheduler/scheduler_config.json", _class_name=name, prediction_type=None)
    edit(base / "model_index.json", scheduler=["diffusers", name])
    for opened in both(base):
        opened()


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"in_channels": 9}, "in_channels is 9, but .* makes latents of 4 channels; expected a text-to-image U-Net"),
        ({"in_channels": 5}, "in_channels is 5"),
        ({"out_channels": 8}, "out_channels is 8, but .* makes latents of 4 channels"),
        ({"_class_name": "UNetMotionModel"}, "the denoiser is a UNetMotionModel, expected a UNet2DConditionModel"),
        ({"time_cond_proj_dim": 256}, "time_cond_proj_dim is 256: the U-Net is told more than text and time"),
        ({"class_embed_type": "timestep"}, "class_embed_type is 'timestep'"),
    ],
)
def test_denoiser_of_other_inputs_and_outputs(base: Path, values: dict[str, Any], message: str) -> None:
    edit(base / "unet/config.json", **values)
    refused(base, message)


def test_another_autoencoder_of_other_channels(base: Path) -> None:
    shutil.copytree(base / "vae", base.parent / "vae")
    edit(base.parent / "vae/config.json", latent_channels=16)
    message = "in_channels is 4, but .*/vae makes latents of 16 channels"
    with pytest.raises(InputError, match=message):
        open_pipeline(base, vae=base.parent / "vae")
    with pytest.raises(InputError, match=message):
        open_base("sd15", base, vae=base.parent / "vae")


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"scaling_factor": 0.13025}, "scaling_factor is 0.13025, expected 0.18215 as in .*base/vae/config"),
        ({"shift_factor": 0.5}, "shift_factor or latents_mean is 0.5, expected 0 as in"),
        (
            {"latents_mean": [0.0] * 4, "latents_std": [1.0, 1.0, 1.0, 2.0]},
            r"shift_factor or latents_mean is 0, 0, 0, 0, expected 0 as in",
        ),
        ({"block_out_channels": [8, 8, 16]}, "a latent is 4 pixels a side, expected 2 as in"),
    ],
)
def test_another_autoencoder_of_other_latents(base: Path, values: dict[str, Any], message: str) -> None:
    """That of Stable Diffusion 1.5 has as many channels as that of SDXL, which its U-Net knows nothing of."""
    shutil.copytree(base / "vae", base.parent / "vae")
    edit(base.parent / "vae/config.json", force_upcast=False)
    open_pipeline(base, vae=base.parent / "vae")
    open_base("sd15", base, vae=base.parent / "vae")
    edit(base.parent / "vae/config.json", **values)
    with pytest.raises(InputError, match=rf"vae/config\.json: {message}"):
        open_pipeline(base, vae=base.parent / "vae")
    with pytest.raises(InputError, match=message):
        open_base("sd15", base, vae=base.parent / "vae")


def test_another_autoencoder_of_another_class_has_a_scale_of_its_own(base: Path) -> None:
    import diffusers

    levels: Any = {f"{part}_block_out_channels": (8, 8) for part in ("encoder", "decoder")}
    tiny = diffusers.AutoencoderTiny(**levels, num_encoder_blocks=(1, 1), num_decoder_blocks=(1, 1))
    tiny.save_pretrained(base.parent / "tiny")
    open_base("sd15", base, vae=base.parent / "tiny")
    images = open_pipeline(base, vae=base.parent / "tiny").decode(torch.zeros(1, 4, 16, 16))
    assert [image.size for image in images] == [(32, 32)]


def test_encoding_and_decoding_share_the_formula(base: Path) -> None:
    """Latents that a training sees are those that generation decodes, whatever the autoencoder's mean and deviation."""
    plain = open_base("sd15", base)
    picture = [Image.fromarray(np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8))]
    before, decoded = plain.encode_images(picture), open_pipeline(base).decode(plain.encode_images(picture).mean)
    mean, std = [0.5, -1.0, 2.0, 0.0], [2.0, 0.5, 4.0, 1.0]
    edit(base / "vae/config.json", latents_mean=mean, latents_std=std)
    changed = open_base("sd15", base)
    found = changed.encode_images(picture)
    m, s = (torch.tensor(x).view(1, 4, 1, 1) for x in (mean, std))
    # 0.18215 (z − mean) / std, where z is what was scaled before.
    torch.testing.assert_close(found.mean, 0.18215 * (before.mean / 0.18215 - m) / s)
    assert found.std is not None
    assert before.std is not None
    torch.testing.assert_close(found.std, before.std / s)
    # Both decoders undo it: the pictures are those of before, but for rounding.
    for again in (open_pipeline(base).decode(found.mean), changed.decode_latents(found.mean)):  # type: ignore[attr-defined]
        difference = np.abs(np.asarray(again[0], dtype=int) - np.asarray(decoded[0], dtype=int))
        assert difference.max() <= 1


def test_tokenizer_without_a_length_takes_the_text_encoders(base: Path, tiny_sd15: Path) -> None:
    texts = ["a red circle", "a prompt that is much longer than the sixteen tokens of the context"]
    expected = open_base("sd15", tiny_sd15).encode_prompts(texts)["text"]
    for length in (None, 512):
        edit(base / "tokenizer/tokenizer_config.json", model_max_length=length)
        found = open_base("sd15", base).encode_prompts(texts)["text"]
        torch.testing.assert_close(found, expected)
        torch.testing.assert_close(open_pipeline(base).encode_prompts(texts)["text"], expected)


@pytest.mark.parametrize("length", [0, 2, -5, 7.5, "77", float("nan")])
def test_tokenizer_whose_length_leaves_nothing_of_a_prompt(base: Path, length: object) -> None:
    edit(base / "tokenizer/tokenizer_config.json", model_max_length=length)
    message = rf"tokenizer: model_max_length is {length!r}, expected a number of tokens"
    with pytest.raises(InputError, match=message):
        open_base("sd15", base).encode_prompts(["a"])
    with pytest.raises(InputError, match=message):
        open_pipeline(base).encode_prompts(["a"])


@pytest.mark.parametrize(
    "values", [{"beta_start": float("nan")}, {"beta_schedule": "linear", "beta_end": 1.5}, {"trained_betas": [0.1]}]
)
def test_betas_that_are_no_schedule(base: Path, values: dict[str, Any]) -> None:
    edit(base / "scheduler/scheduler_config.json", **values)
    for schedule in (
        lambda: open_pipeline(base).scheduler,
        lambda: open_base("sd15", base).coefficients(torch.tensor([0])),
    ):
        with pytest.raises(InputError, match=r"scheduler: its betas make no noise schedule of 1000 steps"):
            schedule()


@pytest.mark.parametrize(
    ("part", "values", "message"),
    [
        ("unet", {"sample_size": [16]}, r"sample_size is \[16\], expected height and width"),
        ("unet", {"sample_size": "16"}, r"sample_size is '16'"),
        ("unet", {"sample_size": -16}, r"sample_size is -16"),
        ("vae", {"block_out_channels": 8}, r"block_out_channels is 8, expected one number a level"),
        ("unet", {"cross_attention_dim": []}, r"cross_attention_dim is \[\], expected a number"),
        ("unet", {"cross_attention_dim": "16"}, r"cross_attention_dim is '16', expected a number"),
        ("unet", {"addition_embed_type": ["text"]}, r"addition_embed_type is"),
    ],
)
def test_configuration_of_other_kinds_of_values(base: Path, part: str, values: dict[str, Any], message: str) -> None:
    edit(base / part / "config.json", **values)
    with pytest.raises(InputError, match=rf"{message}"):
        open_pipeline(base).encode_prompts(["a"])
    if "addition_embed_type" in values or "cross_attention_dim" in values:
        with pytest.raises(InputError, match=message):
            open_base("sd15", base)


def test_tokenizer_of_another_text_encoder(base: Path) -> None:
    edit(base / "tokenizer/vocab.json", **{f"new{i}</w>": 514 + i for i in range(3)})
    message = r"tokenizer: has 517 tokens, its text encoder embeds 514 \(vocab_size\)"
    with pytest.raises(InputError, match=message):
        open_base("sd15", base).encode_prompts(["a"])
    with pytest.raises(InputError, match=message):
        open_pipeline(base).encode_prompts(["a"])


def test_halved_size_of_a_fine_tune_is_refused_until_the_size_is_said(base: Path) -> None:
    edit(base / "unet/config.json", sample_size=8)
    message = r"sample_size is 8, 16 x 16 pixels, and vae/config\.json says 32: set generation\.size"
    with pytest.raises(InputError, match=message):
        open_pipeline(base)
    pipeline = open_pipeline(base, size=32)
    assert pipeline.image_size == [32, 32]
    assert pipeline.latent_shape == (4, 16, 16)
    # What the denoiser says is a size that it may have been trained at.
    assert open_pipeline(base, size=16).latent_shape == (4, 8, 8)


def test_size_that_a_base_was_not_trained_at(base: Path) -> None:
    assert open_pipeline(base).image_size == open_pipeline(base, size=32).image_size == [32, 32]
    with pytest.raises(InputError, match=r"generation\.size is 64, expected what the base was trained at: .*32 x 32"):
        open_pipeline(base, size=64)
    edit(base / "unet/config.json", sample_size=None)
    with pytest.raises(InputError, match=r"sample_size is None, and .* says 32: set generation\.size"):
        open_pipeline(base)
    assert open_pipeline(base, size=32).image_size == [32, 32]
    # Autoencoders are often trained at smaller sizes than they serve.
    edit(base / "unet/config.json", sample_size=[16, 24])
    edit(base / "vae/config.json", sample_size=16)
    assert open_pipeline(base).image_size == [32, 48]


@pytest.mark.parametrize("scheduler", ["ddim", "euler", "dpm_solver"])
@pytest.mark.parametrize(
    "said", [{"steps_offset": 0, "clip_sample": True}, {"steps_offset": None, "clip_sample": None}]
)
def test_samplers_get_what_the_pipeline_sets_itself(base: Path, scheduler: str, said: dict[str, Any]) -> None:
    """Old configurations lack the offset, and clip latents as if they were pixels."""
    import diffusers

    from evals.generation.pipelines.stable_diffusion import SCHEDULERS

    edit(base / "scheduler/scheduler_config.json", _class_name="DDIMScheduler", **said)
    edit(base / "model_index.json", scheduler=["diffusers", "DDIMScheduler"])
    theirs = diffusers.StableDiffusionPipeline.from_pretrained(
        base,
        scheduler=getattr(diffusers, SCHEDULERS[scheduler]).from_pretrained(base / "scheduler"),
        safety_checker=None,
    ).scheduler
    ours = open_pipeline(base).sampler(SamplingSettings(scheduler=scheduler, steps=5))
    for key in ("steps_offset", "clip_sample", "timestep_spacing", "set_alpha_to_one", "prediction_type"):
        assert getattr(ours.config, key, None) == getattr(theirs.config, key, None) or not hasattr(
            theirs.config, key
        ), key
    theirs.set_timesteps(5)
    torch.testing.assert_close(ours.timesteps, theirs.timesteps)


@pytest.mark.parametrize(
    ("said", "clips"), [({}, False), ({"clip_sample": True}, True), ({"clip_sample": False}, False)]
)
@pytest.mark.parametrize("name", ["DDIMScheduler", "EulerDiscreteScheduler"])
def test_latents_of_two_encoders_are_clipped_only_where_the_file_says_so(
    save_tiny_base: Callable[..., Path], tmp_path: Path, name: str, said: dict[str, Any], clips: bool
) -> None:
    base = save_tiny_base(tmp_path / "base", "sdxl")
    edit(base / "scheduler/scheduler_config.json", **{"clip_sample": None, "_class_name": name, **said})
    edit(base / "model_index.json", scheduler=["diffusers", name])
    assert open_pipeline(base).sampler(SamplingSettings(scheduler="ddim", steps=5)).config.clip_sample is clips


def test_a_sampler_that_draws_noise_of_its_own_is_refused(base: Path) -> None:
    """It would come from no prompt's seed."""
    edit(base / "scheduler/scheduler_config.json", algorithm_type="sde-dpmsolver++")
    assert open_pipeline(base).sampler(SamplingSettings(scheduler="ddim", steps=5))
    with pytest.raises(InputError, match=r"scheduler_config\.json: algorithm_type is 'sde-dpmsolver\+\+', which draws"):
        open_pipeline(base).sampler(SamplingSettings(scheduler="dpm_solver", steps=5))


class Failing(torch.nn.Module):
    """A denoiser whose prediction for one image is not finite from one call on."""

    def __init__(self, call: int, row: int) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(1))
        self.call, self.row, self.calls = call, row, 0

    def forward(self, inputs: torch.Tensor, timestep: torch.Tensor, **_: Any) -> Any:
        from types import SimpleNamespace

        self.calls += 1
        out = inputs * 0.1
        if self.calls == self.call:
            out[self.row, 0, 0, 0] = float("inf")
        return SimpleNamespace(sample=out)


@pytest.mark.parametrize(
    ("scheduler", "spacing", "steps", "message"),
    [
        # The last 600 steps of the schedule, from noise that is none of theirs.
        ("euler", "leading", 600, r", it goes from timestep 600 to 1 in 600 \(timestep_spacing is leading\)"),
        ("dpm_solver", "leading", 1000, ", it goes from timestep 1 to 1 in 1000"),
        ("dpm_solver", "leading", 500, ", it goes from timestep 501 to 2 in 500"),
        # Out of the schedule by its offset.
        ("ddim", "leading", 1000, ", it goes from timestep 1000 to 1 in 1000"),
        ("ddim", "leading", 1, ", it goes from timestep 1 to 1 in 1"),
        # A step too many, by rounding.
        ("euler", "trailing", 61, ", it goes from timestep 999 to -1 in 62"),
        ("ddim", "leading", 1001, r" \(timestep_spacing"),
        ("euler", "linspace", 2000, r" \(timestep_spacing"),
    ],
)
def test_numbers_of_steps_that_do_not_run_through_the_schedule(
    base: Path, scheduler: str, spacing: str, steps: int, message: str
) -> None:
    edit(base / "scheduler/scheduler_config.json", timestep_spacing=spacing)
    runs = rf"^generation\.steps is {steps}, in which {scheduler} does not run through the 1000 timesteps of {base}"
    with pytest.raises(InputError, match=runs + message + r".*; take another number, such as 50$"):
        open_pipeline(base).sampler(SamplingSettings(scheduler=scheduler, steps=steps))


@pytest.mark.parametrize("scheduler", ["ddim", "euler", "dpm_solver"])
@pytest.mark.parametrize("spacing", ["leading", "trailing", "linspace"])
def test_numbers_of_steps_that_run_through_it(base: Path, scheduler: str, spacing: str) -> None:
    edit(base / "scheduler/scheduler_config.json", timestep_spacing=spacing)
    pipeline = open_pipeline(base)
    for steps in (*range(2, 61), 75, 100, 150, 200):
        assert len(pipeline.sampler(SamplingSettings(scheduler=scheduler, steps=steps)).timesteps) == steps
    if spacing == "trailing":
        assert pipeline.sampler(SamplingSettings(scheduler=scheduler, steps=1)).timesteps.tolist() == [999]


@pytest.mark.parametrize(("call", "row"), [(1, 0), (2, 1), (3, 2)])
def test_latents_that_are_not_finite_stop_with_model_prompt_and_step(tiny_sd15: Path, call: int, row: int) -> None:
    pipeline = open_pipeline(tiny_sd15)
    conditions, empty = pipeline.encode_prompts(["a", "b", "c"]), pipeline.empty_prompt(zeros=True)
    ids = ["seen-0", "seen-1", "seen-2"]
    message = rf"mini/dmpo on seen, prompt seen-{row}: latents are not finite from step {call} of 3 on, .*float32"
    with pytest.raises(InputError, match=message):
        sample_batch(pipeline, Failing(call, row), conditions, empty, ids, SETTINGS, model="mini/dmpo on seen")
    noise = start_noise(SETTINGS, ids, pipeline.latent_shape)
    with pytest.raises(InputError, match=rf"image {row}: latents are not finite"):
        sample(pipeline, Failing(call, row), conditions, empty, noise, SETTINGS)
    sample(pipeline, Failing(9, row), conditions, empty, noise, SETTINGS)


def test_pixels_that_are_not_finite_stop_with_the_prompt(tiny_sd15: Path) -> None:
    pipeline, latents = open_pipeline(tiny_sd15), torch.zeros(3, 4, 16, 16)
    latents[1] = float("nan")
    with pytest.raises(InputError, match=r"prompt b: the autoencoder .*vae makes pixels .* not finite, in float32"):
        pipeline.decode(latents, ["prompt a", "prompt b", "prompt c"])
    trained: Any = open_base("sd15", tiny_sd15)
    with pytest.raises(InputError, match=r"image 1: the autoencoder .*vae makes pixels that are not finite"):
        trained.decode_latents(latents)


@pytest.mark.parametrize("part", ["unet", "vae", "text_encoder"])
def test_part_with_values_that_are_not_finite(base: Path, part: str) -> None:
    from safetensors.torch import load_file, save_file

    file = next((base / part).glob("*.safetensors"))
    state = load_file(file)
    name = sorted(state)[0]
    state[name].view(-1)[0] = float("nan")
    save_file(state, file, metadata={"format": "pt"})
    pipeline = open_pipeline(base)
    with pytest.raises(InputError, match=rf"{part}: '.*' has values that are not finite \(1 such tensors in all\)"):
        {
            "unet": lambda: pipeline.denoiser,
            "vae": lambda: pipeline.autoencoder.module,
            "text_encoder": lambda: pipeline.text_encoders,
        }[part]()
