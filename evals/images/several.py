"""Folders of several images a prompt, by the names of their files: ours, and the layout of GenEval."""

from __future__ import annotations

import re
from collections.abc import Sequence

_OURS = re.compile(r"([0-9]{1,18})(?:_([0-9]{1,9}))?\.[a-z]+", re.IGNORECASE)
_GENEVAL = re.compile(r"([0-9]{1,18})/samples/([0-9]{1,9})\.[a-z]+", re.IGNORECASE)


def place_of(name: str) -> tuple[int, int] | None:
    """Number of the prompt, and which of its images, both from 0, that a path below the folder says, if it does.

    ``00007.png`` and ``00007_0.png`` are the first of prompt 7, ``00007_1.png`` and ``00007/samples/0001.png`` the
    second.
    """
    found = _OURS.fullmatch(name) or _GENEVAL.fullmatch(name)
    return None if found is None else (int(found[1]), int(found[2] or 0))


def grouped(names: Sequence[str], prompts: Sequence[int]) -> list[list[str]] | None:
    """Files of each prompt in the order of its images; ``None`` if they are not several of each, as many of all.

    Args:
        names: paths below the folder.
        prompts: the number of each prompt, in the order of the result.
    """
    places = {}
    for name in names:
        if (place := place_of(name)) is None or place in places:
            return None
        places[place] = name
    count, left = divmod(len(names), len(prompts))
    if left or (count < 2 and not any("/" in name for name in names)):
        return None
    wanted = [[(number, image) for image in range(count)] for number in prompts]
    if set(places) != {place for row in wanted for place in row}:
        return None
    return [[places[place] for place in row] for row in wanted]
