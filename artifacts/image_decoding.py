"""The one decoder of image files, for pairs and for scoring: from bytes to upright sRGB, or to the reason why not.

Scores and trainings can only be compared if all images become pixels by one rule, so nothing that a file may hold is
left to the reader's defaults: see ``docs/image-decoding.md``. What the rule did to a file beyond reading plain RGB is
said by names of :data:`MET`, to be counted and shown.
"""

from __future__ import annotations

import io
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any, Final

from artifacts.colour_profiles import UnusableProfileError, srgb_transform

if TYPE_CHECKING:
    from PIL import Image

VERSION: Final = 2
"""Raised when a file that is accepted becomes other pixels; scores that were kept are then computed again."""
# Others are seldom meant, and some of Pillow's readers start programs (Ghostscript for EPS).
FORMATS: Final = ("PNG", "JPEG", "WEBP", "BMP", "TIFF", "GIF")
# Pillow's own limit, beyond which it suspects a decompression bomb: 89 million pixels.
MAX_PIXELS: Final = 1024 * 1024 * 1024 // 4 // 3
# Readers bring the short edge to a fixed length: a strip of 1 x 60000 pixels would become one of 512 x 31 million.
MAX_ASPECT: Final = 256
MET: Final = {
    "turned": "turned upright as EXIF says",
    "exif_unreadable": "with EXIF data that cannot be read, taken as upright",
    "profile": "converted from their colour profile to sRGB",
    "profile_unusable": "with a colour profile that cannot be used, taken as sRGB",
    "alpha": "with transparency, laid on white",
    "cmyk": "of CMYK",
    "grey": "grey",
    "palette": "of a palette",
}
"""What decoding may meet, and what it does then; a file that meets nothing is RGB already."""

# Pillow would clip the modes that are missing here, or knows no way from them to RGB.
_MODES = {
    **dict.fromkeys(("1", "L", "LA", "La"), "grey"),
    **dict.fromkeys(("P", "PA"), "palette"),
    **dict.fromkeys(("RGB", "RGBA", "RGBa", "RGBX", "YCbCr"), ""),
    "CMYK": "cmyk",
}
_DEEP_MODES = ("I", "F")
# Grey PNG of few bits, as Pillow calls them, and the factor by which it spreads their pixels over 0 … 255.
_FEW_BITS = {"L;2": 85, "L;4": 17}
_ORIENTATION, _BITS_PER_SAMPLE, _SAMPLE_FORMAT, _UNSIGNED = 274, 258, 339, (1, 4)
# EXIF's orientations beside 1, upright, as Pillow's transpositions that undo them.
_TURNS = {
    2: "FLIP_LEFT_RIGHT",
    3: "ROTATE_180",
    4: "FLIP_TOP_BOTTOM",
    5: "TRANSPOSE",
    6: "ROTATE_270",
    7: "TRANSVERSE",
    8: "ROTATE_90",
}
# What a PNG may say of its orientation behind its pixels, as the bytes by which it is found.
_LATE_EXIF = (b"eXIf", b"Raw profile type", b"XML:com.adobe.xmp")


class BrokenImageError(ValueError):
    """The bytes are no image that is read; the message is the reason, without the file."""


@dataclass(frozen=True)
class DecodedImage:
    """An image as everybody sees it.

    Attributes:
        image: RGB, upright, sRGB; its ``info`` holds nothing but texts of a PNG file.
        met: names of :data:`MET`, in its order.
    """

    image: Image.Image
    met: tuple[str, ...]


def decode(content: bytes) -> DecodedImage:
    """The image in a file.

    Raises:
        BrokenImageError: the bytes are empty, none of :data:`FORMATS`, cut off or damaged, several frames, deeper than
            8 bits a channel, of more than :data:`MAX_PIXELS` pixels, or more than :data:`MAX_ASPECT` times as long as
            wide.
    """
    with _opened(content) as image:
        decoded = to_rgb(image)
        decoded.image.info = _texts(image)
    return decoded


def inspect(content: bytes) -> tuple[str, ...]:
    """What :func:`decode` would meet, without decoding pixels where that can be known; errors as there."""
    with _opened(content) as image:
        _check(image)
        late = image.format == "PNG" and any(mark in content for mark in _LATE_EXIF)
        if late:
            image.load()
        return _met(image, exif=late or image.format != "PNG")


def to_rgb(image: Image.Image) -> DecodedImage:
    """An image that somebody else opened or made, by the same rule; itself if there is nothing to do.

    Raises:
        BrokenImageError: as :func:`decode`, as far as it can still be seen. Pillow's own errors pass.
    """
    from PIL import Image

    _check(image)
    _spread_transparency(image)
    # Pillow turns TIFF files while it loads them, and forgets that it did.
    if image.format != "TIFF":
        image.load()
    met, turn = _met(image), _orientation(image) or 1
    image.load()
    if not met and image.mode == "RGB":
        return DecodedImage(image, met)
    texts = _texts(image)
    if turn != 1 and image.format != "TIFF":
        image = image.transpose(Image.Transpose[_TURNS[turn]])
    image = _coloured(image)
    image.info = texts
    return DecodedImage(image, met)


def described(counts: Mapping[str, int]) -> str:
    """Numbers of images by what decoding met, in words; empty if it met nothing."""
    return ", ".join(f"{counts[name]} {what}" for name, what in MET.items() if counts.get(name))


