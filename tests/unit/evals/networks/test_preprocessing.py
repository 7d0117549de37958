from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from evals.networks.preprocessing import CLIP_MEAN, CLIP_STD, Fit, Preprocessing, crops, square_crop


@pytest.mark.parametrize("size", [(64, 64), (28, 28), (28, 41), (640, 427), (100, 71), (29, 90), (15, 20), (1, 3)])
def test_equals_torchvision_on_pil_to_the_last_bit(size: tuple[int, int]) -> None:
    from torchvision.transforms import CenterCrop, Compose, InterpolationMode, Normalize, Resize, ToTensor

    generator = np.random.default_rng(sum(size))
    image = Image.fromarray(generator.integers(0, 256, (size[1], size[0], 3), dtype=np.uint8))
    reference = Compose(
        [Resize(28, InterpolationMode.BICUBIC), CenterCrop(28), ToTensor(), Normalize(CLIP_MEAN, CLIP_STD)]
    )(image)
    ours = Preprocessing(28).normalise(crops([image], 28))[0]
    assert ours.shape == (3, 28, 28)
    assert (ours == reference).all()


def test_equals_open_clips_own_transform() -> None:
    from open_clip.transform import image_transform

    image = Image.fromarray(np.random.default_rng(1).integers(0, 256, (50, 83, 3), dtype=np.uint8))
    reference = image_transform(28, is_train=False, mean=CLIP_MEAN, std=CLIP_STD)(image)
    assert (Preprocessing(28).normalise(crops([image], 28))[0] == reference).all()


def test_normalised_values_by_hand() -> None:
    white = Preprocessing(4).normalise(crops([Image.new("RGB", (4, 4), (255, 0, 51))], 4))[0, :, 0, 0]
    np.testing.assert_allclose(
        white, [(1 - 0.48145466) / 0.26862954, -0.4578275 / 0.26130258, (0.2 - 0.40821073) / 0.27577711], rtol=1e-6
    )


def test_palette_becomes_rgb_before_the_resize() -> None:
    """Two palette entries of adjacent index and opposite colour: interpolated as colours, not as indices."""
    image = Image.new("P", (2, 2))
    image.putpalette([255, 0, 0, 0, 0, 255])
    image.putdata([0, 1, 0, 1])
    middle = np.asarray(square_crop(image, 8))[:, 3:5].reshape(-1, 3)
    assert ((middle[:, 0] > 60) & (middle[:, 2] > 60)).all()


def test_alpha_is_dropped_not_blended() -> None:
    image = Image.new("RGBA", (6, 6), (200, 100, 50, 0))
    assert (np.asarray(square_crop(image, 3)) == [200, 100, 50]).all()


def test_centre_is_kept() -> None:
    image = Image.new("RGB", (12, 4))
    image.paste((255, 255, 255), (4, 0, 8, 4))
    assert (np.asarray(square_crop(image, 4)) == 255).all()


@pytest.mark.parametrize("fit", ["crop", "pad"])
def test_normalising_leaves_the_squares_as_they_are(fit: Fit) -> None:
    """Scorers share squares; the arithmetic is in place in a tensor of its own, with the bits of the plain formula."""
    images = [Image.fromarray(np.random.default_rng(2).integers(0, 256, (40, 31, 3), dtype=np.uint8))]
    preprocessing = Preprocessing(28, fit=fit)
    squares = preprocessing.squares(images)
    before = squares.clone()
    unit = squares if squares.is_floating_point() else squares.to(torch.float32) / 255
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in (CLIP_MEAN, CLIP_STD))
    assert torch.equal(preprocessing.normalise(squares), (unit - mean) / std)
    assert torch.equal(squares, before)
