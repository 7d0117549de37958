"""Scorer ``surface_loss``: share of a cloud's points in the valley, by x alone. Lower is better."""

from worlds.toy_surface.share_scorer import PROTOCOLS, creator
from worlds.toy_surface.surface import VERSION

__all__ = ["LOWER_IS_BETTER", "NEEDS_WEIGHTS", "PROTOCOLS", "VERSION", "create"]

NEEDS_WEIGHTS = False
LOWER_IS_BETTER = True
create = creator("loss")
