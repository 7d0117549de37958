"""HPSv2 and CLIP score against hpsv2, image-reward's CLIPScore, stock open_clip and the CLIP score paper's formula."""

from __future__ import annotations

import gc
import json
import shutil
import sys
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

import numpy as np
import pytest
import torch
from PIL import Image

from artifacts.errors import InputError
from evals.images.matching import PromptedImage
from evals.networks import hpsv2_package, image_reward_package
from evals.published.fetch_weights import convert
from evals.scorers import create
from evals.scoring.folder_scores import score_folder

CFG = {
    "embed_dim": 16,
    "vision_cfg": {"image_size": 64, "layers": 2, "width": 32, "head_width": 16, "patch_size": 16},
    "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 2},
}
QUICK_CFG = {**CFG, "quick_gelu": True}


@pytest.fixture(scope="module")
def hpsv2_folder(tmp_path_factory: pytest.TempPathFactory, randomise: Callable[..., None]) -> Path:
    """A network of hpsv2's own classes, saved as it publishes its weights: float16 under ``state_dict``."""
    folder = tmp_path_factory.mktemp("hpsv2")
    hpsv2_package.package()
    fork = sys.modules["hpsv2.src.open_clip"]
    (folder / "tiny-hps.json").write_text(json.dumps(CFG))
    fork.add_model_config(folder / "tiny-hps.json")
    model = fork.create_model("tiny-hps", None, precision="amp")
    randomise(model, 1.0)
    state = {key: value.half() for key, value in model.state_dict().items()}
    torch.save({"epoch": 1, "state_dict": state}, folder / "HPS_v2_compressed.pt")
    (folder / "open_clip_config.json").write_text(json.dumps({"model_cfg": CFG}))
    return folder


@pytest.fixture(scope="module")
def clip_folder(tmp_path_factory: pytest.TempPathFactory, randomise: Callable[..., None]) -> Path:
    """A network of open_clip's own classes with OpenAI's activation, as open_clip's hub folders are."""
    import open_clip

    folder = tmp_path_factory.mktemp("clip")
    (folder / "tiny-clip.json").write_text(json.dumps(QUICK_CFG))
    open_clip.add_model_config(folder / "tiny-clip.json")
    model = open_clip.create_model("tiny-clip")
    # So strong that cosines have both signs, whatever prompts have in common.
    randomise(model, 3.0)
    torch.save(model.state_dict(), folder / "open_clip_pytorch_model.bin")
    (folder / "open_clip_config.json").write_text(json.dumps({"model_cfg": QUICK_CFG}))
    return folder


def opaque(images: Sequence[Image.Image]) -> list[Image.Image]:
    """hpsv2 feeds the alpha channel to the network, which fails; all other modes it converts itself."""
    return [image.convert("RGB") if image.mode == "RGBA" else image for image in images]


@pytest.mark.parametrize("protocol", ["author", "package"])
def test_hpsv2_equals_the_package(
    hpsv2_folder: Path, images: list[Image.Image], prompts: list[str], assert_parity: Any, protocol: str
) -> None:
    ours = create("hpsv2", weights=hpsv2_folder, protocol=protocol).score(images, prompts)
    theirs = create("hpsv2", weights=hpsv2_folder, protocol=protocol, implementation="package")
    scores = theirs.score(opaque(images), prompts)
    assert_parity(ours, scores, least_spread=10 if protocol == "author" else 0.1)


def test_hpsv2_equals_the_package_under_old_torchvision(
    hpsv2_folder: Path, images: list[Image.Image], prompts: list[str], assert_parity: Any
) -> None:
    """Before 0.17 torchvision's resize of tensors had no antialiasing unless asked."""
    from torchvision.transforms import functional

    plain = create("hpsv2", weights=hpsv2_folder, protocol="package").score(images, prompts)
    ours = create("hpsv2", weights=hpsv2_folder, protocol="package", options={"antialias": False})
    theirs = create("hpsv2", weights=hpsv2_folder, protocol="package", implementation="package")
    old = SimpleNamespace(resize=partial(functional.resize, antialias=False), pad=functional.pad)
    with patch.object(sys.modules["hpsv2.src.open_clip.transform"], "F", old):
        scores = theirs.score(opaque(images), prompts)
    assert_parity(ours.score(images, prompts), scores, least_spread=0.1)
    assert np.abs(scores - plain).max() > 1e-4


@pytest.mark.parametrize("scorer", ["hpsv2", "hpsv21"])
def test_the_package_takes_what_the_fetch_leaves(
    scorer: str, hpsv2_folder: Path, tmp_path: Path, images: list[Image.Image], prompts: list[str]
) -> None:
    """`evals weights fetch` writes safetensors and deletes the pickle; the package reads pickles only."""
    (folder := tmp_path / scorer).mkdir()
    shutil.copy(hpsv2_folder / "open_clip_config.json", folder)
    convert(hpsv2_folder / "HPS_v2_compressed.pt", folder / "open_clip_model.safetensors", "0" * 64)
    settings: dict[str, Any] = {"protocol": "package", "implementation": "package"}
    pickled = create("hpsv2", weights=hpsv2_folder, **settings).score(opaque(images), prompts)
    fetched = create(scorer, weights=folder, **settings)
    np.testing.assert_array_equal(fetched.score(opaque(images), prompts), pickled)
    temporary = Path(fetched.checkpoint.name)  # type: ignore[attr-defined]
    assert temporary.exists()
    del fetched
    gc.collect()
    assert not temporary.exists()


