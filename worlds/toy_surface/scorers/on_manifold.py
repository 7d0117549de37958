"""Scorer ``surface_on_manifold``: share of a cloud's points that lie on the surface."""

from worlds.toy_surface.share_scorer import PROTOCOLS, creator
from worlds.toy_surface.surface import VERSION

__all__ = ["NEEDS_WEIGHTS", "PROTOCOLS", "VERSION", "create"]

NEEDS_WEIGHTS = False
create = creator("on_manifold")
