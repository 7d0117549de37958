from __future__ import annotations

import math

import numpy as np
import pytest

from artifacts.errors import InputError
from worlds.toy_surface.clouds import coordinates, picture
from worlds.toy_surface.surface import height, is_loser, is_on_manifold, is_winner, sample, shares


def test_height_at_points_worked_out_by_hand() -> None:
    # At x = 3, y = 0: 1.2 + 1.2·e^−36 − 0.9·e^−9; at x = 0: 2.4·e^−9 − 0.9; y = 1 takes 15 % of both.
    hill, valley = 1.2 + 1.2 * math.exp(-36) - 0.9 * math.exp(-9), 2.4 * math.exp(-9) - 0.9
    x, y = np.array([3.0, -3.0, 0.0, 3.0, 0.0]), np.array([0.0, 0.0, 0.0, 1.0, -1.0])
    assert height(x, y) == pytest.approx([hill, hill, valley, 0.85 * hill, 0.85 * valley], rel=1e-12)


def test_regions_and_shares_of_a_cloud_counted_by_hand() -> None:
    f = lambda x, y: float(height(np.array([x]), np.array([y]))[0])  # noqa: E731
    points = np.array(
        [
            [3.0, 0.0, f(3, 0)],  # wins, on the surface
            [-2.1, 0.5, f(-2.1, 0.5) + 0.149],  # wins, just on it
            [2.5, 0.0, f(2.5, 0) + 0.151],  # wins, just off it
            [3.5, 1.01, f(3.5, 1.01)],  # wins, outside the domain in y
            [0.5, 0.0, f(0.5, 0)],  # loses, on the surface
            [1.5, 0.0, f(1.5, 0)],  # neither, on the surface
            [4.0, 0.0, f(4, 0)],  # the hill's end does not count
            [np.nan, 0.0, 0.0],
        ]
    )
    assert is_winner(points[:7]).tolist() == [True, True, True, True, False, False, False]
    assert is_loser(points[:7]).tolist() == [False, False, False, False, True, False, False]
    assert is_on_manifold(points[:7]).tolist() == [True, True, False, False, True, True, True]
    assert shares(points) == pytest.approx(
        {"win": 4 / 8, "loss": 1 / 8, "strict_win": 2 / 8, "on_manifold": 5 / 8, "win_quality": 0.5, "strict": 3.5 / 8}
    )
    assert shares(points[4:5])["win_quality"] == 0.0


def test_samples_lie_in_their_region_and_on_the_surface() -> None:
    rng = np.random.default_rng(0)
    for region, inside, mean_of_square in (("winner", is_winner, 9 + 1 / 3), ("loser", is_loser, 1 / 3)):
        points = sample(region, 20_000, rng)  # type: ignore[arg-type]
        assert inside(points).all() and is_on_manifold(points).all()
        # x uniform within ±1 of its hill, or of 0; hills equally often.
        assert (points[:, 0] ** 2).mean() == pytest.approx(mean_of_square, rel=0.02)
        assert abs(points[:, 0].mean()) < 0.1
    everywhere = sample("all", 20_000, rng)
    assert is_winner(everywhere).mean() == pytest.approx(0.4, abs=0.015)
    assert is_loser(everywhere).mean() == pytest.approx(0.2, abs=0.015)


def test_a_picture_keeps_the_points_to_the_last_bit_of_float32() -> None:
    points = np.array([[3.0, 0.1, 1.1], [1e9, -np.inf, 0.0]], dtype=np.float32)
    assert coordinates(picture(points)).astype(np.float32).tobytes() == points.tobytes()
    blank = picture(points)
    blank.info = {}
    with pytest.raises(InputError, match="carries no points"):
        coordinates(blank)
