"""Scorer ``surface_win``: share of a cloud's points on the hills, by x alone."""

from worlds.toy_surface.share_scorer import PROTOCOLS, creator
from worlds.toy_surface.surface import VERSION

__all__ = ["NEEDS_WEIGHTS", "PROTOCOLS", "VERSION", "create"]

NEEDS_WEIGHTS = False
create = creator("win")
