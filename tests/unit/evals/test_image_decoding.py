"""Which files are taken for images; those that a folder's scores list as broken are in test_folder_scores.py."""

from __future__ import annotations

import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from evals.image_decoding import MAX_ASPECT, BrokenImageError, decode

GREY, RGB, GREY_ALPHA, RGBA = 0, 2, 4, 6
CHANNELS = {GREY: 1, RGB: 3, GREY_ALPHA: 2, RGBA: 4}


def png(kind: int, bits: int) -> bytes:
    """A PNG of 4 x 4 pixels written by hand: Pillow writes no 16-bit colour."""

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    row = b"\0" + bytes(range(4 * CHANNELS[kind] * bits // 8))
    header = struct.pack(">IIBBBBB", 4, 4, bits, kind, 0, 0, 0)
    body = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(row * 4)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + body


def tiff(bits: int, compression: int = 1) -> bytes:
    """An RGB TIFF of 4 x 4 pixels written by hand, for the same reason."""
    pixels = bytes(range(4 * 4 * 3 * bits // 8))
    if compression == 8:
        pixels = zlib.compress(pixels)
    entries, depth_at, pixels_at = 9, 8 + 2 + 9 * 12 + 4, 8 + 2 + 9 * 12 + 4 + 6
    tags = [(256, 4, 1, 4), (257, 4, 1, 4), (258, 3, 3, depth_at), (259, 3, 1, compression), (262, 3, 1, 2)]
    tags += [(273, 4, 1, pixels_at), (277, 3, 1, 3), (278, 4, 1, 4), (279, 4, 1, len(pixels))]
    directory = struct.pack("<H", entries) + b"".join(struct.pack("<HHII", *tag) for tag in tags) + bytes(4)
    return b"II*\0" + struct.pack("<I", 8) + directory + struct.pack("<HHH", bits, bits, bits) + pixels


def saved(image: Image.Image, kind: str) -> bytes:
    file = io.BytesIO()
    image.save(file, kind)
    return file.getvalue()


@pytest.mark.parametrize("kind", [RGB, RGBA, GREY_ALPHA, GREY])
def test_sixteen_bits_a_channel_are_refused_in_png(kind: int) -> None:
    assert decode(png(kind, 8)).size == (4, 4)
    with pytest.raises(BrokenImageError, match=r"(16 bits a channel|mode I;16.*more than 8 bits a channel); save it"):
        decode(png(kind, 16))


@pytest.mark.parametrize("compression", [1, 8])
def test_sixteen_bits_a_channel_are_refused_in_tiff(compression: int) -> None:
    assert decode(tiff(8, compression)).getpixel((1, 0)) == (3, 4, 5)
    with pytest.raises(BrokenImageError, match="16 bits a channel; save it with 8"):
        decode(tiff(16, compression))


def test_other_depths_are_read() -> None:
    grey = Image.fromarray(np.arange(64, dtype=np.uint8).reshape(8, 8) * 4)
    for kind in ("PNG", "TIFF"):
        assert decode(saved(grey.convert("1"), kind)).mode == "1"
        assert decode(saved(grey.quantize(4), kind)).mode == "P"
        assert decode(saved(grey, kind)).mode == "L"


@pytest.mark.parametrize("size", [(1, MAX_ASPECT + 1), (60_000, 1)])
def test_strips_that_a_resize_would_blow_up_are_refused(size: tuple[int, int]) -> None:
    with pytest.raises(BrokenImageError, match=rf"{size[0]} x {size[1]} pixels, one edge is more than 256 times"):
        decode(saved(Image.new("RGB", size), "PNG"))
    assert decode(saved(Image.new("RGB", (2, 2 * MAX_ASPECT)), "PNG")).size == (2, 512)


def test_postscript_is_not_handed_to_ghostscript() -> None:
    with pytest.raises(BrokenImageError, match="not an image of a known format"):
        decode(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n%%EndComments\nshowpage\n")


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "BMP", "TIFF", "GIF"])
def test_formats_that_a_folder_may_hold(kind: str) -> None:
    assert decode(saved(Image.new("RGB", (5, 3)), kind)).size == (5, 3)
