"""Pair source ``hpdv2``: the annotation files and unpacked images of HPDv2.

``train.json`` has pairs: ``prompt``, ``file_path`` (two names) and ``human_preference``, 1 for the preferred image and
0 for the other. ``test.json`` has rankings: ``prompt``, ``image_path`` and ``rank``, the lowest the best; each two
images of one make a pair.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from pydantic import Field

from artifacts.file_names import FileNames
from sdpo.pairs import Pair
from sdpo.pairs.reading.comparison import Comparison, NamedFile, label_of_pair, prompt_of
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
from sdpo.pairs.reading.ranking import pairs_of_ranking
from sdpo.pairs.reading.streaming import pairs_of


class Options(SourceOptions):
    """Options of HPDv2."""

    files: str = files_option("{split}.json")
    image_folder: str = Field(
        default="{split}", description="Folder that the names of images are relative to; `{split}` as in `files`."
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
    chosen = parse("hpdv2", Options, options)
    folder = data_folder("hpdv2", chosen)
    return pairs_of("hpdv2", chosen, partial(_comparisons, chosen, folder))


def _comparisons(options: Options, folder: Path, split: str) -> Iterator[Comparison]:
    images = FileNames(folder / options.image_folder.replace(SPLIT, split))
    for path in split_files("hpdv2", folder, options, split):
        for number, row in enumerate(read_objects(path), start=1):
            place, prompt = f"{path}, element {number}", prompt_of(row.get("prompt"))
            if "rank" in row:
                image = partial(NamedFile, images)
                yield from pairs_of_ranking(place, prompt, row.get("image_path"), row["rank"], image)
                continue
            names, numbers, fault = row.get("file_path"), row.get("human_preference"), ""
            if not (isinstance(names, list) and len(names) == 2):
                names, fault = ["", ""], f"file_path is {names!r}, expected two names"
            if not (isinstance(numbers, list) and len(numbers) == 2):
                label, fault = None, fault or f"human_preference is {numbers!r}, expected 1 and 0 or 0 and 1"
            else:
                label, wrong = label_of_pair(*numbers)
                fault = fault or wrong
            first, second = (NamedFile(images, str(name)) for name in names)
            identity = f"{prompt}\0{first.name}\0{second.name}"
            yield Comparison(place, identity, prompt, (first, second), label, fault)
