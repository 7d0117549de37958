"""Prompt source ``miniature_heldout``: an object whose colour, shape and background training never combines."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from evals.prompts import Prompt
from worlds.miniature.prompts_seen import choose
from worlds.miniature.scenes import is_heldout

# No options: the sets are what they are.
DEFAULTS: dict[str, Any] = {}


def read(options: Mapping[str, Any]) -> list[Prompt]:
    """The prompts."""
    return choose("miniature_heldout", options, is_heldout, two_objects=0.5)
