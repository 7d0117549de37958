"""What the sources of published prompt sets share: their options, and the JSON of the official Diffusion-SDPO code."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from artifacts import text_lines
from artifacts.errors import InputError
from artifacts.plugins import nearest
from evals.prompts import Prompt
from evals.published.fetch_prompts import CACHE, local_file, published_file
from evals.published.prompts import PROMPTS

OPTIONS: dict[str, Any] = {"path": None, "sha256": None, "cache": CACHE, "offline": False}
"""``path``: a local copy, left out: fetched; ``sha256``: of that copy, if it is not the published file; ``cache``:
folder of fetched files; ``offline``: never touch the network."""
CATEGORY_OPTIONS: dict[str, Any] = {**OPTIONS, "per_category": None}
"""Of sets with categories: ``per_category`` takes the first so many of each."""


def check_options(source: str, options: Mapping[str, Any], defaults: Mapping[str, Any]) -> dict[str, Any]:
    """The options with their defaults.

    Raises:
        InputError: an unknown option, a value of the wrong kind, or a digest without the file it is of.
    """
    for name, value in options.items():
        if name not in defaults:
            known = list(defaults)
            raise InputError(
                f"prompt source '{source}': unknown option '{name}': expected one of {', '.join(known)}"
                f"{nearest(name, known)}"
            )
        if wrong := _expected(name.removeprefix("categories_"), value):
            raise InputError(f"prompt source '{source}': {name} is {value!r}, expected {wrong}")
    chosen = {**defaults, **options}
    for path in (name for name in defaults if name.endswith("path")):
        digest = f"{path.removesuffix('path')}sha256"
        if chosen[digest] is not None and chosen[path] is None:
            raise InputError(
                f"prompt source '{source}': {digest} without {path}; what is fetched has its own digest, give the "
                "file that this one is of"
            )
    return chosen


def _expected(option: str, value: Any) -> str:
    """What the option should be, or an empty string if it is that."""
    if option in ("path", "sha256", "per_category") and value is None:
        return ""
    text = isinstance(value, str) and value != ""
    fits, words = {
        "path": (text, "the path of a file"),
        "sha256": (text and re.fullmatch("[0-9a-f]{64}", value), "64 hexadecimal digits"),
        "cache": (text, "the path of a folder"),
        "offline": (isinstance(value, bool), "true or false"),
        "per_category": (type(value) is int and value >= 1, "a number of at least 1"),
    }.get(option, (True, ""))
    return "" if fits else words


def open_file(source: str, options: Mapping[str, Any], *, index: int = 0, prefix: str = "") -> Path:
    """A verified file of the source: the local one that ``options`` name, or the published one.

    Args:
        options: as :func:`check_options` returns them.
        index: which file of :data:`evals.published.prompts.PROMPTS`.
        prefix: of the options ``path`` and ``sha256`` that concern it.
    """
    file = PROMPTS[source][index]
    path = options[f"{prefix}path"]
    if path is not None:
        return local_file(source, path, options[f"{prefix}sha256"] or file.sha256)
    return published_file(source, file, cache=options["cache"], offline=options["offline"])


def read_json(source: str, path: Path) -> list[str]:
    """Prompts of a list of objects with ``prompt``, unchanged and in order; other keys are empty there.

    Raises:
        InputError: the file has another shape, or a prompt is no text or blank.
    """
    with named_source(source):
        rows = text_lines.read_json(path)
    if not isinstance(rows, list) or not all(isinstance(row, dict) and "prompt" in row for row in rows):
        raise InputError(f"prompt source '{source}': {path}: expected a list of objects with 'prompt'")
    for number, row in enumerate(rows, start=1):
        if not isinstance(row["prompt"], str) or not row["prompt"].strip():
            raise InputError(
                f"prompt source '{source}': {path}: entry {number}: the prompt is {row['prompt']!r}, expected text"
            )
    return [row["prompt"] for row in rows]


@contextmanager
def named_source(source: str) -> Iterator[None]:
    """Say of which source the file is that cannot be read."""
    try:
        yield
    except InputError as error:
        raise InputError(f"prompt source '{source}': {error}") from error


def first_of_each(prompts: list[Prompt], count: int | None) -> list[Prompt]:
    """The first ``count`` prompts of each category, in the set's order; all with ``None``."""
    if count is None:
        return prompts
    seen: Counter[str] = Counter()
    chosen = []
    for prompt in prompts:
        seen[prompt.category] += 1
        if seen[prompt.category] <= count:
            chosen.append(prompt)
    return chosen
