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
# Modes of more than 8 bits a channel, which Pillow would clip rather than scale on the way to RGB.
_DEEP_MODES = ("I", "F")


class BrokenImageError(ValueError):
    """The bytes are no image that can be scored; the message is the reason, without the file."""


def decode(content: bytes) -> Image.Image:
    """The decoded image.

    Raises:
        BrokenImageError: the bytes are empty, no image, cut off, animated, deeper than 8 bits a channel, or of more
            than :data:`MAX_PIXELS` pixels.
    """
    from PIL import Image, UnidentifiedImageError

    if not content:
        raise BrokenImageError("the file is empty")
    try:
        # Size and mode are known from the header, before anything large is allocated.
        _quiet()
        image = Image.open(io.BytesIO(content))
        if image.width * image.height > MAX_PIXELS:
            raise BrokenImageError(f"{image.width} x {image.height} pixels, at most {MAX_PIXELS} are read")
        if getattr(image, "n_frames", 1) > 1:
            raise BrokenImageError(f"holds {getattr(image, 'n_frames', 0)} frames; save one of them as PNG")
        if image.mode.startswith(_DEEP_MODES):
            raise BrokenImageError(f"mode {image.mode}, more than 8 bits a channel; save it with 8")
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


@cache
def _quiet() -> None:
    """Silence Pillow's warning of large images, which are refused; once, since filters are not made for threads."""
    from PIL import Image

    warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)
