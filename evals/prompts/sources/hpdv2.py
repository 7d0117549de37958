"""Prompt source ``hpdv2``: the HPDv2 benchmark, 800 prompts in each of four styles, in Diffusion-SDPO's file.

The file names no styles; they are restored from the position. 3172 of the 3200 prompts are different; the
others stay in, and stay apart by their prompt_id.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from artifacts.errors import InputError
from evals.prompts import Prompt
from evals.published.prompt_files import CATEGORY_OPTIONS, check_options, first_of_each, open_file, read_json

DEFAULTS: dict[str, Any] = CATEGORY_OPTIONS
STYLES = ("anime", "concept-art", "paintings", "photo")
PER_STYLE = 800


def read(options: Mapping[str, Any]) -> list[Prompt]:
    """The prompts; category is the style.

    Args:
        options: ``path``, ``sha256``, ``cache``, ``offline``, ``per_category``
            (:data:`evals.published.prompt_files.CATEGORY_OPTIONS`).

    Raises:
        InputError: bad options, the file cannot be had, is not the one expected or has not 3200 prompts.
    """
    chosen = check_options("hpdv2", options, DEFAULTS)
    path = open_file("hpdv2", chosen)
    texts = read_json("hpdv2", path)
    if len(texts) != PER_STYLE * len(STYLES):
        raise InputError(
            f"prompt source 'hpdv2': {path}: has {len(texts)} prompts, expected {PER_STYLE * len(STYLES)}: styles go "
            "by position; give the whole file and shorten it with per_category or limit"
        )
    prompts = [Prompt(text, STYLES[index // PER_STYLE]) for index, text in enumerate(texts)]
    return first_of_each(prompts, chosen["per_category"])
