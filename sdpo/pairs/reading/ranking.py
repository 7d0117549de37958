"""From a ranking of the images of one prompt to comparisons: each two of them, the better rank preferred."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from itertools import combinations
from pathlib import Path
from typing import Any

from sdpo.pairs.reading.comparison import Comparison, ImageFile


def pairs_of_ranking(
    place: str, prompt: str | None, names: Any, ranks: Any, image: Callable[[str], ImageFile]
) -> Iterator[Comparison]:
    """Yield the comparisons of one ranking.

    Args:
        place: file and row, for messages.
        prompt: of the images.
        names: of the images.
        ranks: one an image, the lowest the best; equal ones are a tie.
        image: finds the image of a name.
    """
    if not (isinstance(names, list) and isinstance(ranks, list) and len(names) == len(ranks)):
        nothing = Path()
        yield Comparison(place, place, prompt, (nothing, nothing), None, "expected a list of images and one of ranks")
        return
    for i, j in combinations(range(len(names)), 2):
        first, second = str(names[i]), str(names[j])
        label, fault = _label(ranks[i], ranks[j])
        yield Comparison(
            place=f"{place}, images {i} and {j}",
            identity=f"{prompt}\0{first}\0{second}",
            prompt=prompt,
            images=(image(first), image(second)),
            label=label,
            fault=fault,
        )


def _label(first: Any, second: Any) -> tuple[float | None, str]:
    try:
        numbers = (float(first), float(second))
    except (TypeError, ValueError):
        numbers = (math.nan, math.nan)
    if any(map(math.isnan, numbers)):
        return None, f"ranks are {first!r} and {second!r}, expected two numbers"
    return (0.5 if numbers[0] == numbers[1] else float(numbers[0] < numbers[1])), ""
