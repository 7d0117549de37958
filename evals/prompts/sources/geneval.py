"""Prompt source ``geneval``: GenEval's 553 prompts with their six tags, from its file of what each image must show.

Ghosh, Hajishirzi and Schmidt, GenEval (NeurIPS 2023, arXiv:2310.11513). Its accuracies are of four images a prompt:
``images_per_prompt: 4``. Only prompt and tag are read here; the judge needs the rest of the file.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

from artifacts import text_lines
from artifacts.errors import InputError
from evals.prompts import Prompt
from evals.published.prompt_files import CATEGORY_OPTIONS, check_options, first_of_each, named_source, open_file

DEFAULTS: dict[str, Any] = CATEGORY_OPTIONS
TAGS = {"single_object": 80, "two_object": 99, "counting": 80, "colors": 94, "position": 100, "color_attr": 100}
"""How many prompts each tag has."""


def read(options: Mapping[str, Any]) -> list[Prompt]:
    """The prompts in the order of the file; category is the tag.

    Args:
        options: ``path``, ``sha256``, ``cache``, ``offline``, ``per_category``
            (:data:`evals.published.prompt_files.CATEGORY_OPTIONS`).

    Raises:
        InputError: bad options, the file cannot be had, is not the one expected, or its tags are not :data:`TAGS`.
    """
    chosen = check_options("geneval", options, DEFAULTS)
    path = open_file("geneval", chosen)
    with named_source("geneval"):
        rows = list(text_lines.json_lines(path))
    prompts = []
    for number, row in rows:
        text, tag = (row.get("prompt"), row.get("tag")) if isinstance(row, dict) else (None, None)
        if not isinstance(text, str) or not text.strip() or tag not in TAGS:
            raise InputError(
                f"prompt source 'geneval': {path}: line {number}: prompt is {text!r} and tag {tag!r}, expected a text "
                f"and one of {', '.join(TAGS)}"
            )
        prompts.append(Prompt(text, tag))
    found = Counter(prompt.category for prompt in prompts)
    if found != TAGS:
        wrong = next(tag for tag in TAGS if found[tag] != TAGS[tag])
        raise InputError(
            f"prompt source 'geneval': {path}: has {len(prompts)} prompts, {found[wrong]} of tag '{wrong}', expected "
            f"{sum(TAGS.values())} and {TAGS[wrong]}; give the whole file and shorten it with per_category or limit"
        )
    return first_of_each(prompts, chosen["per_category"])
