"""From the ICC profile of an image to a transform of its pixels to sRGB."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from PIL import Image
    from PIL.ImageCms import ImageCmsTransform

TOLERANCE = 2
"""Of 255: a profile that moves no colour further is taken for sRGB, and the pixels stay as they are. Versions of sRGB's
own profile differ by rounding."""

_SPACES = {"L": "GRAY", "RGB": "RGB", "CMYK": "CMYK"}
_LEVELS = 9


class UnusableProfileError(ValueError):
    """The profile is damaged, or is not one of images of this mode."""


@lru_cache(maxsize=32)
def srgb_transform(profile: bytes, mode: str) -> ImageCmsTransform | None:
    """The transform from a profile to sRGB, with perceptual intent; may be used by several threads at a time.

    Args:
        profile: content of an ICC profile.
        mode: of the images, ``L``, ``RGB`` or ``CMYK``.

    Returns:
        Transform whose images are RGB, or ``None`` where the profile is sRGB.

    Raises:
        UnusableProfileError: the profile cannot be used.
    """
    import io

    from PIL import ImageCms

    try:
        source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        if (space := source.profile.xcolor_space.strip()) != _SPACES[mode]:
            raise UnusableProfileError(f"a profile of {space} in an image of mode {mode}")
        transform = ImageCms.ImageCmsTransform(
            source, ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")), mode, "RGB", ImageCms.Intent.PERCEPTUAL
        )
    except (OSError, ValueError, TypeError, ImageCms.PyCMSError) as error:
        raise UnusableProfileError(str(error)) from error
    if mode != "CMYK" and _distance(transform, _colours(mode)) <= TOLERANCE:
        return None
    return transform


def _colours(mode: str) -> Image.Image:
    """An image of colours spread evenly over a mode."""
    from PIL import Image

    if mode == "L":
        return Image.frombytes("L", (256, 1), bytes(range(256)))
    levels = [round(255 * i / (_LEVELS - 1)) for i in range(_LEVELS)]
    pixels = bytes(value for r in levels for g in levels for b in levels for value in (r, g, b))
    return Image.frombytes("RGB", (_LEVELS**2, _LEVELS), pixels)


def _distance(transform: ImageCmsTransform, colours: Image.Image) -> int:
    """How far the transform moves a channel of any of these colours, at most."""
    from PIL import ImageChops

    moved = ImageChops.difference(transform.apply(colours), colours.convert("RGB"))
    return max(high for _, high in moved.getextrema())  # type: ignore[misc]
