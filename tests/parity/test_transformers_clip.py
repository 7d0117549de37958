"""PickScore against its author's snippet on transformers; Aesthetic against image-reward's ``AestheticScore``."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

import numpy as np
import pytest
import torch
from PIL import Image

from evals.networks import image_reward_package
from evals.scorers import create

SHARED = {"hidden_size": 32, "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 2}


@pytest.fixture(scope="module")
def pickscore_folder(tmp_path_factory: pytest.TempPathFactory, randomise: Callable[..., None]) -> Path:
    """A CLIP with CLIP's whole vocabulary, saved by transformers as the hub's folder is."""
    from open_clip.tokenizer import SimpleTokenizer
    from transformers import CLIPConfig, CLIPModel
    from transformers.models.clip.tokenization_clip import CLIPTokenizer

    folder = tmp_path_factory.mktemp("pickscore")
    bpe = SimpleTokenizer()
    vocabulary = {token: index for token, index in bpe.encoder.items() if index < 49406}
    vocabulary |= {"<|startoftext|>": 49406, "<|endoftext|>": 49407}
    merges = sorted(bpe.bpe_ranks, key=lambda pair: bpe.bpe_ranks[pair])
    CLIPTokenizer(vocab=vocabulary, merges=merges, model_max_length=77).save_pretrained(str(folder))
    text = {**SHARED, "vocab_size": 49408, "max_position_embeddings": 77, "eos_token_id": 49407, "bos_token_id": 49406}
    config = CLIPConfig(
        projection_dim=16,
        text_config={**text, "hidden_act": "gelu"},
        vision_config={**SHARED, "image_size": 64, "patch_size": 16, "hidden_act": "gelu"},
    )
    model = CLIPModel(config)
    randomise(model, 1.0)
    with torch.no_grad():
        model.logit_scale.fill_(4.6)
    model.save_pretrained(str(folder))
    return folder


def transformers_pixels() -> Callable[[Image.Image], torch.Tensor]:
    """The model card's processor, on PIL as in the author's time."""
    from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

    processor = CLIPImageProcessorPil(size={"shortest_edge": 64}, crop_size={"height": 64, "width": 64})
    return lambda image: processor(images=image, return_tensors="pt")["pixel_values"]


def torchvision_pixels() -> Callable[[Image.Image], torch.Tensor]:
    """The transform of SDPO's evaluation code, whose crop differs from transformers' by a pixel for some sizes."""
    from torchvision.transforms import CenterCrop, Compose, InterpolationMode, Normalize, Resize, ToTensor

    mean, std = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
    steps = Compose([Resize(64, InterpolationMode.BICUBIC), CenterCrop(64), ToTensor(), Normalize(mean, std)])
    return lambda image: steps(image)[None]


def snippet(
    folder: Path, images: list[Image.Image], prompts: list[str], pixels_of: Callable[[Image.Image], torch.Tensor]
) -> tuple[list[float], Any]:
    """Raw cosine of each pair as the author's model card computes it, one pair at a time, and exp(logit scale)."""
    from transformers import AutoTokenizer, CLIPModel

    model = CLIPModel.from_pretrained(str(folder)).eval()
    tokenizer = AutoTokenizer.from_pretrained(str(folder))
    cosines = []
    with torch.inference_mode():
        for image, prompt in zip(images, prompts, strict=True):
            tokens = tokenizer(prompt, padding=True, truncation=True, max_length=77, return_tensors="pt")
            seen = model.get_image_features(pixel_values=pixels_of(image)).pooler_output
            read = model.get_text_features(**tokens).pooler_output
            seen, read = seen / seen.norm(dim=-1, keepdim=True), read / read.norm(dim=-1, keepdim=True)
            cosines.append((read @ seen.T).item())
    return cosines, model.logit_scale.exp().item()


def test_pickscore_equals_the_authors_snippet(
    pickscore_folder: Path, images: list[Image.Image], prompts: list[str], assert_parity: Any
) -> None:
    # Release 5 of transformers blends alpha with white; in the author's time it dropped it, as all others here do.
    opaque = [image.convert("RGB") if image.mode == "RGBA" else image for image in images]
    cosines, factor = snippet(pickscore_folder, opaque, prompts, transformers_pixels())
    assert factor == pytest.approx(np.exp(4.6))
    ours = create("pickscore", weights=pickscore_folder, protocol="author").score(images, prompts)
    assert_parity(ours, factor * np.array(cosines), least_spread=10)


def test_pickscore_as_sdpo_runs_it_is_the_raw_cosine_on_torchvisions_crop(
    pickscore_folder: Path,
    images: list[Image.Image],
    rgb_images: list[Image.Image],
    prompts: list[str],
    assert_parity: Any,
) -> None:
    cosines, _ = snippet(pickscore_folder, rgb_images, prompts, torchvision_pixels())
    ours = create("pickscore", weights=pickscore_folder).score(images, prompts)
    assert_parity(ours, cosines, least_spread=0.1)
    # 640 x 427 is where the two crops differ.
    author, _ = snippet(pickscore_folder, rgb_images, prompts, transformers_pixels())
    assert abs(ours[1] - author[1]) > 1e-4


