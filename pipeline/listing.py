"""What a config may name, each with a line that says what it is."""

from __future__ import annotations

import re
from collections.abc import Sequence

import evals.prompts
import evals.scorers
import sdpo.bases
import sdpo.objectives
import sdpo.pairs
import sdpo.training.loggers
from artifacts.errors import InputError
from artifacts.plugins import Registry, nearest

KINDS: dict[str, tuple[str, Registry]] = {
    "bases": ("base.family", sdpo.bases.REGISTRY),
    "pairs": ("pairs.<name>.source", sdpo.pairs.REGISTRY),
    "objectives": ("variants[].objective", sdpo.objectives.REGISTRY),
    "prompts": ("prompt_sets.<name>.source", evals.prompts.REGISTRY),
    "scorers": ("scorers.<name>", evals.scorers.REGISTRY),
    "loggers": ("training.loggers", sdpo.training.loggers.REGISTRY),
}
"""Kind to the key of the config that names its members, and where they are registered."""


def listing(kind: str | None = None) -> str:
    """Names of all members of a kind, or of all kinds, each with what the first sentence of its module says.

    A member that cannot be imported says why in its line.

    Raises:
        InputError: there is no such kind.
    """
    if kind is not None and kind not in KINDS:
        raise InputError(f"kind '{kind}': expected one of {', '.join(KINDS)}{nearest(kind, list(KINDS))}")
    blocks = []
    for title in KINDS if kind is None else [kind]:
        key, registry = KINDS[title]
        lines = _lines(registry, registry.names())
        blocks.append("\n".join([f"{title} ({key})", *(lines or ["  none installed"])]))
    return "\n\n".join(blocks)


def _lines(registry: Registry, names: Sequence[str]) -> list[str]:
    width = max(map(len, names), default=0)
    return [f"  {name:{width}}  {_sentence(registry, name)}" for name in names]


def _sentence(registry: Registry, name: str) -> str:
    """What a member's module says first, without the name that it may begin with: to the first line that ends one."""
    try:
        text = registry.load(name).__doc__ or "says nothing of itself"
    except InputError as error:
        return str(error)
    lines = text.strip().splitlines()
    end = next((i for i, line in enumerate(lines) if line.endswith(".") or not line), len(lines) - 1)
    said = " ".join(" ".join(lines[: end + 1]).split())
    return re.sub(rf"^[\w ]*``{re.escape(name)}``:\s*", "", said)
