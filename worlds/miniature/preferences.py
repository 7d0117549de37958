"""What the miniature's preference scorers are trained on: labelled pairs of pictures.

Prompts with samples of models are few, because a sample is dear. Scorers that see these alone learn them by heart (an
HPSv2 ranked 0.87 of its own pairs as the oracle does, and 0.75 of those held out). Renders cost next to nothing, so
many more pairs of them come in addition, each with a caption of its own.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from worlds.miniature import oracle
from worlds.miniature.pairs_renders import labels
from worlds.miniature.rendering import faulty, to_uint8
from worlds.miniature.scenes import training_scene
from worlds.miniature.scorer_data import FAULTS, TEMPERATURE, TIE_BELOW, ScorerData


@dataclass(frozen=True)
class Preferences:
    """M pairs of N pictures with C captions.

    Attributes:
        captions: C captions.
        pictures: (N, 32, 32, 3) bytes.
        pairs: (M, 3) of caption, first and second picture.
        labels: (M,), 1 if the first picture won, 0 if the second did, 0.5 for a tie.
    """

    captions: list[str]
    pictures: NDArray[np.uint8]
    pairs: NDArray[np.int64]
    labels: NDArray[np.float64]

    def without_ties(self) -> Preferences:
        """The same, with the pairs that have a winner."""
        decided = self.labels != 0.5
        return Preferences(self.captions, self.pictures, self.pairs[decided], self.labels[decided])


def training_preferences(data: ScorerData, *, renders: int, seed: int) -> Preferences:
    """The pairs of ``data`` that are not held out, and ``renders`` pairs of new renders of the training split.

    Args:
        data: prompts with several pictures each.
        renders: number of pairs to add, each of two faulty renders of a new scene.
        seed: of their scenes, faults and labels.
    """
    rng = np.random.default_rng([37, seed])
    scenes = [training_scene(rng) for _ in range(renders)]
    sides = [to_uint8(faulty(scenes, rng, **FAULTS)) for _ in range(2)]
    one, two = (np.array([verdict.score for verdict in oracle.judge(side, scenes)]) for side in sides)
    drawn = labels(one, two, rng, temperature=TEMPERATURE, tie_below=TIE_BELOW)

    prompts, pictures_each = data.first_heldout, data.pictures.shape[1]
    pictures = data.pictures[:prompts].reshape(-1, *data.pictures.shape[2:])
    pairs, own = data.training_pairs()
    place, first = np.arange(renders), len(pictures)
    return Preferences(
        captions=[*data.captions[:prompts], *(scene.caption for scene in scenes)],
        pictures=np.concatenate([pictures, *sides]),
        pairs=np.concatenate(
            [
                np.stack([pairs[:, 0], *(pairs[:, 0] * pictures_each + pairs[:, side] for side in (1, 2))], axis=1),
                np.stack([prompts + place, first + place, first + renders + place], axis=1),
            ]
        ),
        labels=np.concatenate([own, drawn]),
    )
