"""Pair source ``hpdv3``: the annotation files and unpacked images of HPDv3.

An array of objects with ``prompt``, ``path1`` and ``path2``; the image at ``path1`` was preferred. There are no ties.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from pydantic import Field

from artifacts.file_names import FileNames
from sdpo.pairs import Pair
from sdpo.pairs.reading.comparison import Comparison, NamedFile, prompt_of
from sdpo.pairs.reading.input_files import data_folder, split_files
from sdpo.pairs.reading.json_array import read_objects
from sdpo.pairs.reading.options import (
    SPLIT,
    SourceOptions,
    files_option,
    heldout_limit_option,
    heldout_splits_option,
    parse,
)
from sdpo.pairs.reading.streaming import pairs_of


class Options(SourceOptions):
    """Options of HPDv3."""

    files: str = files_option("{split}.json")
    image_folder: str = Field(
        default=".", description="Folder that the paths of images are relative to; `{split}` as in `files`."
    )
    min_confidence: float = Field(
        default=0.0,
        ge=0,
        le=1,
        description="Pairs whose `confidence` is lower count as ties. The published settings of HPSv3 have 0.95.",
    )
    heldout_splits: list[str] = heldout_splits_option(["test"])
    heldout_limit: int | None = heldout_limit_option(1024)


def read(options: Mapping[str, Any], *, base_path: Path) -> Iterator[Pair]:
    """Yield the pairs.

    Args:
        options: of :class:`Options`.
        base_path: not used.

    Raises:
        InputError: wrong options, an annotation file that is missing or damaged, too many broken pairs, or none left.
    """
    chosen = parse("hpdv3", Options, options)
    folder = data_folder("hpdv3", chosen)
    return pairs_of("hpdv3", chosen, partial(_comparisons, chosen, folder))


def _comparisons(options: Options, folder: Path, split: str) -> Iterator[Comparison]:
    images = FileNames(folder / options.image_folder.replace(SPLIT, split))
    for path in split_files("hpdv3", folder, options, split):
        for number, row in enumerate(read_objects(path), start=1):
            label, fault = _label(row, options.min_confidence)
            prompt, first, second = prompt_of(row.get("prompt")), row.get("path1"), row.get("path2")
            if not (isinstance(first, str) and isinstance(second, str)):
                fault = fault or f"path1 is {first!r} and path2 is {second!r}, expected two paths"
            identity = f"{prompt}\0{first}\0{second}"
            pair = (NamedFile(images, str(first)), NamedFile(images, str(second)))
            yield Comparison(f"{path}, element {number}", identity, prompt, pair, label, fault)


def _label(row: Mapping[str, Any], min_confidence: float) -> tuple[float | None, str]:
    if not min_confidence:
        return 1.0, ""
    confidence = row.get("confidence")
    if isinstance(confidence, bool) or not isinstance(confidence, int | float) or not 0 <= confidence <= 1:
        return None, f"confidence is {confidence!r}, expected a number from 0 to 1, since min_confidence is set"
    return (1.0 if confidence >= min_confidence else 0.5), ""