def test_softmax_over_two_images_is_the_logistic_of_the_difference(
    pickscore_folder: Path, images: list[Image.Image]
) -> None:
    cosines, factor = snippet(pickscore_folder, images[:2], ["a red cat"] * 2, transformers_pixels())
    share = torch.softmax(factor * torch.tensor(cosines), dim=0)[0].item()
    ours = create("pickscore", weights=pickscore_folder, protocol="author").score(images[:2], ["a red cat"] * 2)
    assert 1 / (1 + np.exp(ours[1] - ours[0])) == pytest.approx(share, rel=1e-4)


def test_pickscore_batches(pickscore_folder: Path, check_batching: Callable[[Callable[[int], Any]], None]) -> None:
    check_batching(
        lambda size: create("pickscore", weights=pickscore_folder, protocol="author", batch_size=size),
    )


OPENAI_CFG = {
    "embed_dim": 768,
    "quick_gelu": True,
    "vision_cfg": {"image_size": 64, "layers": 2, "width": 32, "head_width": 16, "patch_size": 16},
    "text_cfg": {"context_length": 8, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 1},
}


def as_transformers(state: dict[str, torch.Tensor], layers: int) -> dict[str, torch.Tensor]:
    """Image tower of OpenAI's layout under transformers' names."""
    out = {
        "vision_model.embeddings.class_embedding": state["visual.class_embedding"],
        "vision_model.embeddings.patch_embedding.weight": state["visual.conv1.weight"],
        "vision_model.embeddings.position_embedding.weight": state["visual.positional_embedding"],
        "visual_projection.weight": state["visual.proj"].T,
    }
    names = [("vision_model.pre_layrnorm", "visual.ln_pre"), ("vision_model.post_layernorm", "visual.ln_post")]
    for n in range(layers):
        ours, theirs = f"vision_model.encoder.layers.{n}", f"visual.transformer.resblocks.{n}"
        names += [(f"{ours}.layer_norm{i}", f"{theirs}.ln_{i}") for i in (1, 2)]
        names += [(f"{ours}.mlp.fc1", f"{theirs}.mlp.c_fc"), (f"{ours}.mlp.fc2", f"{theirs}.mlp.c_proj")]
        names.append((f"{ours}.self_attn.out_proj", f"{theirs}.attn.out_proj"))
        for kind in ("weight", "bias"):
            parts = state[f"{theirs}.attn.in_proj_{kind}"].chunk(3)
            out |= {f"{ours}.self_attn.{q}_proj.{kind}": p for q, p in zip("qkv", parts, strict=True)}
    out |= {f"{to}.{kind}": state[f"{name}.{kind}"] for to, name in names for kind in ("weight", "bias")}
    return {key: value.contiguous().clone() for key, value in out.items()}


@pytest.mark.parametrize("protocol", ["author", "package"])
def test_aesthetic_equals_image_rewards(
    tmp_path: Path,
    randomise: Callable[..., None],
    images: list[Image.Image],
    prompts: list[str],
    assert_parity: Any,
    check_batching: Callable[[Callable[[int], Any]], None],
    protocol: str,
) -> None:
    """Network by open_clip, head by image-reward, whose head and normalisation are those of the author's script."""
    from open_clip.model import CLIP
    from safetensors.torch import save_file

    image_reward_package.package()
    package = sys.modules["ImageReward.models.AestheticScore"]
    model = CLIP(**{key: dict(value) if isinstance(value, dict) else value for key, value in OPENAI_CFG.items()})
    randomise(model, 3.0)
    transform = sys.modules["ImageReward.ImageReward"]._transform(64)
    clip = SimpleNamespace(load=lambda *_, **__: (model.eval(), transform))
    with patch.object(package, "clip", clip):
        scorer = package.AestheticScore(download_root="").eval()
    randomise(scorer.mlp, 2.0)
    theirs = []
    # The prompt is ignored, so each image once.
    images, prompts = images[:7], prompts[:7]
    for index, image in enumerate(images):
        image.save(tmp_path / f"{index}.png")
        with torch.inference_mode():
            theirs.append(scorer.score("", str(tmp_path / f"{index}.png")))

    folder = tmp_path / "aesthetic"
    (folder / "clip").mkdir(parents=True)
    vision = {**SHARED, "image_size": 64, "patch_size": 16, "hidden_act": "quick_gelu", "projection_dim": 768}
    (folder / "clip" / "config.json").write_text(json.dumps({"model_type": "clip_vision_model", **vision}))
    save_file(as_transformers(model.state_dict(), 2), folder / "clip" / "model.safetensors")
    torch.save(scorer.mlp.state_dict(), folder / "sac+logos+ava1-l14-linearMSE.pth")
    ours = create("aesthetic", weights=folder, protocol=protocol)
    assert_parity(ours.score(images, prompts), theirs, least_spread=0.1)
    check_batching(lambda size: create("aesthetic", weights=folder, protocol=protocol, batch_size=size))
