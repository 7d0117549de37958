"""Scorer ``surface_strict_win``: share of a cloud's points that lie on the hills and on the surface."""

from worlds.toy_surface.share_scorer import PROTOCOLS, creator
from worlds.toy_surface.surface import VERSION

__all__ = ["NEEDS_WEIGHTS", "PROTOCOLS", "VERSION", "create"]

NEEDS_WEIGHTS = False
create = creator("strict_win")
