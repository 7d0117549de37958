"""Which files are taken for images, and what pixels they become; the rule is docs/image-decoding.md's."""

from __future__ import annotations

import io
import struct
import subprocess
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageCms
from PIL.PngImagePlugin import PngInfo

from artifacts.image_decoding import FORMATS, MAX_ASPECT, MET, BrokenImageError, decode, described, inspect, to_rgb

GREY, RGB, GREY_ALPHA, RGBA = 0, 2, 4, 6
CHANNELS = {GREY: 1, RGB: 3, GREY_ALPHA: 2, RGBA: 4}
ORIENTATION = 274


def chunk(name: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def png(kind: int, bits: int, *, before: bytes = b"", after: bytes = b"", size: tuple[int, int] = (4, 4)) -> bytes:
    """A PNG written by hand: Pillow writes no 16-bit colour. ``before`` and ``after`` are chunks around the pixels."""
    row = b"\0" + bytes(i % 256 for i in range(size[0] * CHANNELS[kind] * bits // 8))
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", *size, bits, kind, 0, 0, 0))
    pixels = chunk(b"IDAT", zlib.compress(row * size[1]))
    return b"\x89PNG\r\n\x1a\n" + header + before + pixels + after + chunk(b"IEND", b"")


def tiff(bits: int, compression: int = 1, *, sample_format: int | None = None) -> bytes:
    """An RGB TIFF of 4 x 4 pixels written by hand, for the same reason."""
    pixels = bytes(i % 256 for i in range(4 * 4 * 3 * bits // 8))
    if compression == 8:
        pixels = zlib.compress(pixels)
    entries = 9 if sample_format is None else 10
    depth_at = 8 + 2 + entries * 12 + 4
    formats_at, pixels_at = depth_at + 6, depth_at + 12
    tags = [(256, 4, 1, 4), (257, 4, 1, 4), (258, 3, 3, depth_at), (259, 3, 1, compression), (262, 3, 1, 2)]
    tags += [(273, 4, 1, pixels_at), (277, 3, 1, 3), (278, 4, 1, 4), (279, 4, 1, len(pixels))]
    tags += [] if sample_format is None else [(339, 3, 3, formats_at)]
    directory = struct.pack("<H", entries) + b"".join(struct.pack("<HHII", *tag) for tag in tags) + bytes(4)
    formats = struct.pack("<HHH", *[sample_format or 1] * 3)
    return b"II*\0" + struct.pack("<I", 8) + directory + struct.pack("<HHH", bits, bits, bits) + formats + pixels


def saved(image: Image.Image, kind: str, **options: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def noise(size: tuple[int, int] = (24, 16), channels: int = 3) -> Image.Image:
    pixels = np.random.default_rng(0).integers(0, 256, (size[1], size[0], channels), dtype=np.uint8)
    return Image.fromarray(pixels.squeeze())


def same(found: Image.Image, expected: Image.Image) -> bool:
    return found.mode == expected.mode == "RGB" and np.array_equal(np.asarray(found), np.asarray(expected))


@pytest.mark.parametrize("kind", FORMATS)
def test_plain_rgb_is_what_pillow_reads(kind: str) -> None:
    """The pixels of ordinary files are those of every release before, whatever else the rule does."""
    content = saved(noise(), kind)
    plain = decode(content)
    assert same(plain.image, Image.open(io.BytesIO(content)).convert("RGB"))
    assert plain.met == inspect(content) == (("palette",) if kind == "GIF" else ())
    assert plain.image.info == {}


@pytest.mark.parametrize("kind", [RGB, RGBA, GREY_ALPHA, GREY])
def test_sixteen_bits_a_channel_are_refused_in_png(kind: int) -> None:
    assert decode(png(kind, 8)).image.size == (4, 4)
    with pytest.raises(BrokenImageError, match=r"(16 bits a channel|mode I;16.*more than 8 bits a channel); save it"):
        decode(png(kind, 16))


def test_sixteen_bits_are_seen_wherever_the_header_is() -> None:
    """Pillow takes an IHDR that is not the first chunk."""
    content = png(RGB, 16)
    moved = content[:8] + chunk(b"tEXt", b"a\0" + bytes(50)) + content[8:]
    with pytest.raises(BrokenImageError):
        decode(moved)


@pytest.mark.parametrize("compression", [1, 8])
def test_sixteen_bits_a_channel_are_refused_in_tiff(compression: int) -> None:
    assert decode(tiff(8, compression)).image.getpixel((1, 0)) == (3, 4, 5)
    with pytest.raises(BrokenImageError, match="16 bits a channel; save it with 8"):
        decode(tiff(16, compression))


@pytest.mark.parametrize(
    ("values", "kind"),
    [
        (np.full((8, 8), 40_000, dtype=np.uint16), "PNG"),
        (np.full((8, 8), 40_000, dtype=np.uint16), "TIFF"),
        (np.full((8, 8), 70_000, dtype=np.int32), "TIFF"),
        (np.full((8, 8), 0.5, dtype=np.float32), "TIFF"),
    ],
)
def test_deep_grey_is_refused_and_not_clipped_to_white(values: Any, kind: str) -> None:
    with pytest.raises(BrokenImageError, match=r"mode (I|I;16|F), more than 8 bits a channel; save it with 8"):
        decode(saved(Image.fromarray(values), kind))


def test_signed_and_laboratory_colours_are_refused() -> None:
    with pytest.raises(BrokenImageError):
        decode(tiff(8, sample_format=2))
    lab = ImageCms.applyTransform(
        noise(), ImageCms.buildTransform(ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB"), "RGB", "LAB")
    )
    with pytest.raises(BrokenImageError, match="mode LAB is not read; save it as RGB"):
        decode(saved(lab, "TIFF"))


def test_small_depths_and_palettes_become_rgb() -> None:
    grey = Image.fromarray(np.arange(64, dtype=np.uint8).reshape(8, 8) * 4)
    for kind in ("PNG", "TIFF"):
        for mode, met in (("1", "grey"), ("L", "grey"), ("P", "palette")):
            image = grey.quantize(4) if mode == "P" else grey.convert(mode)
            found = decode(saved(image, kind))
            assert found.met == (met,)
            assert same(found.image, image.convert("RGB"))


@pytest.mark.parametrize("size", [(1, MAX_ASPECT + 1), (60_000, 1), (1, 60_000)])
def test_strips_that_a_resize_would_blow_up_are_refused(size: tuple[int, int]) -> None:
    message = rf"{size[0]} x {size[1]} pixels, one edge is more than 256 times the other; crop it"
    with pytest.raises(BrokenImageError, match=message):
        decode(saved(Image.new("RGB", size), "PNG"))
    with pytest.raises(BrokenImageError, match=message):
        to_rgb(Image.new("RGB", size))
    assert decode(saved(Image.new("RGB", (2, 2 * MAX_ASPECT)), "PNG")).image.size == (2, 512)


@pytest.mark.parametrize(("edge", "message"), [(10_000, "10000 x 10000 pixels, at most"), (20_000, "more than 1789")])
def test_bombs_are_refused_from_their_header(edge: int, message: str) -> None:
    content = png(RGB, 8)
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", edge, edge, 8, RGB, 0, 0, 0))
    with pytest.raises(BrokenImageError, match=message):
        decode(content[:8] + header + content[8 + len(header) :])


def test_bombs_of_text_and_of_profiles_are_refused() -> None:
    huge = zlib.compress(bytes(8_000_000))
    for before in (chunk(b"zTXt", b"a\0\0" + huge), chunk(b"iCCP", b"a\0\0" + huge)):
        with pytest.raises(BrokenImageError):
            decode(png(RGB, 8, before=before))


EPS = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n%%EndComments\nshowpage\n"


@pytest.mark.parametrize(
    "content",
    [
        EPS,
        b"%PDF-1.4\n",
        b'<svg xmlns="http://www.w3.org/2000/svg"/>',
        b"<html>404</html>",
        b"P6 1 1 255 abc",
        b"8BPS\0\1" + bytes(60),
        b"\0",
        saved(Image.new("RGB", (4, 4)), "TGA"),
        saved(Image.new("RGB", (4, 4)), "PPM"),
        saved(Image.new("RGB", (4, 4)), "ICO"),
    ],
)
def test_only_listed_formats_are_opened_and_no_program_is_started(
    content: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    def started(*_: Any, **__: Any) -> None:
        raise AssertionError("a program was started")

    for name in ("Popen", "run", "check_call", "call"):
        monkeypatch.setattr(subprocess, name, started)
    with pytest.raises(BrokenImageError, match="not an image of a known format"):
        decode(content)


def test_opened_images_of_other_formats_are_refused_before_they_are_loaded() -> None:
    for kind in ("EPS", "TGA"):
        opened = Image.open(io.BytesIO(EPS if kind == "EPS" else saved(Image.new("RGB", (4, 4)), kind)))
        with pytest.raises(BrokenImageError, match=f"{kind} is not read; save it as PNG"):
            to_rgb(opened)


def test_nothing_and_halves_are_refused() -> None:
    with pytest.raises(BrokenImageError, match="the file is empty"):
        decode(b"")
    for kind in FORMATS:
        content = saved(noise((64, 64)), kind)
        with pytest.raises(BrokenImageError, match=r"truncated or damaged|damaged one") as error:
            decode(content[: len(content) // 2])
        assert "0x" not in str(error.value)  # no address, so that two logs compare equal


@pytest.mark.parametrize("kind", ["GIF", "PNG", "WEBP", "TIFF", "MPO"])
def test_several_frames_are_refused(kind: str) -> None:
    frames = [noise(), noise().transpose(Image.Transpose.ROTATE_180)]
    content = saved(frames[0], kind, save_all=True, append_images=frames[1:])
    for read in (decode, inspect, lambda x: to_rgb(Image.open(io.BytesIO(x)))):
        with pytest.raises(BrokenImageError, match="holds 2 frames; save one of them as PNG"):
            read(content)


TURNED: dict[int, Callable[[Any], Any]] = {
    1: lambda a: a,
    2: lambda a: a[:, ::-1],
    3: lambda a: a[::-1, ::-1],
    4: lambda a: a[::-1],
    5: lambda a: a.transpose(1, 0, 2),
    6: lambda a: np.rot90(a, -1),
    7: lambda a: np.rot90(a, 2).transpose(1, 0, 2),
    8: lambda a: np.rot90(a),
}


def exif(orientation: Any) -> Image.Exif:
    found = Image.Exif()
    found[ORIENTATION] = orientation
    return found


@pytest.mark.parametrize("orientation", TURNED)
@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "TIFF", "packed TIFF"])
def test_images_are_turned_upright(kind: str, orientation: int) -> None:
    """As EXIF has it: 6 says that the camera's top lies to the right, and so on."""
    options = {"compression": "tiff_lzw"} if kind.startswith("packed") else {}
    kind = kind.removeprefix("packed ")
    plain, lying = saved(noise(), kind, **options), saved(noise(), kind, exif=exif(orientation), **options)
    found = decode(lying)
    expected = TURNED[orientation](np.asarray(decode(plain).image))
    assert np.array_equal(np.asarray(found.image), expected)
    assert found.met == inspect(lying) == (("turned",) if orientation != 1 else ())
    assert to_rgb(found.image).image is found.image  # and not once more
    opened = to_rgb(Image.open(io.BytesIO(lying)))
    assert np.array_equal(np.asarray(opened.image), expected)


def test_orientations_behind_the_pixels_of_a_png_count_too() -> None:
    body = exif(6).tobytes().removeprefix(b"Exif\0\0")
    late = png(RGB, 8, after=chunk(b"eXIf", body), size=(6, 4))
    assert decode(late).image.size == (4, 6)
    assert decode(late).met == inspect(late) == ("turned",)
    xmp = PngInfo()
    xmp.add_itxt("XML:com.adobe.xmp", '<x tiff:Orientation="3"/>')
    told = saved(noise(), "PNG", pnginfo=xmp)
    assert np.array_equal(np.asarray(decode(told).image), np.asarray(noise())[::-1, ::-1])
    assert decode(told).met == inspect(told) == ("turned",)


@pytest.mark.parametrize("orientation", [0, 9, 77])
def test_orientations_that_do_not_exist_are_upright(orientation: int) -> None:
    found = decode(saved(noise(), "PNG", exif=exif(orientation)))
    assert (same(found.image, noise()), found.met) == (True, ())


def test_exif_that_cannot_be_read_is_counted() -> None:
    content = saved(noise(), "PNG", exif=b"Exif\0\0nonsense")
    assert decode(content).met == inspect(content) == ("exif_unreadable",)
    assert same(decode(content).image, noise())


def test_hidden_colours_are_not_seen() -> None:
    """Half of the picture is transparent over another colour, a quarter is half transparent."""
    pixels = np.zeros((8, 8, 4), np.uint8)
    pixels[..., 0] = 200
    pixels[4:, :, 3] = 255
    pixels[4:, 4:, 3] = 51
    for kind in ("PNG", "TIFF"):
        content = saved(Image.fromarray(pixels), kind)
        found = decode(content)
        assert found.met == inspect(content) == ("alpha",)
        # 51 of 255 is a fifth: 200/5 + 255·4/5 and 0/5 + 255·4/5.
        corners = [found.image.getpixel(at) for at in ((0, 0), (0, 7), (7, 7))]
        assert corners == [(255, 255, 255), (200, 0, 0), (244, 204, 204)]


def test_every_kind_of_transparency_is_laid_on_white() -> None:
    grey = Image.fromarray(np.array([[[10, 0], [10, 255]]], np.uint8))
    assert grey.mode == "LA"
    palette = Image.new("P", (2, 1))
    palette.putpalette([9, 9, 9, 30, 60, 90])
    palette.putpixel((1, 0), 1)
    keyed = Image.new("RGB", (2, 1), (1, 2, 3))
    keyed.putpixel((1, 0), (4, 5, 6))
    cases = [
        (saved(grey, "PNG"), (10, 10, 10), ("alpha", "grey")),
        (saved(palette, "PNG", transparency=0), (30, 60, 90), ("alpha", "palette")),
        (saved(palette, "GIF", transparency=0), (30, 60, 90), ("alpha", "palette")),
        (saved(keyed, "PNG", transparency=(1, 2, 3)), (4, 5, 6), ("alpha",)),
        (saved(keyed.convert("L"), "PNG", transparency=2), (5, 5, 5), ("alpha", "grey")),
        (saved(grey.convert("RGBA"), "WEBP", lossless=True), (10, 10, 10), ("alpha",)),
    ]
    for content, right, met in cases:
        found = decode(content)
        assert [found.image.getpixel(x) for x in ((0, 0), (1, 0))] == [(255, 255, 255), right]
        assert set(found.met) == set(inspect(content)) == set(met)


@pytest.mark.parametrize(("bits", "pixels"), [(1, 0b01000000), (2, 0b00010000), (4, 0b00000001)])
def test_transparency_of_a_grey_png_of_few_bits(bits: int, pixels: int) -> None:
    """Pillow spreads the pixels, 0 and 1 here, over 0 … 255, and leaves the transparent one."""
    header = struct.pack(">IIBBBBB", 2, 1, bits, 0, 0, 0, 0)
    chunks = {b"IHDR": header, b"tRNS": b"\0\1", b"IDAT": zlib.compress(bytes([0, pixels])), b"IEND": b""}
    content = b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
        for name, data in chunks.items()
    )
    found = decode(content)
    assert [found.image.getpixel(x) for x in ((0, 0), (1, 0))] == [(0, 0, 0), (255, 255, 255)]
    assert found.met == inspect(content) == ("alpha", "grey")


def test_opaque_alpha_changes_no_pixel() -> None:
    image = noise()
    image.putalpha(255)
    assert same(decode(saved(image, "PNG")).image, noise())


def display_p3() -> bytes:
    """A profile of wider primaries, by hand: sRGB's own with its red, green and blue moved."""
    profile = bytearray(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
    for name, xyz in (
        (b"rXYZ", (0.5151, 0.2412, -0.0011)),
        (b"gXYZ", (0.2920, 0.6922, 0.0419)),
        (b"bXYZ", (0.1571, 0.0666, 0.7841)),
    ):
        at = struct.unpack(">I", profile[(entry := profile.index(name, 128)) + 4 : entry + 8])[0]
        profile[at + 8 : at + 20] = struct.pack(">iii", *(round(value * 65536) for value in xyz))
    return bytes(profile)


def srgb() -> bytes:
    return ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "TIFF"])
def test_profiles_are_followed(kind: str) -> None:
    flat = Image.new("RGB", (16, 16), (128, 128, 128))
    flat.paste((100, 180, 80), (0, 0, 16, 8))
    options = {"lossless": True} if kind == "WEBP" else {"quality": 100} if kind == "JPEG" else {}
    content = saved(flat, kind, icc_profile=display_p3(), **options)
    found = decode(content)
    assert found.met == inspect(content) == ("profile",)
    # Display P3's (100, 180, 80) is (65, 182, 63) in sRGB, by the matrix between them; grey stays grey.
    np.testing.assert_allclose(found.image.getpixel((4, 2)), (65, 182, 63), atol=3)
    np.testing.assert_allclose(found.image.getpixel((4, 14)), (128, 128, 128), atol=1)
    assert found.image.info == {}


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "TIFF"])
def test_srgb_by_profile_changes_no_pixel(kind: str) -> None:
    with_profile = saved(noise(), kind, icc_profile=srgb())
    assert decode(with_profile).met == inspect(with_profile) == ()
    assert same(decode(with_profile).image, decode(saved(noise(), kind)).image)


@pytest.mark.parametrize("profile", [b"nonsense", srgb()[:300], srgb()[:-100], b"\0" * 200])
def test_profiles_that_cannot_be_used_are_counted_and_passed_over(profile: bytes) -> None:
    content = saved(noise(), "JPEG", icc_profile=profile)
    found = decode(content)
    if profile != srgb()[:-100]:
        assert found.met == inspect(content) == ("profile_unusable",)
    assert same(found.image, decode(saved(noise(), "JPEG")).image)


def test_profiles_of_another_colour_space_cannot_be_used() -> None:
    for mode in ("L", "CMYK"):
        content = saved(noise().convert(mode), "JPEG", icc_profile=srgb())
        assert "profile_unusable" in decode(content).met
        assert decode(content).met == inspect(content)
        assert same(decode(content).image, Image.open(io.BytesIO(content)).convert("RGB"))


def test_profiles_go_with_palettes_and_transparency() -> None:
    image = Image.new("RGBA", (16, 16), (100, 180, 80, 255))
    image.paste((0, 0, 0, 0), (0, 0, 16, 8))
    found = decode(saved(image, "PNG", icc_profile=display_p3()))
    assert found.met == ("profile", "alpha")
    assert found.image.getpixel((0, 0)) == (255, 255, 255)
    np.testing.assert_allclose(found.image.getpixel((0, 15)), (65, 182, 63), atol=3)
    palette = decode(saved(image.convert("RGB").quantize(4), "PNG", icc_profile=display_p3()))
    assert palette.met == ("profile", "palette")
    np.testing.assert_allclose(palette.image.getpixel((0, 15)), (65, 182, 63), atol=3)


@pytest.mark.parametrize("kind", ["JPEG", "TIFF"])
def test_cmyk_without_a_profile_becomes_what_pillow_makes_of_it(kind: str) -> None:
    content = saved(Image.new("CMYK", (8, 8), (0, 255, 255, 0)), kind)
    found = decode(content)
    assert found.met == inspect(content) == ("cmyk",)
    np.testing.assert_allclose(found.image.getpixel((4, 4)), (255, 0, 0), atol=3)


def test_texts_of_a_png_stay_and_nothing_else_does() -> None:
    texts = PngInfo()
    texts.add_text("points", "AAAA")
    content = saved(noise(), "PNG", pnginfo=texts, dpi=(72, 72))
    assert decode(content).image.info == {"points": "AAAA"}
    turned = saved(noise(), "PNG", pnginfo=texts, exif=exif(3))
    assert decode(turned).image.info == {"points": "AAAA"}
    assert decode(saved(noise(), "JPEG", comment=b"x" * 99)).image.info == {}


def test_images_that_somebody_made_are_left_alone() -> None:
    image = noise()
    image.info["points"] = "AAAA"
    assert to_rgb(image).image is image
    assert image.info == {"points": "AAAA"}
    grey = to_rgb(image.convert("L"))
    assert (grey.met, grey.image.mode, grey.image.info) == (("grey",), "RGB", {"points": "AAAA"})


def test_the_name_of_a_file_says_nothing(tmp_path: Path) -> None:
    noise().save(tmp_path / "a.png", "JPEG", quality=100)
    content = (tmp_path / "a.png").read_bytes()
    assert same(decode(content).image, Image.open(io.BytesIO(content)))


def test_what_was_met_is_said_in_words_that_the_page_explains() -> None:
    assert described({"alpha": 2, "grey": 1}) == "2 with transparency, laid on white, 1 grey"
    assert described({}) == ""
    page = (Path(__file__).parents[3] / "docs" / "image-decoding.md").read_text(encoding="utf-8")
    assert all(f"`{name}`" in page for name in MET)
