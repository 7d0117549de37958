"""Prompt source ``toy_surface_clouds``: one prompt a cloud; it says nothing, and stands for the cloud's start noise."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from artifacts.errors import InputError
from evals.prompts import Prompt

COUNT = 1000
DEFAULTS: dict[str, Any] = {}


def read(options: Mapping[str, Any]) -> list[Prompt]:
    """``COUNT`` prompts; ``limit`` takes the first of them.

    Raises:
        InputError: options are given; there are none.
    """
    if options:
        raise InputError(f"prompt source 'toy_surface_clouds': unknown option '{next(iter(options))}': it has none")
    # Equal texts would count as one prompt, and the clouds of all of them as one unit of chance.
    return [Prompt(f"cloud {number} of points") for number in range(COUNT)]
