"""The surface, its regions, and what share of a cloud lies where (arXiv 2608.20011, App. E.1).

``z = f(x, y) = (1.2·e^{−(x−3)²} + 1.2·e^{−(x+3)²} − 0.9·e^{−x²})·(1 − 0.15·y²)`` over x in [−5, 5], y in [−1, 1]:
two hills, whose points win, and a valley between them, whose points lose.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Region = Literal["all", "winner", "loser"]

VERSION = 1
"""Raised when the shares of a given cloud would change."""

X_LIMIT, Y_LIMIT = 5.0, 1.0
HILL_X = 3.0
TOLERANCE = 0.15
"""Greatest vertical distance from the surface at which a point counts as on it."""


def height(x: Floats, y: Floats) -> Floats:
    """f(x, y), of the common shape of ``x`` and ``y``."""
    hills = 1.2 * np.exp(-((x - HILL_X) ** 2)) + 1.2 * np.exp(-((x + HILL_X) ** 2)) - 0.9 * np.exp(-(x**2))
    surface: Floats = hills * (1.0 - 0.15 * y**2)
    return surface


def sample(region: Region, count: int, rng: np.random.Generator) -> Floats:
    """Points on the surface, (count, 3), uniform in x and y over a region.

    Args:
        region: ``winner``: |x − 3| < 1 or |x + 3| < 1; ``loser``: |x| < 1; ``all``: the whole domain.
    """
    if region == "all":
        x = rng.uniform(-X_LIMIT, X_LIMIT, count)
    else:
        x = rng.uniform(-1.0, 1.0, count)
        if region == "winner":
            x = x + HILL_X * rng.choice([-1.0, 1.0], count)
    y = rng.uniform(-Y_LIMIT, Y_LIMIT, count)
    return np.stack([x, y, height(x, y)], axis=1)


def is_winner(points: Floats) -> NDArray[np.bool_]:
    """Whether each point's x lies on a hill, (N,); y and z do not matter."""
    inside: NDArray[np.bool_] = np.abs(np.abs(points[:, 0]) - HILL_X) < 1.0
    return inside


def is_loser(points: Floats) -> NDArray[np.bool_]:
    """Whether each point's x lies in the valley, (N,); y and z do not matter."""
    inside: NDArray[np.bool_] = np.abs(points[:, 0]) < 1.0
    return inside


def is_on_manifold(points: Floats) -> NDArray[np.bool_]:
    """Whether each point lies over the domain and within :data:`TOLERANCE` of the surface, (N,)."""
    # Points far away: their height is irrelevant, and its arithmetic must not warn.
    x, y, z = np.clip(np.nan_to_num(points, nan=1e3), -1e3, 1e3).T
    near: NDArray[np.bool_] = np.abs(z - height(x, y)) <= TOLERANCE
    over: NDArray[np.bool_] = (np.abs(x) <= X_LIMIT) & (np.abs(y) <= Y_LIMIT)
    return near & over


def shares(points: Floats) -> dict[str, float]:
    """The columns of the published table for one cloud, each in [0, 1].

    Args:
        points: (N, 3) with N ≥ 1; a point that is not finite lies nowhere.

    Returns:
        ``win`` and ``loss``: share of points in the winners' and the losers' region; ``on_manifold``;
        ``strict_win``: in the winners' region and on the manifold; ``win_quality``: ``strict_win / win``, 0 where
        nothing wins; ``strict``: mean of ``strict_win`` and ``on_manifold``.
    """
    points = np.where(np.isfinite(points).all(axis=1, keepdims=True), points, 1e3)
    win, near = is_winner(points), is_on_manifold(points)
    strict_win = float((win & near).mean())
    return {
        "win": float(win.mean()),
        "loss": float(is_loser(points).mean()),
        "strict_win": strict_win,
        "on_manifold": float(near.mean()),
        "win_quality": strict_win / float(win.mean()) if win.any() else 0.0,
        "strict": (strict_win + float(near.mean())) / 2.0,
    }
