"""Scorers without weights: JPEG size and blank images."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from artifacts.errors import InputError
from evals.scorers import create, lower_is_better
from evals.scorers.blank import is_blank


def noise(width: int, height: int, spread: int = 255) -> Image.Image:
    values = np.random.default_rng(0).integers(0, spread + 1, (height, width, 3), dtype=np.uint8)
    return Image.fromarray(values)


def test_jpeg_size_is_the_size_of_the_file_in_kilobytes() -> None:
    images = [noise(64, 48), Image.new("RGB", (64, 48), "red"), noise(64, 48).convert("L"), noise(128, 96)]
    scores = create("jpeg_size").score(images, ["a"] * 4)
    file = io.BytesIO()
    images[0].save(file, "JPEG", quality=95)
    assert scores[0] == len(file.getvalue()) / 1000
    assert scores[1] < scores[2] < scores[0] < scores[3]


@pytest.mark.parametrize(
    ("image", "blank"),
    [
        (Image.new("RGB", (32, 32)), True),
        (Image.new("RGB", (32, 32), (200, 10, 60)), True),
        (noise(32, 32, spread=2), True),
        (noise(32, 32, spread=6), False),
        (Image.new("RGBA", (32, 32), (0, 0, 0, 0)), True),
        (Image.linear_gradient("L"), False),
    ],
)
def test_blank_images(image: Image.Image, blank: bool) -> None:
    assert is_blank(image) is blank
    assert list(create("blank").score([image], ["a"])) == [float(blank)]


def test_one_bright_pixel_is_no_blank_image() -> None:
    image = Image.new("RGB", (32, 32))
    image.putpixel((5, 7), (0, 90, 0))
    assert not is_blank(image)


def test_low_is_good_for_blank_only() -> None:
    assert lower_is_better("blank")
    assert not lower_is_better("jpeg_size")
    with pytest.raises(InputError, match="unknown scorer 'no-such-scorer'"):
        lower_is_better("no-such-scorer")
