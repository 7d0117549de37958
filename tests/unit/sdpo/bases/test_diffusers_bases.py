"""Families ``sd15`` and ``sdxl`` against the pipelines of diffusers, on tiny bases, and what they refuse."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch

from artifacts.errors import InputError
from sdpo import bases
from sdpo.bases import open_base

# The first one has the token that SDXL's second tokenizer pads with.
PROMPTS = ["a red circle!", "", "a prompt that is much longer than the sixteen tokens of the context"]


def edited(source: Path, target: Path, part: str, file: str = "config.json", **values: Any) -> Path:
    """A copy of a base with other values in the configuration of a part."""
    shutil.copytree(source, target)
    path = target / part / file
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))
    return target


def noisy(count: int) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    return torch.randn(count, 4, 16, 16, generator=generator), torch.tensor([999, 3, 500][:count])


def test_sd15_embeds_and_predicts_as_its_pipeline(tiny_sd15: Path) -> None:
    from diffusers import StableDiffusionPipeline

    pipeline = StableDiffusionPipeline.from_pretrained(tiny_sd15, safety_checker=None)
    base = open_base("sd15", tiny_sd15)
    with torch.no_grad():
        expected, _ = pipeline.encode_prompt(PROMPTS, "cpu", 1, False)
        conditions = base.encode_prompts(PROMPTS)
        assert list(conditions) == ["text"]
        torch.testing.assert_close(conditions["text"], expected, atol=1e-6, rtol=1e-5)
        latents, timesteps = noisy(3)
        theirs = pipeline.unet(latents, timesteps, encoder_hidden_states=expected).sample
        ours = base.predict(base.load_denoiser(), latents, timesteps, conditions)
    torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-4)
    assert float((theirs[0] - theirs[1]).abs().max()) > 1e-2
    assert base.image_conditions(torch.zeros(3, 6)) == {}


def test_sdxl_embeds_and_predicts_as_its_pipeline(tiny_sdxl: Path) -> None:
    from diffusers import StableDiffusionXLPipeline

    pipeline = StableDiffusionXLPipeline.from_pretrained(tiny_sdxl)
    base = open_base("sdxl", tiny_sdxl)
    with torch.no_grad():
        text, _, pooled, _ = pipeline.encode_prompt(PROMPTS, device="cpu", do_classifier_free_guidance=False)
        conditions = base.encode_prompts(PROMPTS)
        assert {name: x.shape[1:] for name, x in conditions.items()} == {"text": (16, 80), "pooled": (24,)}
        torch.testing.assert_close(conditions["text"], text, atol=1e-6, rtol=1e-5)
        torch.testing.assert_close(conditions["pooled"], pooled, atol=1e-6, rtol=1e-5)
        sizes = [(640, 480, 3, 7, 32, 32), (32, 32, 0, 0, 32, 32), (48, 64, 0, 8, 32, 32)]
        rows = [
            pipeline._get_add_time_ids(s[:2], s[2:4], s[4:], torch.float32, text_encoder_projection_dim=24)
            for s in sizes
        ]
        conditions |= base.image_conditions(torch.tensor(sizes, dtype=torch.int32))
        assert torch.equal(conditions["time_ids"], torch.cat(rows))
        latents, timesteps = noisy(3)
        added = {"text_embeds": pooled, "time_ids": torch.cat(rows)}
        theirs = pipeline.unet(latents, timesteps, encoder_hidden_states=text, added_cond_kwargs=added).sample
        denoiser = base.load_denoiser()
        ours = base.predict(denoiser, latents, timesteps, conditions)
        torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-4)
        # Both added conditions matter, so a mistake in one of them would show.
        for name in ("pooled", "time_ids"):
            other = base.predict(denoiser, latents, timesteps, {**conditions, name: conditions[name].flip(0)})
            assert float((other - ours)[0].abs().max()) > 1e-4, name


@pytest.mark.parametrize("family", ["sd15", "sdxl"])
def test_schedule_is_the_published_one(family: str, request: pytest.FixtureRequest) -> None:
    base = open_base(family, request.getfixturevalue(f"tiny_{family}"))
    betas = torch.linspace(0.00085**0.5, 0.012**0.5, 1000, dtype=torch.float64) ** 2
    kept = torch.cumprod(1 - betas, 0)
    timesteps = torch.tensor([0, 400, 999])
    alpha, sigma = base.coefficients(timesteps)
    torch.testing.assert_close(alpha.double(), kept[timesteps].sqrt(), atol=1e-6, rtol=1e-5)
    # 1 - α² loses its leading digits where α is nearly one: a rounding of 1.2e-7 there is 2e-6 of σ = 0.029.
    torch.testing.assert_close(sigma.double(), (1 - kept[timesteps]).sqrt(), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("family", ["sd15", "sdxl"])
def test_trained_denoiser_goes_back_into_the_pipeline(
    family: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    from diffusers import UNet2DConditionModel

    base = open_base(family, request.getfixturevalue(f"tiny_{family}"))
    denoiser = base.load_denoiser()
    with torch.no_grad():
        for parameter in denoiser.parameters():
            parameter += 0.1
    base.save_denoiser(denoiser, tmp_path)
    read = UNet2DConditionModel.from_pretrained(tmp_path / "unet")
    for name, value in denoiser.state_dict().items():
        assert torch.equal(read.state_dict()[name], value), name


def test_v_prediction_is_read_from_the_scheduler(tiny_pipelines: ModuleType, tmp_path: Path) -> None:
    for family, save in (("sd15", tiny_pipelines.save_sd15), ("sdxl", tiny_pipelines.save_sdxl)):
        base = open_base(family, save(tmp_path / family, prediction_type="v_prediction"))
        assert base.parametrisation == "v_prediction"


def test_separate_autoencoder_takes_the_place_of_the_bases_own(
    tiny_pipelines: ModuleType, tiny_sdxl: Path, tmp_path: Path
) -> None:
    from PIL import Image

    other = tiny_pipelines.save_sdxl(tmp_path / "other", seed=5)
    without = tmp_path / "without"
    shutil.copytree(tiny_sdxl, without)
    shutil.rmtree(without / "vae")
    images = [Image.new("RGB", (32, 32), colour) for colour in ("red", "blue")]
    expected = open_base("sdxl", other).encode_images(images).mean
    assert not torch.allclose(open_base("sdxl", tiny_sdxl).encode_images(images).mean, expected, atol=1e-3)
    described = {"family": "sdxl", "path": str(without)}
    # A base of which the folder is a part, or the folder of the autoencoder itself.
    for vae in (other, other / "vae"):
        base = bases.open_described({**described, "vae": str(vae)})
        torch.testing.assert_close(base.encode_images(images).mean, expected)
    with pytest.raises(InputError, match="without/vae: missing"):
        bases.open_described(described)
    assert set(bases.digests({**described, "vae": str(other / "vae")})) == {str(without), str(other / "vae")}


def test_half_precision_encoders_give_float32_that_is_close(tiny_sdxl: Path) -> None:
    exact, rough = open_base("sdxl", tiny_sdxl), open_base("sdxl", tiny_sdxl, encoder_dtype="bfloat16")
    first, second = exact.encode_prompts(PROMPTS), rough.encode_prompts(PROMPTS)
    for name, value in first.items():
        assert second[name].dtype == torch.float32
        assert not torch.equal(second[name], value)
        torch.testing.assert_close(second[name], value, atol=0.05, rtol=0.05)


@pytest.mark.parametrize(
    ("family", "change", "message"),
    [
        ("sdxl", None, r"its U-Net is of family 'sd15', not of the one that was named; set base.family to sd15"),
        ("sd15", ("scheduler", "scheduler_config.json", {"prediction_type": "sample"}), "expected epsilon or v_pred"),
        ("sd15", ("unet", "config.json", {"in_channels": 9}), "in_channels is 9, .* makes latents of 4 channels"),
        ("sd15", ("text_encoder", "config.json", {"hidden_size": 48}), "embeddings of width 48, its U-Net takes 32"),
        ("sd15", ("unet", "config.json", {"addition_embed_type": "image"}), "addition_embed_type is 'image'"),
        ("sd15", ("vae", "config.json", {"_class_name": "VQModel"}), None),
    ],
)
def test_sd15_refuses_what_it_is_not(
    family: str, change: tuple[str, str, dict[str, Any]] | None, message: str | None, tiny_sd15: Path, tmp_path: Path
) -> None:
    path = tiny_sd15 if change is None else edited(tiny_sd15, tmp_path / "base", change[0], change[1], **change[2])
    if message is None:
        from PIL import Image

        with pytest.raises(InputError, match="autoencoder is a VQModel, expected AutoencoderKL or AutoencoderTiny"):
            open_base(family, path).encode_images([Image.new("RGB", (32, 32))])
        return
    with pytest.raises(InputError, match=message):
        open_base(family, path)


@pytest.mark.parametrize(
    ("family", "change", "message"),
    [
        ("sd15", None, r"its U-Net is of family 'sdxl', not of the one that was named; set base.family to sdxl"),
        # The refiner takes five time ids, one of them an aesthetic score.
        ("sdxl", ("unet", {"projection_class_embeddings_input_dim": 64}), "pooled embeddings of width 24.* or it is a"),
        ("sdxl", ("text_encoder_2", {"hidden_size": 32}), "embeddings of width 64, its U-Net takes 80"),
    ],
)
def test_sdxl_refuses_what_it_is_not(
    family: str, change: tuple[str, dict[str, Any]] | None, message: str, tiny_sdxl: Path, tmp_path: Path
) -> None:
    path = tiny_sdxl if change is None else edited(tiny_sdxl, tmp_path / "base", change[0], **change[1])
    with pytest.raises(InputError, match=message):
        open_base(family, path)


@pytest.mark.parametrize("part", ["text_encoder_2", "tokenizer_2", "scheduler", "vae", "unet"])
def test_missing_part_of_sdxl_is_named(tiny_sdxl: Path, tmp_path: Path, part: str) -> None:
    copy = tmp_path / "base"
    shutil.copytree(tiny_sdxl, copy)
    shutil.rmtree(copy / part)
    with pytest.raises(InputError, match=rf"base/{part}: missing"):
        open_base("sdxl", copy)


def test_damaged_configuration_is_named(tiny_sd15: Path, tmp_path: Path) -> None:
    copy = tmp_path / "base"
    shutil.copytree(tiny_sd15, copy)
    (copy / "unet" / "config.json").write_text("{")
    with pytest.raises(InputError, match=r"unet/config.json: not valid JSON"):
        open_base("sd15", copy)


def test_family_without_a_choice_of_autoencoder_says_so(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"base family 'toy_surface' has no choice of vae; leave base.vae out"):
        bases.open_described({"family": "toy_surface", "path": str(tmp_path), "vae": str(tmp_path)})


Fetch = Callable[..., str]


def test_hub_id_is_fetched_at_its_revision_without_code(
    tiny_sd15: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import huggingface_hub
    from huggingface_hub.utils import filter_repo_objects

    snapshot = tmp_path / "snapshots" / ("0123456789" * 4)
    shutil.copytree(tiny_sd15, snapshot)
    asked: dict[str, Any] = {}

    def fetch(name: str, **options: Any) -> str:
        asked.update(name=name, **options)
        return str(snapshot)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", fetch)
    described = {"family": "sd15", "path": "stable-diffusion-v1-5/stable-diffusion-v1-5@main"}
    assert bases.open_described(described).condition_widths == {"text": 32}
    assert (asked["name"], asked["revision"]) == ("stable-diffusion-v1-5/stable-diffusion-v1-5", "main")
    assert bases.digests(described) == {described["path"]: "0123456789" * 4}
    offered = [
        *("model_index.json", "unet/config.json", "unet/diffusion_pytorch_model.safetensors", "tokenizer/merges.txt"),
        *("unet/diffusion_pytorch_model.fp16.safetensors", "unet/diffusion_pytorch_model.non_ema.safetensors"),
        *("unet/diffusion_pytorch_model.bin", "pipeline.py", "v1-5-pruned-emaonly.safetensors", "unet/model.onnx"),
        *("safety_checker/model.safetensors", "text_encoder/model.safetensors", "vae/custom.py"),
        "diffusion_pytorch_model.safetensors",
    ]
    taken = filter_repo_objects(
        offered, allow_patterns=asked["allow_patterns"], ignore_patterns=asked["ignore_patterns"]
    )
    assert list(taken) == [
        *("model_index.json", "unet/config.json", "unet/diffusion_pytorch_model.safetensors", "tokenizer/merges.txt"),
        *("text_encoder/model.safetensors", "diffusion_pytorch_model.safetensors"),
    ]


def test_hub_id_that_cannot_be_had_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    import huggingface_hub

    def offline(name: str, **_: Any) -> str:
        raise OSError("no network\nand more lines")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", offline)
    with pytest.raises(InputError, match="no revision: write owner/name@<commit>"):
        bases.open_described({"family": "sd15", "path": "owner/name"})
    with pytest.raises(InputError) as error:
        bases.open_described({"family": "sd15", "path": "owner/name@abc"})
    assert "cannot be fetched (no network); " in str(error.value)
    assert "hf download owner/name --revision abc" in str(error.value)
    assert "\n" not in str(error.value)
