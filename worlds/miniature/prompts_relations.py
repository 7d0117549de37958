"""Prompt source ``miniature_relations``: two objects whose caption training never shows, though it shows all parts."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from evals.prompts import Prompt
from worlds.miniature.prompts_seen import choose
from worlds.miniature.scenes import is_heldout, is_reserved

# No options: the sets are what they are.
DEFAULTS: dict[str, Any] = {}


def read(options: Mapping[str, Any]) -> list[Prompt]:
    """The prompts."""
    return choose("miniature_relations", options, lambda s: not is_heldout(s) and is_reserved(s), two_objects=1.0)
