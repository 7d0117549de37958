"""From scenes to 32 x 32 pictures, and the faults that make pictures worth aligning away.

Every object is one of a finite set of antialiased masks (slot, shape, size, position), so that the
oracle can fit a picture by trying all of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray

from worlds.miniature.scenes import COLOURS, SHAPES, SIZES, Scene, contradicted, is_heldout, is_reserved

IMAGE_SIZE_PX = 32
# An object alone has room to be large; shapes much smaller than this vanish in 8 x 8 latents.
RADIUS_PX = {"whole": {"small": 6.0, "large": 10.0}, "half": {"small": 5.0, "large": 7.0}}
# Where an object's centre may lie: (name, columns, rows). The halves leave no overlap between two objects.
_CENTRE, _SPREAD, _TIGHT = 16, range(-3, 4), range(-1, 2)
SLOTS: dict[str, tuple[tuple[int, ...], tuple[int, ...]]] = {
    "whole": (tuple(_CENTRE + d for d in _SPREAD), tuple(_CENTRE + d for d in _SPREAD)),
    "left": (tuple(8 + d for d in _TIGHT), tuple(_CENTRE + d for d in _SPREAD)),
    "right": (tuple(24 + d for d in _TIGHT), tuple(_CENTRE + d for d in _SPREAD)),
    "top": (tuple(_CENTRE + d for d in _SPREAD), tuple(8 + d for d in _TIGHT)),
    "bottom": (tuple(_CENTRE + d for d in _SPREAD), tuple(24 + d for d in _TIGHT)),
}
# Pictures use every other position only, which are enough to learn from; the oracle tries all of them.
_DRAWN_STEP = 2
_OVERSAMPLING = 4

Pixels = NDArray[np.float32]


def slots_of(scene: Scene) -> tuple[str, ...]:
    """Slot of each thing of the scene, in the order of its things."""
    by_relation = {
        None: ("whole",),
        "left of": ("left", "right"),
        "right of": ("right", "left"),
        "above": ("top", "bottom"),
        "below": ("bottom", "top"),
    }
    return by_relation[scene.relation]


@dataclass(frozen=True)
class Masks:
    """All masks of one slot: ``coverage`` (K, 1024) in [0, 1], with the shape and size index of each (K,)."""

    coverage: Pixels
    shape: NDArray[np.int64]
    size: NDArray[np.int64]


@cache
def masks(slot: str) -> Masks:
    """The slot's masks, in the order shape, size, column, row."""
    columns, rows = SLOTS[slot]
    radii = RADIUS_PX["whole" if slot == "whole" else "half"]
    kinds = [(shape, size, x, y) for shape in range(4) for size in range(2) for x in columns for y in rows]
    coverage = np.stack([_coverage(SHAPES[s], radii[SIZES[z]], x, y) for s, z, x, y in kinds])
    return Masks(coverage, np.array([k[0] for k in kinds]), np.array([k[1] for k in kinds]))


def _coverage(shape: str, radius: float, x: float, y: float) -> Pixels:
    fine = (np.arange(IMAGE_SIZE_PX * _OVERSAMPLING) + 0.5) / _OVERSAMPLING
    dx, dy = np.meshgrid(fine - x, fine - y)
    if shape == "circle":
        inside = dx**2 + dy**2 <= (0.95 * radius) ** 2
    elif shape == "square":
        inside = np.maximum(abs(dx), abs(dy)) <= 0.96 * radius
    elif shape == "triangle":
        inside = (dy <= 0.8 * radius) & (abs(dx) <= (dy + radius) * 0.56)
    else:
        inside = (np.minimum(abs(dx), abs(dy)) <= 0.33 * radius) & (np.maximum(abs(dx), abs(dy)) <= radius)
    blocks = inside.reshape(IMAGE_SIZE_PX, _OVERSAMPLING, IMAGE_SIZE_PX, _OVERSAMPLING)
    coverage: Pixels = blocks.mean(axis=(1, 3), dtype=np.float32).reshape(-1)
    return coverage


