"""Checks of ``prompt_sets`` that look at more than one key."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from artifacts.validation import MISSING, Problem, unknown
from pipeline.config import raw, registries
from pipeline.config.raw import Raw


def _shown(data: Raw) -> Iterator[Problem]:
    """A prompt set has a source or shows one that has; one at least is drawn as `generation` says."""
    sets = raw.block(data, "prompt_sets")
    blocks = {name: block for name, block in sets.items() if isinstance(block, Mapping)}
    sources = [name for name, block in blocks.items() if block.get("shows") is None]
    for name, block in blocks.items():
        path = ("prompt_sets", name)
        if (shows := block.get("shows")) is None:
            if "source" not in block:
                yield Problem((*path, "source"), MISSING, "missing: expected a prompt source, or `shows`")
        elif isinstance(shows, str) and shows not in sources:
            yield Problem((*path, "shows"), shows, unknown("prompt set with a source", shows, sources))
        else:
            for key in ("source", "limit", "images_per_prompt", "options"):
                if key in block:
                    yield Problem((*path, key), MISSING, f"is that of '{shows}', which this set shows; leave it out")
            if not block.get("generation"):
                yield Problem((*path, "generation"), MISSING, "missing: expected what is drawn otherwise than there")
    if blocks and all(block.get("generation") for block in blocks.values()):
        yield Problem(("prompt_sets",), MISSING, "expected one at least without a `generation` of its own")


def _own_generators(data: Raw) -> Iterator[Problem]:
    """A family with a generator of its own draws all prompt sets alike."""
    family = raw.block(data, "base").get("family")
    if family in registries.generators():
        for name, block in raw.blocks(data, "prompt_sets"):
            if block.get("generation"):
                what = f"family '{family}' draws all prompt sets alike; leave it out"
                yield Problem(("prompt_sets", name, "generation"), MISSING, what)
            if (count := block.get("images_per_prompt", 1)) != 1:
                yield Problem(
                    ("prompt_sets", name, "images_per_prompt"), count, f"family '{family}' draws one; leave it out"
                )


CHECKS = (_shown, _own_generators)
