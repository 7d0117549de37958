"""Scorer ``surface_strict``: mean of ``strict_win`` and ``on_manifold``, the published table's last column."""

from worlds.toy_surface.share_scorer import PROTOCOLS, creator
from worlds.toy_surface.surface import VERSION

__all__ = ["NEEDS_WEIGHTS", "PROTOCOLS", "VERSION", "create"]

NEEDS_WEIGHTS = False
create = creator("strict")
