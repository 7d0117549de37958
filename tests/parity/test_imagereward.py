"""ImageReward on transformers' classes against the package ``image-reward``, whose own classes made the weights."""

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
from evals.published.fetch_weights import convert
from evals.scorers import create


@pytest.mark.parametrize("protocol", ["sdpo", "author", "package"])
def test_native_equals_the_package(
    imagereward_folder: Path, images: list[Image.Image], prompts: list[str], assert_parity: Any, protocol: str
) -> None:
    ours = create("imagereward", weights=imagereward_folder, protocol=protocol)
    theirs = create("imagereward", weights=imagereward_folder, protocol=protocol, implementation="package")
    assert_parity(ours.score(images, prompts), theirs.score(images, prompts), least_spread=0.1)
    assert ours.fingerprint != theirs.fingerprint


def test_the_package_takes_what_the_fetch_leaves(
    imagereward_folder: Path, tmp_path: Path, images: list[Image.Image], prompts: list[str]
) -> None:
    """`evals weights fetch` writes safetensors and deletes the pickle; the package reads pickles only."""
    folder = shutil.copytree(imagereward_folder, tmp_path / "fetched")
    convert(folder / "ImageReward.pt", folder / "ImageReward.safetensors", "0" * 64)
    before = create("imagereward", weights=folder, implementation="package").score(images, prompts)
    (folder / "ImageReward.pt").unlink()
    after = create("imagereward", weights=folder, implementation="package").score(images, prompts)
    np.testing.assert_array_equal(after, before)


def test_protocols_differ_on_palettes_and_alpha_only(
    imagereward_folder: Path, images: list[Image.Image], prompts: list[str]
) -> None:
    sdpo, author = (
        create("imagereward", weights=imagereward_folder, protocol=protocol).score(images, prompts)
        for protocol in ("sdpo", "author")
    )
    differ = [image.mode for image, a, b in zip(images, sdpo, author, strict=True) if abs(a - b) > 1e-4]
    assert differ == ["P", "RGBA"] * 2


def test_batching(imagereward_folder: Path, check_batching: Callable[[Callable[[int], Any]], None]) -> None:
    check_batching(lambda size: create("imagereward", weights=imagereward_folder, batch_size=size))


def test_a_head_left_as_initialised_rates_everything_alike(
    imagereward_folder: Path, images: list[Image.Image], prompts: list[str], tmp_path: Path
) -> None:
    """Why the other tests fill it: the package's own initialisation makes -mean/std of every image."""
    folder = shutil.copytree(imagereward_folder, tmp_path / "as-initialised")
    state = torch.load(folder / "ImageReward.pt", weights_only=True)
    for key in [key for key in state if key.startswith("mlp.")]:
        state[key] = torch.zeros_like(state[key])
    torch.save(state, folder / "ImageReward.pt")
    for implementation in ("native", "package"):
        scores = create("imagereward", weights=folder, implementation=implementation).score(images, prompts)
        assert scores == pytest.approx([-0.16178] * len(images), abs=1e-5)


def test_what_the_package_cannot_build_is_refused(imagereward_folder: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(imagereward_folder, tmp_path / "narrow")
    vision = json.loads((folder / "vision_config.json").read_text())
    (folder / "vision_config.json").write_text(json.dumps({**vision, "image_size": 64}))
    with pytest.raises(InputError, match=r"vision_config\.json: .*images of 224 pixels.*use implementation 'native'"):
        create("imagereward", weights=folder, implementation="package")
    with pytest.raises(InputError, match=r"dtype is 'bfloat16', but a package chooses its own precision"):
        create("imagereward", weights=imagereward_folder, implementation="package", dtype="bfloat16")


def test_unknown_keys_are_refused_that_the_package_would_pass_over(imagereward_folder: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(imagereward_folder, tmp_path / "renamed")
    state = torch.load(folder / "ImageReward.pt", weights_only=True)
    state["blip.text_encoder.embeddings.word_embeddings.scale"] = torch.zeros(1)
    torch.save(state, folder / "ImageReward.pt")
    for implementation in ("native", "package"):
        with pytest.raises(InputError, match=r"word_embeddings\.scale"):
            create("imagereward", weights=folder, implementation=implementation)
