"""Pair source ``miniature_renders``: off-policy pairs, two corrupted renders of each prompt.

Like Pick-a-Pic for Stable Diffusion 1.5: the winners are mostly better than what the base draws.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from artifacts.errors import InputError
from artifacts.plugins import nearest
from miniature import oracle
from miniature.rendering import faulty, to_uint8
from miniature.scenes import Scene, is_validation, shown_scenes

if TYPE_CHECKING:
    from sdpo.pairs import Pair

DEFAULTS: dict[str, float] = {
    "pairs": 2400,
    "heldout": 256,
    "seed": 0,
    "temperature": 0.05,
    "tie_below": 0.03,
    "contradiction": 0.4,
    "degradation": 0.35,
}


def settings(source: str, options: Mapping[str, Any], defaults: Mapping[str, float]) -> dict[str, float]:
    """The source's options with defaults filled in.

    Raises:
        InputError: unknown option, or one that is not a number.
    """
    for key, value in options.items():
        if key not in defaults:
            raise InputError(
                f"pair source '{source}': unknown option '{key}': expected one of "
                f"{', '.join(defaults)}{nearest(key, list(defaults))}"
            )
        if isinstance(value, bool) or not isinstance(value, (int, float)) or value < 0:
            raise InputError(f"pair source '{source}': {key} is {value!r}, expected a number that is not negative")
    return {**defaults, **options}


def split_scenes(options: Mapping[str, float], rng: np.random.Generator) -> list[Scene]:
    """Scenes of all ``pairs``; those of the last ``heldout`` have captions of the validation split.

    Raises:
        InputError: more are to be held out than there are.
    """
    pairs, heldout = int(options["pairs"]), int(options["heldout"])
    if heldout > pairs:
        raise InputError(f"heldout is {heldout}, expected at most pairs, {pairs}")
    return shown_scenes(pairs - heldout, heldout, rng)


def labels(
    first: ArrayLike, second: ArrayLike, rng: np.random.Generator, *, temperature: float, tie_below: float
) -> list[float]:
    """Bradley-Terry annotators on the oracle's scores; 0.5 where two scores are closer than ``tie_below``."""
    difference = np.asarray(first) - np.asarray(second)
    wins = rng.random(len(difference)) < 1 / (1 + np.exp(-difference / temperature))
    return [0.5 if abs(d) < tie_below else float(won) for d, won in zip(difference, wins, strict=True)]


def annotated(
    scenes: Sequence[Scene],
    pictures: tuple[NDArray[np.uint8], NDArray[np.uint8]],
    options: Mapping[str, float],
    rng: np.random.Generator,
) -> Iterator[Pair]:
    """Pairs of pictures (N, 32, 32, 3) with labels from the oracle's scores, in the splits of their scenes."""
    from PIL import Image

    from sdpo.pairs import Pair

    scores = [[j.score for j in oracle.judge(p, scenes)] for p in pictures]
    drawn = labels(scores[0], scores[1], rng, temperature=options["temperature"], tie_below=options["tie_below"])
    for i, (scene, label) in enumerate(zip(scenes, drawn, strict=True)):
        yield Pair(
            prompt=scene.caption,
            images=(Image.fromarray(pictures[0][i]), Image.fromarray(pictures[1][i])),
            label=label,
            split="heldout" if is_validation(scene) else "train",
        )


def read(options: Mapping[str, Any], *, base_path: Path) -> Iterator[Pair]:
    """Yield the pairs. The base is not used.

    Args:
        options: any of :data:`DEFAULTS`: ``pairs`` of which the last ``heldout`` are held out; ``seed``;
            ``temperature`` and ``tie_below`` of the labels; share of ``contradiction`` and probability of each
            ``degradation`` in the pictures.
        base_path: not used.
    """
    chosen = settings("miniature_renders", options, DEFAULTS)
    rng = np.random.default_rng([17, int(chosen["seed"])])
    scenes = split_scenes(chosen, rng)
    faults = {key: chosen[key] for key in ("contradiction", "degradation")}
    pictures = (to_uint8(faulty(scenes, rng, **faults)), to_uint8(faulty(scenes, rng, **faults)))
    yield from annotated(scenes, pictures, chosen, rng)
