"""A cloud of points as a picture that carries the coordinates.

The picture shows x to the right and z upwards; the exact coordinates are in its text entry ``points`` as base64 of
little-endian float32, so they survive a PNG file and are covered by its digest.
"""

from __future__ import annotations

import base64
import binascii
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from artifacts.errors import InputError
from worlds.toy_surface.surface import height, is_on_manifold, is_winner

if TYPE_CHECKING:
    from PIL.Image import Image

CLOUD_POINTS = 1000
"""Points in a cloud."""

TEXT_KEY = "points"
_WIDTH, _HEIGHT = 128, 128
_X, _Z = (-6.0, 6.0), (-3.0, 3.0)
_PAPER, _CURVE = (255, 255, 255), (208, 212, 218)
_OFF, _ELSEWHERE, _WINNER = (213, 94, 0), (86, 180, 233), (0, 114, 178)


def picture(points: NDArray[np.floating]) -> Image:
    """Draw a cloud, (N, 3): dark blue on a hill, light blue elsewhere on the surface, orange off the surface."""
    from PIL import Image

    exact = points.astype("<f4")
    canvas = np.full((_HEIGHT, _WIDTH, 3), _PAPER, dtype=np.uint8)
    columns = np.linspace(*_X, 4 * _WIDTH)
    _dots(canvas, columns, height(columns, np.zeros_like(columns)), _CURVE)
    wide = exact.astype(np.float64)
    near, wins = is_on_manifold(wide), is_winner(wide)
    for chosen, colour in ((~near, _OFF), (near & ~wins, _ELSEWHERE), (near & wins, _WINNER)):
        _dots(canvas, wide[chosen, 0], wide[chosen, 2], colour)
    image = Image.fromarray(canvas)
    image.info[TEXT_KEY] = base64.b64encode(exact.tobytes()).decode("ascii")
    return image


def coordinates(image: Image) -> NDArray[np.float64]:
    """The points of a picture, (N, 3).

    Raises:
        InputError: the picture carries no points.
    """
    text = image.info.get(TEXT_KEY)
    try:
        values = np.frombuffer(base64.b64decode(text or "", validate=True), dtype="<f4").astype(np.float64)
    except (binascii.Error, ValueError, TypeError) as error:
        raise InputError("the picture's points are damaged; generate it again with family 'toy_surface'") from error
    if values.size == 0 or values.size % 3:
        raise InputError("the picture carries no points; only pictures of the family 'toy_surface' do")
    return values.reshape(-1, 3)


def _dots(
    canvas: NDArray[np.uint8], x: NDArray[np.float64], z: NDArray[np.float64], colour: tuple[int, int, int]
) -> None:
    """Set the pixels at (x, z); points outside the picture are left out."""
    with np.errstate(invalid="ignore"):
        column = np.floor((x - _X[0]) / (_X[1] - _X[0]) * _WIDTH)
        row = np.floor((_Z[1] - z) / (_Z[1] - _Z[0]) * _HEIGHT)
        inside = (column >= 0) & (column < _WIDTH) & (row >= 0) & (row < _HEIGHT)
    canvas[row[inside].astype(int), column[inside].astype(int)] = colour
