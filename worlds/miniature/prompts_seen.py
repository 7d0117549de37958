"""Prompt source ``miniature_seen``: combinations that training shows; half with one object, half with two."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from artifacts.errors import InputError
from evals.prompts import Prompt
from worlds.miniature.scenes import Scene, is_training, random_scene

COUNT = 1000
# No options: the sets are what they are.
DEFAULTS: dict[str, Any] = {}


def choose(
    source: str, options: Mapping[str, Any], accepted: Callable[[Scene], bool], *, two_objects: float
) -> list[Prompt]:
    """``COUNT`` different captions of accepted scenes, in a fixed random order; category is the number of objects.

    Fewer one-object captions exist than a long set wants: when no new one turns up, two-object ones fill it.

    Raises:
        InputError: options are given; these sources have none.
    """
    if options:
        raise InputError(f"prompt source '{source}': unknown option '{next(iter(options))}': it has no options")
    # Every source draws from a stream of its own, named by the source.
    rng = np.random.default_rng(list(source.encode()))
    chosen: dict[str, Prompt] = {}
    while len(chosen) < COUNT:
        scene = random_scene(rng, two_objects=two_objects)
        if accepted(scene):
            category = "one object" if len(scene.things) == 1 else "two objects"
            chosen.setdefault(scene.caption, Prompt(scene.caption, category))
    return list(chosen.values())


def read(options: Mapping[str, Any]) -> list[Prompt]:
    """The prompts."""
    return choose("miniature_seen", options, is_training, two_objects=0.5)
