"""One image on its way into the cache: digest, resize, crop, mirror, and the sizes that SDXL is told.

As the training code of Diffusion-DPO and Diffusion-SDPO (``train.py``, ``train_transforms``) does it: an image is
resized until it just covers the square of the resolution (bilinear), or another size, and that is cropped, by default
in the middle.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from math import prod
from typing import TYPE_CHECKING

from artifacts.image_decoding import DecodedImage, to_rgb

if TYPE_CHECKING:
    from PIL.Image import Image

    from sdpo.pairs.cache.settings import EncodingSettings

Sizes = tuple[int, int, int, int, int, int]
"""Original height and width, crop's top and left in the resized image, target height and width; pixels."""


@dataclass(frozen=True)
class PreparedImage:
    """An image as it is encoded.

    Attributes:
        met: what decoding met, names of :data:`artifacts.image_decoding.MET`.
        sha256: digest of the content it was made from.
        image: RGB.
        sizes: of the image; :attr:`mirrored_sizes` of its mirror image, whose crop lies on the other side.
    """

    sha256: str
    image: Image
    sizes: Sizes
    mirrored_sizes: Sizes
    met: tuple[str, ...] = ()


def content_sha256(image: Image) -> str:
    """Hex SHA-256 of an RGB image's size, pixels and text entries (some families keep more than the pixels there)."""
    digest = hashlib.sha256(f"{image.width}x{image.height}\0".encode())
    for key, text in _texts(image):
        digest.update(f"{key}\0{text}\0".encode())
    digest.update(image.tobytes())
    return digest.hexdigest()


def decoded_sha256(image: Image) -> str:
    """What :attr:`PreparedImage.sha256` is of an image of any mode.

    Raises:
        BrokenImageError: as :func:`prepared`.
    """
    return content_sha256(to_rgb(image).image)


def same_picture(first: PreparedImage, second: PreparedImage) -> bool:
    """Whether two images are the same once they are prepared: sizes, pixels and text entries."""
    if first.sha256 == second.sha256:
        return True
    one, other = first.image, second.image
    return one.size == other.size and _texts(one) == _texts(other) and one.tobytes() == other.tobytes()


def _texts(image: Image) -> list[tuple[str, str]]:
    return sorted((str(key), text) for key, text in image.info.items() if isinstance(text, str))


def prepared(image: Image, settings: EncodingSettings) -> PreparedImage:
    """Digest, resize and crop an image of any mode and size.

    Raises:
        BrokenImageError: it is none that is read (:func:`artifacts.image_decoding.to_rgb`).
    """
    return fitted([to_rgb(image)], settings)[0]


def fitted(images: Sequence[DecodedImage], settings: EncodingSettings) -> list[PreparedImage]:
    """The same of images that come to one size, as those of a pair do."""
    size = common_size([x.image.size for x in images], settings)
    return [_cropped(x, size, settings) for x in images]


def common_size(sizes: Sequence[tuple[int, int]], settings: EncodingSettings) -> tuple[int, int] | None:
    """Width and height to which images of these widths and heights are brought; ``None`` leaves them as they are."""
    if settings.sizes is None:
        return None if settings.resolution is None else (settings.resolution, settings.resolution)
    # Powers of ratios instead of means of logarithms: whole numbers, so that two that are as near are so everywhere.
    own = prod(Fraction(width, height) for width, height in sizes)
    width, height = min(
        settings.sizes, key=lambda size: (max(x := Fraction(*size) ** len(sizes) / own, 1 / x), Fraction(*size))
    )
    return width, height


def _cropped(decoded: DecodedImage, size: tuple[int, int] | None, settings: EncodingSettings) -> PreparedImage:
    from PIL import Image as images

    image, met = decoded.image, decoded.met
    sha256 = content_sha256(image)
    height, width = image.height, image.width
    if size is None:
        whole = (height, width, 0, 0, height, width)
        return PreparedImage(sha256, image, whole, whole, met)
    across, down = size
    # The side that is not the measure is cut to an integer, as torchvision's Resize does.
    scaled = (
        (int(down * width / height), down) if width * down > across * height else (across, int(across * height / width))
    )
    if scaled != image.size:
        image = image.resize(scaled, images.Resampling.BILINEAR)
    free = image.height - down, image.width - across
    if settings.crop == "center":
        # As torchvision's CenterCrop, which rounds halves to the even number.
        top, left = (round(x / 2.0) for x in free)
    else:
        drawn = int(sha256[:8], 16), int(sha256[8:16], 16)
        top, left = (x % (f + 1) for x, f in zip(drawn, free, strict=True))
    cropped = image.crop((left, top, left + across, top + down))
    if settings.time_ids == "resolution":
        own = (down, across, 0, 0, down, across)
        return PreparedImage(sha256, cropped, own, own, met)
    mirrored_left = free[1] - left
    return PreparedImage(
        sha256,
        cropped,
        (height, width, top, left, down, across),
        (height, width, top, mirrored_left, down, across),
        met,
    )


def mirrored(image: Image) -> Image:
    """Left and right exchanged."""
    from PIL import ImageOps

    return ImageOps.mirror(image)