def test_images_that_the_package_cannot_take(hpsv2_folder: Path, tmp_path: Path) -> None:
    theirs = create("hpsv2", weights=hpsv2_folder, protocol="package", implementation="package")
    ours = create("hpsv2", weights=hpsv2_folder, protocol="package")
    transparent, oblong = Image.new("RGBA", (70, 70)), Image.new("RGB", (64, 40))
    for image in (transparent, oblong):
        with pytest.raises(InputError, match=r"cannot score RGBA? images of .*use implementation 'native'"):
            theirs.score([image], ["a"])
        assert np.isfinite(ours.score([image], ["a"])).all()
    # Of a file the decoder has laid what is transparent on white, so only the shape remains.
    items = [PromptedImage(f"{n}.png", "a") for n in range(3)]
    for item, one in zip(items, (transparent, oblong, oblong), strict=True):
        one.save(tmp_path / item.file)
    message = r"1\.png: scorer 'hpsv2': the package hpsv2 cannot .* \(nothing was written\)"
    with pytest.raises(InputError, match=message):
        score_folder({"hpsv2": theirs}, {"hpsv2": "package"}, tmp_path, items, batch_size=2, label=None)


@pytest.mark.parametrize("scorer", ["hpsv2", "clip"])
def test_sdpo_equals_stock_open_clip(
    scorer: str,
    request: pytest.FixtureRequest,
    images: list[Image.Image],
    rgb_images: list[Image.Image],
    prompts: list[str],
    assert_parity: Any,
) -> None:
    import open_clip

    folder: Path = request.getfixturevalue(f"{scorer}_folder")
    cfg = json.loads((folder / "open_clip_config.json").read_text())["model_cfg"]
    (folder / "tiny-stock.json").write_text(json.dumps(cfg))
    open_clip.add_model_config(folder / "tiny-stock.json")
    file = next(file for file in folder.iterdir() if file.suffix in (".pt", ".bin"))
    model, _, transform = open_clip.create_model_and_transforms("tiny-stock", pretrained=str(file))
    tokenizer = open_clip.get_tokenizer("tiny-stock")
    with torch.inference_mode():
        theirs = [
            (
                model.eval().encode_image(transform(image)[None], normalize=True)
                @ model.encode_text(tokenizer([prompt]), normalize=True).T
            ).item()
            for image, prompt in zip(rgb_images, prompts, strict=True)
        ]
    assert_parity(create(scorer, weights=folder).score(images, prompts), theirs, least_spread=0.1)


def openai_clip(folder: Path) -> Any:
    """Stands in for OpenAI's module ``clip``, which image-reward needs and does not bring."""
    import open_clip

    image_reward_package.package()
    transform = sys.modules["ImageReward.ImageReward"]._transform
    model = open_clip.create_model("tiny-clip", pretrained=str(folder / "open_clip_pytorch_model.bin")).eval()

    def tokenize(text: str, truncate: bool) -> torch.Tensor:
        assert truncate
        tokens: torch.Tensor = open_clip.get_tokenizer("tiny-clip")([text])
        return tokens

    return SimpleNamespace(load=lambda *_, **__: (model, transform(64)), tokenize=tokenize)


def test_package_equals_image_rewards_clip_score(
    clip_folder: Path, tmp_path: Path, images: list[Image.Image], prompts: list[str], assert_parity: Any
) -> None:
    clip = openai_clip(clip_folder)
    theirs = []
    with patch.object(sys.modules["ImageReward.models.CLIPScore"], "clip", clip):
        scorer = sys.modules["ImageReward.models.CLIPScore"].CLIPScore(download_root="")
        for index, (image, prompt) in enumerate(zip(images, prompts, strict=True)):
            image.save(tmp_path / f"{index}.png")
            theirs.append(scorer.score(prompt, str(tmp_path / f"{index}.png")))
    ours = create("clip", weights=clip_folder, protocol="package").score(images, prompts)
    assert_parity(ours, theirs, least_spread=0.1)


def test_author_equals_the_papers_formula(
    clip_folder: Path, images: list[Image.Image], prompts: list[str], assert_parity: Any
) -> None:
    """2.5 max(cosine, 0) with the prompt after "A photo depicts"; a score below zero is cut to zero."""
    clip = openai_clip(clip_folder)
    model, transform = clip.load()
    theirs = []
    with torch.inference_mode():
        for image, prompt in zip(images, prompts, strict=True):
            seen, read = (
                model.encode_image(transform(image)[None]),
                model.encode_text(clip.tokenize("A photo depicts " + prompt, truncate=True)),
            )
            theirs.append(2.5 * torch.nn.functional.cosine_similarity(seen, read).item())
    ours = create("clip", weights=clip_folder, protocol="author").score(images, prompts)
    positive = np.array(theirs) > 0
    assert 1 < positive.sum() < len(images)
    assert (ours[~positive] == 0).all()
    assert_parity(ours[positive], np.array(theirs)[positive], least_spread=0.1)


@pytest.mark.parametrize(("scorer", "protocol"), [("hpsv2", "package"), ("clip", "author"), ("clip", "package")])
def test_batching(
    scorer: str, protocol: str, request: pytest.FixtureRequest, check_batching: Callable[[Callable[[int], Any]], None]
) -> None:
    folder = request.getfixturevalue(f"{scorer}_folder")
    check_batching(lambda size: create(scorer, weights=folder, protocol=protocol, batch_size=size))


def test_published_architectures_are_open_clips() -> None:
    import open_clip

    from evals.networks import open_clip_model

    for name, ours in (
        ("ViT-B-32-quickgelu", open_clip_model.OPENAI_VIT_B_32),
        ("ViT-L-14-quickgelu", open_clip_model.OPENAI_VIT_L_14),
    ):
        assert open_clip.get_model_config(name) == ours
