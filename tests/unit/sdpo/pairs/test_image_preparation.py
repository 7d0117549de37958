"""Resize, crop, mirror and sizes of an image, against torchvision's transforms that the published code uses."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image, ImageOps

from sdpo.pairs.cache.images import content_sha256, mirrored, prepared
from sdpo.pairs.cache.settings import EncodingSettings


def picture(width: int, height: int, seed: int = 0) -> Image.Image:
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return Image.fromarray(pixels)


# Square, both orientations, odd differences of which the half is rounded to even, already of the size, enlarged.
SIZES = [
    (64, 64),
    (97, 64),
    (64, 97),
    (101, 67),
    (67, 101),
    (32, 45),
    (47, 32),
    (35, 32),
    (32, 32),
    (20, 31),
    (333, 500),
]


@pytest.mark.parametrize("size", SIZES)
def test_resize_and_centre_crop_are_torchvisions(size: tuple[int, int]) -> None:
    from torchvision import transforms
    from torchvision.transforms import InterpolationMode

    published = transforms.Compose(
        [transforms.Resize(32, interpolation=InterpolationMode.BILINEAR), transforms.CenterCrop(32)]
    )
    image = picture(*size)
    ours = prepared(image, EncodingSettings(resolution=32))
    assert np.array_equal(np.asarray(ours.image), np.asarray(published(image)))
    # Published SDXL training tells the model that the square was never cropped.
    assert ours.sizes == ours.mirrored_sizes == (32, 32, 0, 0, 32, 32)


def test_own_sizes_are_height_and_width_then_top_and_left_of_the_crop() -> None:
    settings = EncodingSettings(resolution=32, time_ids="image")
    wide = prepared(picture(100, 64), settings)
    # Resized to 50 x 32, of which 9 columns go left and 9 right.
    assert wide.sizes == (64, 100, 0, 9, 32, 32)
    assert wide.mirrored_sizes == (64, 100, 0, 9, 32, 32)
    tall = prepared(picture(64, 98), settings)
    # Resized to 32 x 49: the half of 17 rows is rounded to 8.
    assert tall.sizes == tall.mirrored_sizes == (98, 64, 8, 0, 32, 32)
    odd = prepared(picture(98, 64), settings)
    assert odd.sizes == (64, 98, 0, 8, 32, 32)
    # In the mirrored image, 9 columns lie to the left of the square.
    assert odd.mirrored_sizes == (64, 98, 0, 9, 32, 32)
    resized = ImageOps.mirror(picture(98, 64).resize((49, 32), Image.Resampling.BILINEAR))
    assert np.array_equal(np.asarray(mirrored(odd.image)), np.asarray(resized.crop((9, 0, 41, 32))))


def test_without_a_resolution_an_image_stays_as_it_is() -> None:
    image = picture(40, 24)
    whole = prepared(image, EncodingSettings())
    assert np.array_equal(np.asarray(whole.image), np.asarray(image))
    assert whole.sizes == (24, 40, 0, 0, 24, 40)


def test_random_crop_is_drawn_from_the_content_and_moves() -> None:
    settings = EncodingSettings(resolution=32, crop="random", time_ids="image")
    lefts = [prepared(picture(96, 32, seed), settings).sizes[3] for seed in range(60)]
    assert lefts == [prepared(picture(96, 32, seed), settings).sizes[3] for seed in range(60)]
    assert min(lefts) >= 0
    assert max(lefts) <= 64
    assert len(set(lefts)) > 25
    one = prepared(picture(96, 32, 3), settings)
    left = one.sizes[3]
    assert np.array_equal(np.asarray(one.image), np.asarray(picture(96, 32, 3))[:, left : left + 32])


def test_digest_is_of_pixels_size_and_texts() -> None:
    image = picture(8, 4)
    same = Image.fromarray(np.asarray(image).copy())
    assert content_sha256(image) == content_sha256(same)
    assert content_sha256(image) != content_sha256(picture(8, 4, seed=1))
    assert content_sha256(image) != content_sha256(Image.fromarray(np.asarray(image).reshape(8, 4, 3)))
    same.info["points"] = "coordinates that the pixels do not show"
    assert content_sha256(image) != content_sha256(same)


@pytest.mark.parametrize("mode", ["L", "RGBA", "P", "CMYK"])
def test_other_modes_become_rgb(mode: str) -> None:
    image = picture(40, 32).convert(mode)
    ready = prepared(image, EncodingSettings(resolution=32))
    assert ready.image.mode == "RGB"
    assert np.array_equal(np.asarray(ready.image), np.asarray(image.convert("RGB"))[:, 4:36])
