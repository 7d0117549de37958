"""Scorer ``surface_win_quality``: share of a cloud's points on the hills that lie on the surface.

Given the number of points on the hills, the share is binomial with the model's own quality as its mean. So the mean
over clouds estimates that quality without bias, and its interval is the bootstrap's as for every other score. It is 0
for a cloud without a point on the hills.
"""

from worlds.toy_surface.share_scorer import PROTOCOLS, creator
from worlds.toy_surface.surface import VERSION

__all__ = ["NEEDS_WEIGHTS", "PROTOCOLS", "VERSION", "create"]

NEEDS_WEIGHTS = False
create = creator("win_quality")
