"""From the bytes of a file to one image, or to the reason why they are none that scores could be compared on."""

from __future__ import annotations

import io
import warnings
from functools import cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from PIL import Image

# Pillow's own limit, beyond which it suspects a decompression bomb: 89 million pixels.
MAX_PIXELS = 1024 * 1024 * 1024 // 4 // 3
# Scorers bring the short edge to a fixed length: a strip of 1 x 60000 pixels would become one of 224 x 13 million.
MAX_ASPECT = 256
# Others are seldom meant, and some of Pillow's readers call programs (Ghostscript for EPS).
FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "TIFF", "GIF")
# Modes of more than 8 bits a channel, which Pillow would clip rather than scale on the way to RGB.
_DEEP_MODES = ("I", "F")
_BITS_PER_SAMPLE = 258


class BrokenImageError(ValueError):
    """The bytes are no image that can be scored; the message is the reason, without the file."""


def decode(content: bytes) -> Image.Image:
    """The decoded image.

    Raises:
        BrokenImageError: the bytes are empty, none of :data:`FORMATS`, cut off, animated, deeper than 8 bits a
            channel, of more than :data:`MAX_PIXELS` pixels, or more than :data:`MAX_ASPECT` times as long as wide.
    """
    from PIL import Image, UnidentifiedImageError

    if not content:
        raise BrokenImageError("the file is empty")
    try:
        # Size and depth are known from the header, before anything large is allocated.
        _quiet()
        image = Image.open(io.BytesIO(content), formats=FORMATS)
        if image.width * image.height > MAX_PIXELS:
            raise BrokenImageError(f"{image.width} x {image.height} pixels, at most {MAX_PIXELS} are read")
        if max(image.size) > MAX_ASPECT * min(image.size):
            raise BrokenImageError(
                f"{image.width} x {image.height} pixels, one edge is more than {MAX_ASPECT} times the other; crop it"
            )
        if getattr(image, "n_frames", 1) > 1:
            raise BrokenImageError(f"holds {getattr(image, 'n_frames', 0)} frames; save one of them as PNG")
        if image.mode.startswith(_DEEP_MODES):
            raise BrokenImageError(f"mode {image.mode}, more than 8 bits a channel; save it with 8")
        if (bits := _bits(image, content)) > 8:
            raise BrokenImageError(f"{bits} bits a channel; save it with 8")
        image.load()
    except BrokenImageError:
        raise
    except UnidentifiedImageError as error:
        raise BrokenImageError("not an image of a known format") from error
    except Image.DecompressionBombError as error:
        raise BrokenImageError(f"more than {2 * MAX_PIXELS} pixels, at most {MAX_PIXELS} are read") from error
    # Pillow reports damaged files as OSError, SyntaxError, ValueError, struct.error, zlib.error … by format.
    except Exception as error:
        reason = str(error).strip().splitlines()
        raise BrokenImageError(f"truncated or damaged ({reason[0] if reason else type(error).__name__})") from error
    return image


def _bits(image: Image.Image, content: bytes) -> int:
    """Bits a channel in the file: Pillow opens 16-bit colour as RGB and drops the lower half."""
    if image.format == "PNG":
        return content[24]  # IHDR is always the first chunk
    if image.format == "TIFF":
        stored = image.tag_v2.get(_BITS_PER_SAMPLE, 1)  # type: ignore[attr-defined]
        return max(stored) if isinstance(stored, tuple) else int(stored)
    return 8


@cache
def _quiet() -> None:
    """Silence Pillow's warning of large images, which are refused; once, since filters are not made for threads."""
    from PIL import Image

    warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)
