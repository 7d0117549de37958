"""Pair source ``miniature_renders``: off-policy pairs, two corrupted renders of each prompt.

Like Pick-a-Pic for Stable Diffusion 1.5: the winners are mostly better than what the base draws.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from pydantic import Field, model_validator

from artifacts.block import Block
from sdpo.pairs.reading.options import parse
from worlds.miniature import oracle
from worlds.miniature.rendering import faulty, to_uint8
from worlds.miniature.scenes import Scene, is_validation, shown_scenes

if TYPE_CHECKING:
    from sdpo.pairs import Pair


class PairOptions(Block):
    """What both pair sets of the miniature have in common."""

    pairs: int = Field(default=2400, ge=1, description="Number of pairs, held-out ones and ties included.")
    heldout: int = Field(
        default=256, ge=0, description="How many of them are held out; their captions are of the validation split."
    )
    seed: int = Field(default=0, ge=0, description="Of scenes, faults, start noise and labels.")
    temperature: float = Field(default=0.05, gt=0, description="T of Bradley-Terry, in units of the oracle's score.")
    tie_below: float = Field(default=0.03, ge=0, description="Differences of the oracle's score below this are ties.")

    @model_validator(mode="after")
    def _enough(self) -> PairOptions:
        if self.heldout >= self.pairs:
            raise ValueError(f"heldout is {self.heldout}; expected less than pairs, {self.pairs}")
        return self


class Options(PairOptions):
    """Options of the corrupted renders."""

    contradiction: float = Field(
        default=0.4, ge=0, le=1, description="Share of pictures with one attribute that is not as the caption says."
    )
    degradation: float = Field(default=0.35, ge=0, le=1, description="Probability of each of the four degradations.")


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
    options: PairOptions,
    rng: np.random.Generator,
) -> Iterator[Pair]:
    """Pairs of pictures (N, 32, 32, 3) with labels from the oracle's scores, in the splits of their scenes."""
    from PIL import Image

    from sdpo.pairs import Pair

    scores = [[j.score for j in oracle.judge(p, scenes)] for p in pictures]
    drawn = labels(scores[0], scores[1], rng, temperature=options.temperature, tie_below=options.tie_below)
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
        options: of :class:`Options`.
        base_path: not used.

    Raises:
        InputError: wrong options.
    """
    chosen = parse("miniature_renders", Options, options)
    rng = np.random.default_rng([17, chosen.seed])
    scenes = shown_scenes(chosen.pairs - chosen.heldout, chosen.heldout, rng)
    faults = {"contradiction": chosen.contradiction, "degradation": chosen.degradation}
    pictures = (to_uint8(faulty(scenes, rng, **faults)), to_uint8(faulty(scenes, rng, **faults)))
    yield from annotated(scenes, pictures, chosen, rng)
