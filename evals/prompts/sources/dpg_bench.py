"""Prompt source ``dpg_bench``: the 1065 long prompts of DPG-Bench, from a copy of one's own.

Hu et al., ELLA (arXiv:2403.05135), which publishes them twice: a folder with one text file a prompt, and a table with
one row a question. Either is read, in one order: that of the prompts' names, numbers by their value. No digest of
either is known, so none is fetched. Its scores are of four images a prompt: ``images_per_prompt: 4``.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from artifacts import text_lines
from artifacts.atomic import file_sha256, tree_sha256
from artifacts.errors import InputError
from artifacts.file_names import natural_key
from evals.prompts import Prompt
from evals.published.prompt_files import check_options, named_source

DEFAULTS: dict[str, Any] = {"path": None, "sha256": None}
PROMPTS = 1065
NAME, TEXT = "item_id", "text"
"""Columns of the table."""


def read(options: Mapping[str, Any]) -> list[Prompt]:
    """The prompts, which have no categories: DPG-Bench's are of its questions. ``item`` is the name of each.

    Args:
        options: ``path`` of the folder ``prompts`` or of ``dpg_bench.csv``; ``sha256`` that it must have. Left out, the
            digest that it has is printed: of a folder that of :func:`artifacts.atomic.tree_sha256`.

    Raises:
        InputError: no ``path``, bad options, or no 1065 prompts there.
    """
    chosen = check_options("dpg_bench", options, DEFAULTS)
    if chosen["path"] is None:
        raise InputError(
            "prompt source 'dpg_bench': path is missing: expected the folder dpg_bench/prompts, or dpg_bench.csv, of "
            "TencentQQGYLab/ELLA; it is not fetched, since no digest of it is known"
        )
    path = Path(chosen["path"])
    if not path.exists():
        raise InputError(f"prompt source 'dpg_bench': {path}: no such file or folder")
    digest = tree_sha256(path) if path.is_dir() else file_sha256(path)
    if chosen["sha256"] not in (None, digest):
        raise InputError(f"prompt source 'dpg_bench': {path}: sha256 is {digest}, expected {chosen['sha256']}")
    with named_source("dpg_bench"):
        texts = dict(_of_folder(path)) if path.is_dir() else _of_table(path)
    if len(texts) != PROMPTS:
        raise InputError(
            f"prompt source 'dpg_bench': {path}: has {len(texts)} prompts, expected {PROMPTS}; give the whole set and "
            "shorten it with limit"
        )
    print(f"{path}: sha256 {digest}")
    return [Prompt(texts[name], item=name) for name in sorted(texts, key=natural_key)]


def _of_folder(folder: Path) -> Iterator[tuple[str, str]]:
    for file in folder.glob("*.txt"):
        # Line ends inside are white space of the prompt.
        text = " ".join(text_lines.read_text(file).split())
        if not text:
            raise InputError(f"{file}: is empty, expected a prompt")
        yield file.stem, text


def _of_table(path: Path) -> dict[str, str]:
    texts: dict[str, str] = {}
    for number, row in text_lines.table(path):
        if missing := [column for column in (NAME, TEXT) if column not in row]:
            raise InputError(f"{path}: no column '{missing[0]}' (found {', '.join(row)})")
        name, text = row[NAME].strip(), " ".join(row[TEXT].split())
        if not name or not text:
            raise InputError(f"{path}: row {number}: {NAME} is {name!r} and {TEXT} {text!r}, expected both")
        if texts.setdefault(name, text) != text:
            raise InputError(f"{path}: row {number}: '{name}' has another text than in a row before")
    return texts