def colour(name: str) -> Pixels:
    """RGB of a colour name in [0, 1], shape (3,)."""
    return np.array(COLOURS[name], dtype=np.float32) / np.float32(255)


def render(scenes: Sequence[Scene], rng: np.random.Generator) -> Pixels:
    """Draw scenes at random positions. Returns (N, 32, 32, 3) float32 in [0, 1]."""
    pictures = np.empty((len(scenes), IMAGE_SIZE_PX**2, 3), dtype=np.float32)
    for picture, scene in zip(pictures, scenes, strict=True):
        picture[:] = colour(scene.background)
        for thing, slot in zip(scene.things, slots_of(scene), strict=True):
            columns, rows = (len(axis) for axis in SLOTS[slot])
            kind = SHAPES.index(thing.shape) * len(SIZES) + SIZES.index(thing.size)
            x, y = (rng.integers(count // _DRAWN_STEP) * _DRAWN_STEP + 1 for count in (columns, rows))
            cover = masks(slot).coverage[(kind * columns + x) * rows + y, :, None]
            picture[:] = picture * (1 - cover) + colour(thing.colour) * cover
    return pictures.reshape(-1, IMAGE_SIZE_PX, IMAGE_SIZE_PX, 3)


def degrade(pictures: Pixels, rng: np.random.Generator, *, probability: float) -> Pixels:
    """Blur, fade, blot and add noise, each with the given probability. Returns new pictures in [0, 1]."""
    out = pictures.copy()
    grid = np.arange(IMAGE_SIZE_PX)
    hit = rng.random((4, len(out))) < probability
    strength = rng.random((4, len(out))).astype(np.float32)
    for i, picture in enumerate(out):
        if hit[0, i]:
            width = 0.7 + 0.9 * strength[0, i]
            kernel = np.exp(-0.5 * ((grid[:, None] - grid[None]) / width) ** 2)
            kernel = (kernel / kernel.sum(axis=1, keepdims=True)).astype(np.float32)
            picture[:] = np.einsum("ij,jkc,lk->ilc", kernel, picture, kernel, optimize=True)
        if hit[1, i]:
            picture[:] = 0.5 + (picture - 0.5) * (0.75 - 0.35 * strength[1, i])
        if hit[2, i]:
            x, y = rng.uniform(3, IMAGE_SIZE_PX - 3, size=2)
            radius = 2 + 2 * strength[2, i]
            inside = (grid[None] + 0.5 - x) ** 2 + (grid[:, None] + 0.5 - y) ** 2 <= radius**2
            picture[inside] = rng.random(3)
        if hit[3, i]:
            picture += rng.normal(0, 0.05 + 0.1 * strength[3, i], picture.shape).astype(np.float32)
    return np.clip(out, 0, 1)


def _contradicted(scene: Scene, rng: np.random.Generator) -> Scene:
    """The scene contradicted; one that training may show becomes one that it may show."""
    while True:
        changed = contradicted(scene, rng)
        if not (is_heldout(changed) or is_reserved(changed)) or is_heldout(scene) or is_reserved(scene):
            return changed


def faulty(scenes: Sequence[Scene], rng: np.random.Generator, *, contradiction: float, degradation: float) -> Pixels:
    """Pictures as the web has them: some contradict their caption, some are degraded.

    Of scenes that are neither held out nor reserved, no picture shows one that is.

    Args:
        contradiction: share of pictures with one attribute that is not as the caption says.
        degradation: probability of each of the four degradations.
    """
    drawn = [_contradicted(scene, rng) if rng.random() < contradiction else scene for scene in scenes]
    return degrade(render(drawn, rng), rng, probability=degradation)


def to_uint8(pictures: Pixels) -> NDArray[np.uint8]:
    """[0, 1] floats to bytes, rounded."""
    return (np.clip(pictures, 0, 1) * 255 + 0.5).astype(np.uint8)
