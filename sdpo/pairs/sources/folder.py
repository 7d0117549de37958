"""Pair source ``folder``: images of one's own and a JSON Lines file that says which was preferred.

One object a line: ``prompt``, ``winner`` and ``loser`` (paths relative to the file), and if wanted ``label``, 1 unless
the two are a tie (0.5) or the wrong way round (0), and ``split``, ``train`` unless it says otherwise.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

from pydantic import Field, model_validator

from artifacts.errors import InputError
from artifacts.file_names import FileNames
from artifacts.plugins import nearest
from artifacts.text_lines import json_lines
from sdpo.pairs import LABELS, Pair
from sdpo.pairs.reading.comparison import Comparison, NamedFile, prompt_of
from sdpo.pairs.reading.input_files import data_folder, split_files
from sdpo.pairs.reading.options import SourceOptions, heldout_splits_option, parse
from sdpo.pairs.reading.streaming import pairs_of

KEYS = ("prompt", "winner", "loser", "label", "split")


class Options(SourceOptions):
    """Options of a folder of images with a JSON Lines file."""

    SPLITS_IN_ROWS: ClassVar[bool] = True

    files: str = Field(
        default="pairs.jsonl", min_length=1, description="JSON Lines files, as a pattern relative to the folder."
    )
    heldout_splits: list[str] = heldout_splits_option(["heldout"])
    left_out_splits: list[str] = Field(
        default=[], description="Splits whose lines are passed over; a split that no list names is refused."
    )

    @model_validator(mode="after")
    def _left_out_alone(self) -> Options:
        if both := [split for split in self.left_out_splits if split in (*self.train_splits, *self.heldout_splits)]:
            raise ValueError(
                f"split '{both[0]}' is in left_out_splits and would be read all the same; expected one of them"
            )
        return self


def read(options: Mapping[str, Any], *, base_path: Path) -> Iterator[Pair]:
    """Yield the pairs.

    Args:
        options: of :class:`Options`.
        base_path: not used.

    Raises:
        InputError: wrong options, a line that is not an object with these keys, too many broken pairs, or none left.
    """
    chosen = parse("folder", Options, options)
    folder = data_folder("folder", chosen)
    return pairs_of("folder", chosen, partial(_comparisons, chosen, folder))


def _comparisons(options: Options, folder: Path, split: str) -> Iterator[Comparison]:
    known = [*options.train_splits, *options.heldout_splits, *options.left_out_splits]
    for path in split_files("folder", folder, options, split):
        files = FileNames(path.parent)
        for place, row in _rows(path):
            if not isinstance(named := row.get("split", "train"), str):
                raise InputError(f"{place}: split is {named!r}, expected a text; leave it out for train")
            if named not in known:
                raise InputError(
                    f"{place}: split is {named!r}, expected one of {', '.join(known)}{nearest(named, known)} (those to "
                    "be passed over are named in left_out_splits)"
                )
            if named != split:
                continue
            label, fault = row.get("label", 1), ""
            if isinstance(label, bool) or label not in LABELS:
                label, fault = None, f"label is {label!r}, expected 1, 0 or 0.5"
            prompt, names = prompt_of(row.get("prompt")), (row.get("winner"), row.get("loser"))
            if not all(isinstance(name, str) for name in names):
                fault = fault or f"winner is {names[0]!r} and loser is {names[1]!r}, expected two paths"
            first, second = (NamedFile(files, str(name)) for name in names)
            identity = f"{prompt}\0{names[0]}\0{names[1]}"
            yield Comparison(place, identity, prompt, (first, second), label, fault)


def _rows(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    for number, row in json_lines(path):
        place = f"{path}, line {number}"
        if not isinstance(row, dict):
            raise InputError(f"{place}: expected an object, got {type(row).__name__}")
        if unknown := [key for key in row if key not in KEYS]:
            raise InputError(f"{place}: unknown key '{unknown[0]}'; expected {', '.join(KEYS)}")
        yield place, row
