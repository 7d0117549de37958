"""One image on its way into the cache: digest, resize, crop, mirror, and the sizes that SDXL is told.

As the training code of Diffusion-DPO and Diffusion-SDPO (``train.py``, ``train_transforms``) does it: the shorter
side is resized to the resolution (bilinear), then a square is cropped, by default in the middle.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

from artifacts.image_decoding import to_rgb

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
    from PIL import Image as images

    decoded = to_rgb(image)
    image, met = decoded.image, decoded.met
    sha256 = content_sha256(image)
    height, width, side = image.height, image.width, settings.resolution
    if side is None:
        whole = (height, width, 0, 0, height, width)
        return PreparedImage(sha256, image, whole, whole, met)
    if (short := min(height, width)) != side:
        # The longer side is cut to an integer, as torchvision's Resize does.
        scaled = int(side * max(height, width) / short)
        image = image.resize((scaled, side) if width > height else (side, scaled), images.Resampling.BILINEAR)
    free = image.height - side, image.width - side
    if settings.crop == "center":
        # As torchvision's CenterCrop, which rounds halves to the even number.
        top, left = (round(x / 2.0) for x in free)
    else:
        drawn = int(sha256[:8], 16), int(sha256[8:16], 16)
        top, left = (x % (f + 1) for x, f in zip(drawn, free, strict=True))
    cropped = image.crop((left, top, left + side, top + side))
    if settings.time_ids == "resolution":
        square = (side, side, 0, 0, side, side)
        return PreparedImage(sha256, cropped, square, square, met)
    return PreparedImage(
        sha256, cropped, (height, width, top, left, side, side), (height, width, top, free[1] - left, side, side), met
    )


def mirrored(image: Image) -> Image:
    """Left and right exchanged."""
    from PIL import ImageOps

    return ImageOps.mirror(image)
