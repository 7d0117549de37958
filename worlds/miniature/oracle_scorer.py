"""Scorer ``oracle``: the miniature world's own judge. It knows the truth, so it needs no weights."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from artifacts.errors import InputError
from evals.networks.interface import Fingerprint
from worlds.miniature import oracle
from worlds.miniature.rendering import IMAGE_SIZE_PX
from worlds.miniature.scenes import parse

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from PIL.Image import Image

PROTOCOLS = ("world",)
NEEDS_WEIGHTS = False
VERSION = oracle.VERSION


class OracleScorer:
    """Judges pictures of the world by :func:`worlds.miniature.oracle.judge`."""

    fingerprint = Fingerprint({"scorer": "oracle", "version": VERSION, "protocol": "world"})

    def score(self, images: Sequence[Image], prompts: Sequence[str]) -> NDArray[np.float64]:
        """Scores (N,) in [0, 1].

        Raises:
            InputError: numbers differ, a picture is not 32 x 32, or a prompt is not of this world.
        """
        import numpy as np

        if len(images) != len(prompts):
            raise InputError(f"oracle: {len(images)} images but {len(prompts)} prompts; give one prompt an image")
        if not images:
            return np.zeros(0)
        size = (IMAGE_SIZE_PX, IMAGE_SIZE_PX)
        for image in images:
            if image.size != size:
                raise InputError(f"oracle: image is {image.size}, expected {size}; it judges only the miniature world")
        pictures = np.stack([np.asarray(image.convert("RGB")) for image in images])
        judgements = oracle.judge(pictures, [parse(prompt) for prompt in prompts])
        return np.array([judgement.score for judgement in judgements], dtype=np.float64)


def unjudgeable(prompts: Sequence[str]) -> list[tuple[int, str]]:
    """Place and reason of each prompt that is no caption of the world."""
    found = []
    for place, prompt in enumerate(prompts):
        try:
            parse(prompt)
        except InputError:
            found.append((place, "no caption of the miniature world, see docs/miniature.md"))
    return found


def create(**_: Any) -> OracleScorer:
    """The oracle; settings of other scorers (weights, device, dtype, …) do not concern it."""
    return OracleScorer()