@contextmanager
def _opened(content: bytes) -> Iterator[Image.Image]:
    """A file's image, its pixels not decoded yet; whatever goes wrong becomes one reason."""
    from PIL import Image, UnidentifiedImageError

    if not content:
        raise BrokenImageError("the file is empty")
    try:
        _quiet()
        yield Image.open(io.BytesIO(content), formats=FORMATS)
    except (BrokenImageError, MemoryError):
        raise
    except UnidentifiedImageError as error:
        raise BrokenImageError(
            f"not an image of a known format, or a damaged one; {', '.join(FORMATS)} are read"
        ) from error
    except Image.DecompressionBombError as error:
        raise BrokenImageError(f"more than {2 * MAX_PIXELS} pixels, at most {MAX_PIXELS} are read") from error
    # Pillow reports damaged files as OSError, SyntaxError, ValueError, struct.error, zlib.error … by format.
    except Exception as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        # Pillow names the buffer by its address, which would differ from run to run.
        raise BrokenImageError(f"truncated or damaged ({reason.split(' <_io')[0]})") from error


def _check(image: Image.Image) -> None:
    """Refuse what is known from the header, before anything large is allocated."""
    size = f"{image.width} x {image.height} pixels"
    if image.width * image.height > MAX_PIXELS:
        raise BrokenImageError(f"{size}, at most {MAX_PIXELS} are read")
    if max(image.size) > MAX_ASPECT * min(image.size):
        raise BrokenImageError(f"{size}, one edge is more than {MAX_ASPECT} times the other; crop it")
    if (frames := getattr(image, "n_frames", 1)) > 1:
        raise BrokenImageError(f"holds {frames} frames; save one of them as PNG")
    if image.format not in (None, *FORMATS):
        raise BrokenImageError(f"{image.format} is not read; save it as PNG")
    if image.mode.startswith(_DEEP_MODES):
        raise BrokenImageError(f"mode {image.mode}, more than 8 bits a channel; save it with 8")
    if image.mode not in _MODES:
        raise BrokenImageError(f"mode {image.mode} is not read; save it as RGB")
    if image.format == "PNG" and any(";16" in str(tile.args) for tile in getattr(image, "tile", ())):
        # Pillow opens 16-bit colour as RGB and drops the lower half.
        raise BrokenImageError("16 bits a channel; save it with 8")
    if image.format == "TIFF":
        if (bits := max(_tag(image, _BITS_PER_SAMPLE))) > 8:
            raise BrokenImageError(f"{bits} bits a channel; save it with 8")
        if not set(_tag(image, _SAMPLE_FORMAT)) <= set(_UNSIGNED):
            raise BrokenImageError("its values are signed or floating; save it with 8 bits a channel, unsigned")


def _spread_transparency(image: Any) -> None:
    """Bring the transparent grey of a PNG to the scale of its pixels, which Pillow leaves undone."""
    bits = str(image.tile[0].args) if image.format == "PNG" and image.tile else ""
    if isinstance(transparent := image.info.get("transparency"), int):
        image.info["transparency"] = transparent * _FEW_BITS.get(bits, 1)


def _tag(image: Any, number: int) -> tuple[int, ...]:
    """Values of a TIFF tag whose default is 1."""
    stored = image.tag_v2.get(number, 1)
    return stored if isinstance(stored, tuple) else (int(stored),)


def _met(image: Image.Image, *, exif: bool = True) -> tuple[str, ...]:
    """Names of :data:`MET`; ``exif``: whether EXIF data may be asked for, which loads a PNG."""
    found = {_MODES[image.mode]}
    if exif and (turn := _orientation(image)) != 1:
        found.add("exif_unreadable" if turn is None else "turned")
    if profile := image.info.get("icc_profile"):
        try:
            if srgb_transform(profile, _profiled_mode(image)) is not None:
                found.add("profile")
        except UnusableProfileError:
            found.add("profile_unusable")
    if image.has_transparency_data:
        found.add("alpha")
    return tuple(name for name in MET if name in found)


def _orientation(image: Image.Image) -> int | None:
    """1 to 8 as EXIF or XMP says it, 1 if neither does; ``None`` if it cannot be read."""
    try:
        value = image.getexif().get(_ORIENTATION, 1)
    # What damaged EXIF data raise depends on where they are damaged.
    except Exception:
        return None
    return value if value in _TURNS else 1


def _profiled_mode(image: Image.Image) -> str:
    """The mode that a profile of the image speaks of: ``L``, ``RGB`` or ``CMYK``."""
    return {"grey": "L", "cmyk": "CMYK"}.get(_MODES[image.mode], "RGB")


def _coloured(image: Image.Image) -> Image.Image:
    """The image in sRGB, without transparency."""
    from PIL import Image

    profile, mode, alpha = image.info.get("icc_profile"), _profiled_mode(image), None
    if image.has_transparency_data:
        image = image.convert("LA" if mode == "L" else "RGBA")
        alpha = image.getchannel("A")
    colours = image.convert(mode)
    try:
        transform = srgb_transform(profile, mode) if profile else None
    except UnusableProfileError:
        transform = None
    colours = colours.convert("RGB") if transform is None else transform.apply(colours)
    if alpha is not None:
        colours = Image.composite(colours, Image.new("RGB", colours.size, "white"), alpha)
    return colours


def _texts(image: Image.Image) -> dict[Any, Any]:
    """The texts of a PNG file, but for those that speak of what has been done already."""
    if image.format not in (None, "PNG"):
        return {}
    done = ("XML:com.adobe.xmp", "Raw profile type")
    return {k: v for k, v in image.info.items() if isinstance(v, str) and not str(k).startswith(done)}


@cache
def _quiet() -> None:
    """Silence Pillow's warning of large images, which are refused; once, since filters are not made for threads."""
    from PIL import Image

    warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)
