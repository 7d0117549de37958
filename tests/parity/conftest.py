"""Images and prompts on which toolkits disagree, and small random models saved by the packages' own classes."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import pytest
import torch
from PIL import Image

from evals.networks import image_reward_package

RELATIVE = 1e-5
# Of the largest score: a score near zero is a product of features that are not, each off by some 1e-6 of their length.
FLOOR = 1e-5
PROMPTS = [
    "a red cat",
    "",
    "the “quoted” dog’s house",
    "salt &amp; pepper &lt;on&gt; a table",
    "two blue dogs on a green field, trending " * 29,
    "A LOUD   Title,\tspaced",
    "a café in the fog — 5 o’clock",
]


@pytest.fixture(scope="session")
def images() -> list[Image.Image]:
    """Square, wide, tall by an odd number of pixels, palette, with alpha, grey, smaller than the input; all twice."""
    generator = np.random.default_rng(7)

    def picture(width: int, height: int) -> Image.Image:
        coarse = Image.fromarray(generator.integers(0, 256, (6, 5, 3), dtype=np.uint8))
        return coarse.resize((width, height), Image.Resampling.BICUBIC)

    clear = picture(260, 240).convert("RGBA")
    clear.putalpha(Image.fromarray(generator.integers(0, 256, (240, 260), dtype=np.uint8)))
    return 2 * [
        picture(256, 256),
        picture(640, 427),
        picture(227, 301),
        picture(300, 280).quantize(16),
        clear,
        picture(251, 333).convert("L"),
        picture(97, 61),
    ]


@pytest.fixture(scope="session")
def rgb_images(images: list[Image.Image]) -> list[Image.Image]:
    return [image.convert("RGB") for image in images]


@pytest.fixture(scope="session")
def prompts() -> list[str]:
    """Plain, empty, curly quotes, HTML entities, 200 words and more, capitals and odd spaces, accents and a dash.

    Each image has two of them.
    """
    assert max(len(prompt.split()) for prompt in PROMPTS) > 200
    return PROMPTS + PROMPTS[3:] + PROMPTS[:3]


@pytest.fixture(scope="session")
def randomise() -> Callable[[torch.nn.Module, float], None]:
    """Give every parameter a random value, always the same: defaults leave biases at zero and rewards constant."""

    def fill(module: torch.nn.Module, scale: float) -> None:
        generator = torch.Generator().manual_seed(0)
        for parameter in module.parameters():
            noise = torch.randn(parameter.shape, generator=generator)
            with torch.no_grad():
                if parameter.ndim >= 2:
                    parameter.copy_(noise * scale / parameter[0].numel() ** 0.5)
                elif parameter.unique().numel() == 1:
                    # Scales and shifts stay near one and zero.
                    parameter.add_(0.1 * noise)
                else:
                    parameter.copy_(noise)

    return fill


@pytest.fixture
def assert_parity(record_property: Callable[[str, object], None]) -> Callable[..., None]:
    """Check that each score is equal to 1e-5 relative, and not because all are the same."""

    def check(ours: Any, theirs: Any, *, least_spread: float) -> None:
        ours, theirs = np.asarray(ours, dtype=np.float64), np.asarray(theirs, dtype=np.float64)
        assert ours.shape == theirs.shape
        assert theirs.std() > least_spread, "the scores hardly vary, so equality would say nothing"
        assert len(np.unique(theirs)) == len(theirs)
        scale = np.abs(theirs).max()
        largest = np.abs(ours - theirs).max() / scale
        record_property("largest_relative_deviation", float(largest))
        print(f"largest deviation, relative: {largest:.1e}; scores {theirs.round(4)}")
        np.testing.assert_allclose(ours, theirs, rtol=RELATIVE, atol=FLOOR * scale)

    return check


@pytest.fixture
def check_batching(images: list[Image.Image], prompts: list[str]) -> Callable[[Callable[[int], Any]], None]:
    """Check that scores depend on neither batch size nor order."""

    def check(make: Callable[[int], Any]) -> None:
        whole, single = (make(size).score(images, prompts) for size in (64, 1))
        order = list(np.random.default_rng(0).permutation(len(images)))
        shuffled = make(2).score([images[i] for i in order], [prompts[i] for i in order])
        for other in (single, shuffled[np.argsort(order)]):
            np.testing.assert_allclose(other, whole, rtol=RELATIVE, atol=FLOOR * np.abs(whole).max())

    return check


WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *"abcdefghijklmnopqrstuvwxyz", "red", "cat", "two", "blue"]
WORDS += ["dogs", "on", "the", "green", "field", "##s", "##e", "##o", ",", "&", ";", "quoted", "amp", "table", "5"]
BLIP_VISION = {
    "image_size": 224,
    "patch_size": 32,
    "hidden_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 3,
    "intermediate_size": 192,
}
# The hidden size is that of the package's head, MLP(768).
MED_CONFIG = {
    "architectures": ["BertModel"],
    "hidden_size": 768,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 64,
    "max_position_embeddings": 48,
    "vocab_size": len(WORDS) + 2,
    "add_cross_attention": True,
    "is_decoder": True,
    "type_vocab_size": 2,
    "layer_norm_eps": 1e-12,
}


@pytest.fixture(scope="session")
def imagereward_folder(
    tmp_path_factory: pytest.TempPathFactory, randomise: Callable[[torch.nn.Module, float], None]
) -> Path:
    """A network of image-reward's own classes, saved as ``ImageReward.pt``; a vocabulary as BERT's ``vocab.txt``."""
    folder = tmp_path_factory.mktemp("imagereward")
    (folder / "vocab.txt").write_text("\n".join(WORDS) + "\n", encoding="utf-8")
    (folder / "med_config.json").write_text(json.dumps(MED_CONFIG))
    (folder / "vision_config.json").write_text(json.dumps(BLIP_VISION))
    package = image_reward_package.package()
    parts = sys.modules["ImageReward.models.BLIP.blip_pretrain"]
    vit = sys.modules["ImageReward.models.BLIP.vit"]
    tower = vit.VisionTransformer(img_size=224, patch_size=32, embed_dim=48, depth=2, num_heads=3)
    with patch.object(parts, "create_vit", lambda *_: (tower, 48)), patch.object(parts, "init_tokenizer", lambda: None):
        model = package.ImageReward(med_config=str(folder / "med_config.json"))
    randomise(model, 1.5)
    torch.save(model.state_dict(), folder / "ImageReward.pt")
    return folder
