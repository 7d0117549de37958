"""Image grids: one model a row, the same prompts and start noise down each column."""

from __future__ import annotations

import base64
import hashlib
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from artifacts import layout
from artifacts.contracts import read_table
from artifacts.errors import InputError
from artifacts.image_decoding import BrokenImageError, DecodedImage, decode
from evals.images.folder import MANIFEST, read_manifest
from evals.report.drawing import font_folder

if TYPE_CHECKING:
    from PIL.Image import Image
    from PIL.ImageFont import FreeTypeFont

    from evals.tables.comparison import ComparedModel, Comparison

SHOWN = 256
"""Greatest width of an image in the page, in pixels; larger ones are scaled down and stored as JPEG."""


@dataclass(frozen=True)
class Tile:
    """One image: its prompt, file, digest and the seed of its start noise."""

    prompt: str
    path: Path
    sha256: str
    seed: int

    @property
    def gone(self) -> bool:
        """Whether there is no such file."""
        return not self.path.is_file()


@dataclass(frozen=True)
class Row:
    """A label, its images, and the base that they are drawn with."""

    label: str
    tiles: tuple[Tile, ...]
    base: str = ""


@dataclass(frozen=True)
class Grid:
    """Rows of images of the same prompts.

    ``same_noise`` if the rows of a base share one start noise in every column. Bases need not: equal seeds give
    latents of different sizes different noise.
    """

    prompt_set: str
    prompts: tuple[str, ...]
    rows: tuple[Row, ...]
    same_noise: bool

    @property
    def bases(self) -> tuple[str, ...]:
        """Bases of the rows."""
        return tuple(dict.fromkeys(row.base for row in self.rows))


