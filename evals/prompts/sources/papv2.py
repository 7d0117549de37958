"""Prompt source ``papv2``: 487 different prompts of Pick-a-Pic v2's test split, as Diffusion-SDPO evaluates them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from evals.prompts import Prompt
from evals.published.prompt_files import OPTIONS, check_options, open_file, read_json

DEFAULTS: dict[str, Any] = OPTIONS


def read(options: Mapping[str, Any]) -> list[Prompt]:
    """The prompts; the set has no categories.

    Args:
        options: ``path``, ``sha256``, ``cache``, ``offline`` (:data:`evals.published.prompt_files.OPTIONS`).

    Raises:
        InputError: bad options, the file cannot be had, or it is not the one expected.
    """
    chosen = check_options("papv2", options, DEFAULTS)
    return [Prompt(text) for text in read_json("papv2", open_file("papv2", chosen))]
