"""The oracle: how faithful to its caption a picture is, and how clean.

Analysis by synthesis. Every scene the renderer can draw is a background colour, a mask and a colour for
each slot; the squared error of all of them against a picture follows from a few sums, so the best one is
found exactly. ``faithfulness`` compares it with the caption, ``cleanness`` is what it leaves unexplained.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from worlds.miniature.rendering import IMAGE_SIZE_PX, SLOTS, Pixels, colour, masks, slots_of
from worlds.miniature.scenes import COLOURS, SHAPES, SIZES, Scene, Thing

VERSION = 1
FAITHFULNESS_WEIGHT = 0.6
# Root mean square residual, in units of full brightness, at which cleanness is one half.
HALF_CLEAN_RMS = 0.12
_LAYOUTS = {"one": ("whole",), "horizontal": ("left", "right"), "vertical": ("top", "bottom")}
_NAMES = list(COLOURS)

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Reading:
    """What the oracle sees in one picture under one layout, and the squared error it leaves."""

    background: str
    things: tuple[Thing, ...]
    squared_error: float


@dataclass(frozen=True)
class Judgement:
    """Verdict on one picture.

    ``attributes`` maps ``count``, ``background`` and, for each thing i, ``colour<i>``, ``shape<i>``, ``size<i>``,
    and ``relation`` where there is one, to whether it is as the caption says. ``faithfulness`` is their mean;
    ``cleanness`` and ``score`` lie in [0, 1].
    """

    attributes: dict[str, bool]
    faithfulness: float
    cleanness: float

    @property
    def score(self) -> float:
        """0.6 faithfulness + 0.4 cleanness."""
        return FAITHFULNESS_WEIGHT * self.faithfulness + (1 - FAITHFULNESS_WEIGHT) * self.cleanness


def read(pictures: NDArray[np.uint8]) -> list[dict[str, Reading]]:
    """Best reading of each picture under each layout (``one``, ``horizontal``, ``vertical``).

    Args:
        pictures: (N, 32, 32, 3) bytes.
    """
    answers: list[dict[str, Reading]] = []
    for start in range(0, len(pictures), 64):
        x = pictures[start : start + 64].reshape(-1, IMAGE_SIZE_PX**2, 3).astype(np.float32) / np.float32(255)
        plain = _plain_error(x)
        best = {slot: _best_in_slot(x, slot) for slot in SLOTS}
        for i in range(len(x)):
            answers.append({name: _reading(i, plain, best, slots) for name, slots in _LAYOUTS.items()})
    return answers


_Best = tuple[Floats, NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]


def _plain_error(x: Pixels) -> Floats:
    """Squared error of each plain background: (N, 8)."""
    palette = np.stack([colour(name) for name in _NAMES]).astype(np.float64)
    squares = (x.astype(np.float64) ** 2).sum((1, 2))[:, None]
    cross = x.sum(1, dtype=np.float64) @ palette.T
    error: Floats = squares - 2 * cross + x.shape[1] * (palette**2).sum(1)[None]
    return error


def _best_in_slot(x: Pixels, slot: str) -> _Best:
    """For each picture and background: the least change of squared error by one object, its shape, size, colour.

    With cover m, background b and colour c the change is ``-2 (c-b)·Σ m (x-b) + |c-b|² Σ m²``.
    """
    table = masks(slot)
    palette = np.stack([colour(name) for name in _NAMES])
    covered = np.einsum("kp,npc->nkc", table.coverage, x, optimize=True)
    area, square_area = table.coverage.sum(1), (table.coverage**2).sum(1)
    n, colours = len(x), len(palette)
    change = np.empty((n, colours), dtype=np.float64)
    which = np.empty((3, n, colours), dtype=np.int64)
    for b, background in enumerate(palette):
        shift = palette - background
        inner = (covered - area[None, :, None] * background) @ shift.T
        gain = -2 * inner + square_area[None, :, None] * (shift**2).sum(1)[None, None]
        gain[:, :, b] = np.inf
        flat = gain.reshape(n, -1).argmin(1)
        k, c = np.divmod(flat, colours)
        change[:, b] = gain.reshape(n, -1)[np.arange(n), flat]
        which[:, :, b] = table.shape[k], table.size[k], c
    return change, which[0], which[1], which[2]


def _reading(i: int, plain: Floats, best: dict[str, _Best], slots: tuple[str, ...]) -> Reading:
    total = plain[i] + sum(best[slot][0][i] for slot in slots)
    b = int(total.argmin())
    things = tuple(Thing(SIZES[best[s][2][i, b]], _NAMES[best[s][3][i, b]], SHAPES[best[s][1][i, b]]) for s in slots)
    return Reading(_NAMES[b], things, float(max(total[b], 0.0)))


def judge(pictures: NDArray[np.uint8], scenes: Sequence[Scene]) -> list[Judgement]:
    """Judge each picture against its scene.

    Args:
        pictures: (N, 32, 32, 3) bytes.
        scenes: N scenes, from the captions.
    """
    if len(pictures) != len(scenes):
        raise ValueError(f"pictures and scenes must be equally many, got {len(pictures)} and {len(scenes)}")
    return [_judge(readings, scene) for readings, scene in zip(read(pictures), scenes, strict=True)]


def _judge(readings: dict[str, Reading], scene: Scene) -> Judgement:
    seen = min(readings, key=lambda name: readings[name].squared_error)
    slots = slots_of(scene)
    wanted = next(name for name, members in _LAYOUTS.items() if set(members) == set(slots))
    reading = readings[wanted]
    in_order = [reading.things[_LAYOUTS[wanted].index(slot)] for slot in slots]
    attributes = {
        "count": len(readings[seen].things) == len(scene.things),
        "background": reading.background == scene.background,
    }
    for i, (thing, found) in enumerate(zip(scene.things, in_order, strict=True), start=1):
        attributes |= {
            f"colour{i}": thing.colour == found.colour,
            f"shape{i}": thing.shape == found.shape,
            f"size{i}": thing.size == found.size,
        }
    if scene.relation is not None:
        right_way = _matches(scene.things, in_order)
        swapped = _matches(scene.things, in_order[::-1])
        attributes["relation"] = seen == wanted and right_way > swapped
    rms = float(np.sqrt(readings[seen].squared_error / (IMAGE_SIZE_PX**2 * 3)))
    return Judgement(
        attributes=attributes,
        faithfulness=sum(attributes.values()) / len(attributes),
        cleanness=1 / (1 + (rms / HALF_CLEAN_RMS) ** 2),
    )


def _matches(wanted: Sequence[Thing], found: Sequence[Thing]) -> int:
    pairs = list(zip(wanted, found, strict=True))
    return sum((a.colour == b.colour) + (a.shape == b.shape) + (a.size == b.size) for a, b in pairs)
