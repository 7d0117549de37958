"""From the bytes of image files to RGB images, several at once."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

from artifacts.device import usable_cores

if TYPE_CHECKING:
    from PIL.Image import Image

THREADS = min(8, usable_cores())
"""Images decoded at once; Pillow decodes without the interpreter's lock."""


class BrokenImageError(Exception):
    """The bytes are not an image, or not a whole one."""


def decode(data: bytes) -> Image:
    """Decode an image completely, as RGB of its own size; transparency and metadata are dropped.

    Raises:
        BrokenImageError: not an image, truncated, damaged, or so large that Pillow takes it for a decompression bomb.
    """
    from PIL import Image

    try:
        with Image.open(io.BytesIO(data)) as opened:
            image = opened.convert("RGB")
    except MemoryError:
        raise
    # What a damaged file raises depends on the format and on where it is damaged.
    except Exception as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        # Pillow names the buffer by its address, which would differ from run to run.
        raise BrokenImageError(f"{reason.split(' <_io')[0]} ({len(data)} bytes)") from error
    # Else two files with the same picture and another comment would not be the same image.
    image.info = {}
    return image
