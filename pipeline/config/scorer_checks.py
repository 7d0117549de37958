"""Checks of ``scorers`` that look at more than one key."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from artifacts.validation import MISSING, Problem, unknown
from pipeline.config import raw, registries
from pipeline.config.raw import Raw


def rates(scorer: Any, prompt_set: str) -> bool:
    """Whether a scorer's block, whatever its shape, says that it rates a prompt set."""
    own = scorer.get("prompt_sets") if isinstance(scorer, Mapping) else None
    return not isinstance(own, list) or prompt_set in own


def _settings(data: Raw) -> Iterator[Problem]:
    for name, scorer in raw.blocks(data, "scorers"):
        if name not in registries.scorers():
            continue
        module = registries.scorer(name)
        protocol = scorer.get("protocol")
        if isinstance(protocol, str) and protocol not in module.PROTOCOLS:
            expected = unknown("protocol", protocol, module.PROTOCOLS)
            yield Problem(("scorers", name, "protocol"), protocol, expected)
        how, known = scorer.get("implementation"), registries.scorer_implementations(name)
        if how in ("native", "package") and how not in known:
            yield Problem(("scorers", name, "implementation"), how, f"expected {' or '.join(known)}: it has no other")
        options, defaults = raw.block(scorer, "options"), registries.scorer_options(name)
        for option in options:
            if option not in defaults:
                yield Problem(("scorers", name, "options", option), MISSING, unknown("key", str(option), defaults))
        if module.NEEDS_WEIGHTS and scorer.get("weights") is None:
            expected = f"missing: expected {getattr(module, 'WEIGHTS', 'a file or folder')}"
            yield Problem(("scorers", name, "weights"), MISSING, expected)


def _prompt_sets(data: Raw) -> Iterator[Problem]:
    """Prompt sets that scorers are limited to; each set has at least one scorer."""
    known, wrong = list(raw.block(data, "prompt_sets")), False
    for scorer, block in raw.blocks(data, "scorers"):
        own = block.get("prompt_sets")
        listed = own if known and isinstance(own, list) else []
        for index, name in enumerate(listed):
            path = ("scorers", scorer, "prompt_sets", index)
            if isinstance(name, str) and name not in known:
                wrong = True
                yield Problem(path, name, unknown("prompt set", name, known))
            elif name in listed[:index]:
                yield Problem(path, name, f"prompt_sets[{listed.index(name)}] is the same; expected each set once")
    scorers = raw.block(data, "scorers")
    for name in known if scorers and not wrong else []:
        if not any(rates(block, name) for block in scorers.values()):
            expected = f"no scorer rates it: expected its name in scorers.{next(iter(scorers))}.prompt_sets or another"
            yield Problem(("prompt_sets", name), MISSING, f"{expected} scorer's, or no such set")


CHECKS = (_settings, _prompt_sets)
