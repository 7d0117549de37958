"""What is shared between scorers, and that nothing larger than needed is kept of an image."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from evals.networks.preprocessing import Preprocessing
from evals.scorers import create
from evals.scoring.seen_images import SeenBatch, look


class Whole:
    """A scorer that asks for the image itself."""

    fingerprint = "whole"

    def score(self, images: Sequence[Image.Image], prompts: Sequence[str]) -> np.ndarray:
        return np.array([image.width for image in images], dtype=np.float64)


def test_scorers_without_a_model_keep_a_number_and_no_image() -> None:
    image = Image.new("RGB", (60, 40))
    seen = look(image, {"blank": create("blank"), "jpeg_size": create("jpeg_size")})
    assert seen.image is None
    assert seen.scores == {"blank": 1.0, "jpeg_size": create("jpeg_size").score([image], ["a"])[0]}
    assert look(image, {"whole": Whole()}).image is image


def test_pixels_are_normalised_once_for_all_that_see_the_same(
    open_clip_folder: Path, pickscore_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Three scorers of one fit and one of another: two normalisations, and each scorer's own scores."""
    scorers = {
        "clip": create("clip", weights=open_clip_folder),
        "hpsv2": create("hpsv2", weights=open_clip_folder),
        "pickscore": create("pickscore", weights=pickscore_folder),
        "other fit": create("hpsv2", weights=open_clip_folder, protocol="package"),
    }
    noise = np.random.default_rng(0).integers(0, 256, (3, 40, 30, 3), dtype=np.uint8)
    images, prompts = [Image.fromarray(pixels) for pixels in noise], ["a red cat", "", "two"]
    alone = {name: scorer.score(images, prompts) for name, scorer in scorers.items()}
    sizes = []
    original = Preprocessing.normalise

    def counted(self: Preprocessing, pixels: torch.Tensor) -> torch.Tensor:
        sizes.append(len(pixels))
        return original(self, pixels)

    monkeypatch.setattr(Preprocessing, "normalise", counted)
    batch = SeenBatch([look(image, scorers) for image in images])
    for name, scorer in scorers.items():
        np.testing.assert_array_equal(batch.score(name, scorer, dict(enumerate(prompts))), alone[name])
    assert sizes == [3, 3]
    # Other images of the batch are other pixels.
    part = batch.score("clip", scorers["clip"], {2: "two", 0: "a red cat"})
    np.testing.assert_allclose(part, alone["clip"][[2, 0]], rtol=1e-5, atol=1e-5)