def spread(total: int, count: int) -> list[int]:
    """``count`` indices (at most ``total``) spread evenly from 0, so that a set ordered by category shows each."""
    count = min(count, total)
    return [index * total // count for index in range(count)]


def read_grid(comparison: Comparison, prompt_set: str, prompts: int, seed: int) -> Grid:
    """The grid of a report: models that were not trained here and the models of one training seed.

    Args:
        comparison: models, in the order of the rows.
        prompt_set: a prompt set of the comparison.
        prompts: how many prompts, spread evenly over the set's order.
        seed: training seed of the models shown.

    Raises:
        InputError: the prompt set is unknown, or a file is missing, malformed or does not match its manifest.
    """
    if prompt_set not in comparison.prompt_sets:
        raise InputError(
            f"grid.prompt_set is '{prompt_set}', expected one of {', '.join(comparison.prompt_sets)}; change the config"
        )
    if prompts < 1:
        raise InputError(f"grid.prompts is {prompts}, expected at least 1; change the config")
    models = [model for model in comparison.models if model.seed in (None, seed)]
    variants = [model.variant for model in models]
    rows = tuple(
        Row(
            model.variant if variants.count(model.variant) == 1 else model.name,
            model_tiles(comparison, model, prompt_set, prompts),
            model.base,
        )
        for model in models
    )
    seeds = {(row.base, index, tile.seed) for row in rows for index, tile in enumerate(row.tiles)}
    columns = {(row.base, index) for row in rows for index, _ in enumerate(row.tiles)}
    texts = tuple(tile.prompt for tile in rows[0].tiles)
    return Grid(prompt_set, texts, rows, len(seeds) == len(columns))


def model_tiles(comparison: Comparison, model: ComparedModel, prompt_set: str, prompts: int) -> tuple[Tile, ...]:
    """Images of one model on ``prompts`` prompts spread evenly over a set, of each the first.

    Raises:
        InputError: the prompt set or the manifest is missing or malformed, or a prompt has no image.
    """
    texts = read_table(layout.prompts(comparison.root, prompt_set), "prompts")
    folder = layout.images(comparison.root, model.name, prompt_set)
    manifest = read_manifest(folder)
    manifest = manifest[manifest["image"] == 0]
    columns = [manifest[name].tolist() for name in ("prompt_id", "file", "sha256", "seed")]
    images = {prompt_id: (file, sha256, seed) for prompt_id, file, sha256, seed in zip(*columns, strict=True)}
    tiles = []
    for index in spread(len(texts), prompts):
        prompt_id, prompt = texts["prompt_id"].iloc[index], texts["prompt"].iloc[index]
        if prompt_id not in images:
            raise InputError(
                f"{folder / MANIFEST}: prompt '{prompt_id}' has no image; "
                "delete the image folder and run snakemake again"
            )
        file, sha256, seed = images[prompt_id]
        tiles.append(Tile(str(prompt), folder / file, sha256, int(seed)))
    return tuple(tiles)


def open_image(tile: Tile) -> tuple[DecodedImage, bytes]:
    """The decoded image, and its file's bytes.

    Raises:
        InputError: the file is missing, differs from the manifest's digest, or is no readable image.
    """
    remedy = "delete the image folder and run snakemake again"
    try:
        data = tile.path.read_bytes()
        if hashlib.sha256(data).hexdigest() != tile.sha256:
            raise InputError(f"{tile.path}: differs from the digest in its manifest; {remedy}")
        return decode(data), data
    except FileNotFoundError as error:
        raise InputError(f"{tile.path}: named in its manifest, but no such file; {remedy}") from error
    except (OSError, BrokenImageError) as error:
        raise InputError(f"{tile.path}: not a readable image ({error}); {remedy}") from error


def data_uri(tile: Tile) -> tuple[str, int, int]:
    """The image as a data URI, with its width and height there in pixels.

    Small images are embedded as they are; larger ones are scaled down to ``SHOWN`` pixels of width.
    """
    from PIL.Image import Resampling

    decoded, data = open_image(tile)
    image, kind = decoded.image, "png"
    # A browser would show what scorers do not see.
    if image.width > SHOWN or decoded.met:
        width = min(image.width, SHOWN)
        image = image.resize((width, max(1, round(image.height * width / image.width))), Resampling.LANCZOS)
        file = io.BytesIO()
        image.save(file, "JPEG", quality=88)
        data, kind = file.getvalue(), "jpeg"
    return f"data:image/{kind};base64,{base64.b64encode(data).decode('ascii')}", image.width, image.height


def draw_grid(grid: Grid) -> bytes:
    """The grid as a PNG with prompts above the columns and labels beside the rows."""
    return _draw([(row.label, row.tiles) for row in grid.rows], captions_once=True)


def draw_sheet(rows: Sequence[Row]) -> bytes:
    """Rows of images with a prompt above each image, as a PNG: one model on several prompt sets."""
    return _draw([(row.label, row.tiles) for row in rows], captions_once=False)


_CELL, _GAP, _FONT_SIZE, _LINE, _LINES = 128, 8, 11, 14, 4


def _draw(rows: Sequence[tuple[str, Sequence[Tile]]], *, captions_once: bool) -> bytes:
    from PIL import Image, ImageDraw

    font = _font()
    columns = max((len(tiles) for _, tiles in rows), default=0)
    margin = 2 * _GAP + min(180, max((round(font.getlength(label)) for label, _ in rows), default=0))
    caption = _LINE * _LINES + _GAP
    with_caption = [not captions_once or index == 0 for index in range(len(rows))]
    height = _GAP + sum(_CELL + _GAP + (caption if shown else 0) for shown in with_caption)
    sheet = Image.new("RGB", (margin + columns * (_CELL + _GAP), height), "white")
    draw = ImageDraw.Draw(sheet)
    top = _GAP
    for (label, tiles), captioned in zip(rows, with_caption, strict=True):
        if captioned:
            for index, tile in enumerate(tiles):
                lines = _wrapped(tile.prompt, font, _CELL)
                bottom = top + _LINE * _LINES
                for number, line in enumerate(lines):
                    at = (margin + index * (_CELL + _GAP), bottom - _LINE * (len(lines) - number))
                    draw.text(at, line, fill="#1f2328", font=font)
            top += caption
        labels = _wrapped(label, font, margin - 2 * _GAP)
        for number, line in enumerate(labels):
            draw.text((_GAP, top + _CELL // 2 - _LINE * len(labels) // 2 + _LINE * number), line, "#1f2328", font)
        for index, tile in enumerate(tiles):
            left = margin + index * (_CELL + _GAP)
            if tile.gone:
                draw.rectangle((left, top, left + _CELL - 1, top + _CELL - 1), outline="#59636e")
                draw.text((left + _GAP, top + _GAP), "gone", "#59636e", font)
                continue
            image = _fitted(open_image(tile)[0].image)
            sheet.paste(image, (left + (_CELL - image.width) // 2, top + (_CELL - image.height) // 2))
        top += _CELL + _GAP
    file = io.BytesIO()
    sheet.save(file, "PNG", optimize=False)
    return file.getvalue()


def _fitted(image: Image) -> Image:
    """Scaled into a cell: small images by whole pixels, so that they stay sharp, large ones smoothly."""
    from PIL.Image import Resampling

    scale = _CELL / max(image.size)
    whole = scale >= 2
    if whole:
        scale = int(scale)
    size = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
    return image.resize(size, Resampling.NEAREST if whole else Resampling.LANCZOS)


def _font() -> FreeTypeFont:
    from PIL import ImageFont

    return ImageFont.truetype(str(font_folder() / "DejaVuSans.ttf"), _FONT_SIZE, layout_engine=ImageFont.Layout.BASIC)


def _wrapped(text: str, font: FreeTypeFont, width: int) -> list[str]:
    """At most ``_LINES`` lines that fit ``width`` pixels; what does not fit ends in an ellipsis."""
    lines, line, left = [], "", list(text.split())
    while left:
        word = left.pop(0)
        longer = f"{line} {word}" if line else word
        if font.getlength(longer) <= width:
            line = longer
        elif line:
            lines.append(line)
            line = ""
            left.insert(0, word)
        else:
            fitting = max((n for n in range(1, len(word)) if font.getlength(word[:n]) <= width), default=1)
            lines.append(word[:fitting])
            left.insert(0, word[fitting:])
    lines += [line] if line else []
    if len(lines) <= _LINES:
        return lines
    last = lines[_LINES - 1]
    while last and font.getlength(last + "…") > width:
        last = last[:-1]
    return [*lines[: _LINES - 1], last + "…"]
