"""Pair source ``toy_surface_regions``: clouds on the hills against clouds in the valley.

A pair of clouds holds as many pairs of points; the points of a cloud are independent.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from artifacts.errors import InputError
from artifacts.plugins import nearest

if TYPE_CHECKING:
    from sdpo.pairs import Pair

DEFAULTS: dict[str, int] = {"clouds": 204, "heldout": 4, "seed": 0}


def read(options: Mapping[str, Any], *, base_path: Path) -> Iterator[Pair]:
    """Yield pairs of clouds.

    Args:
        options: ``clouds`` in all, the last ``heldout`` of them held out; ``seed``.
        base_path: not used.

    Raises:
        InputError: an option is unknown or not an integer of at least 0.
    """
    import numpy as np

    from sdpo.pairs import Pair
    from worlds.toy_surface.clouds import CLOUD_POINTS, picture
    from worlds.toy_surface.surface import sample

    for key, value in options.items():
        if key not in DEFAULTS:
            known = list(DEFAULTS)
            raise InputError(
                f"pair source 'toy_surface_regions': unknown option '{key}': expected one of {', '.join(known)}"
                f"{nearest(key, known)}"
            )
        if isinstance(value, bool) or not isinstance(value, int) or value < 0:
            raise InputError(
                f"pair source 'toy_surface_regions': {key} is {value!r}, expected an integer of at least 0"
            )
    chosen = {**DEFAULTS, **options}
    for index in range(chosen["clouds"]):
        rng = np.random.default_rng([101, chosen["seed"], index])
        yield Pair(
            prompt="a cloud of points",
            images=(picture(sample("winner", CLOUD_POINTS, rng)), picture(sample("loser", CLOUD_POINTS, rng))),
            label=1.0,
            split="train" if index < chosen["clouds"] - chosen["heldout"] else "heldout",
        )
