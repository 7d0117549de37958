"""Blank images: black frames of safety checkers and of half precision gone wrong, white or otherwise empty images.

1 if every channel of the RGB image varies by at most :data:`TOLERANCE` of 255, else 0; the mean is the share of blank
images. Other scorers rate such an image like any other, and a mean hides it. The prompt is ignored.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from evals.networks.interface import Fingerprint, ImageScorer, Scorer
from evals.networks.preprocessing import rgb

if TYPE_CHECKING:
    from PIL.Image import Image

PROTOCOLS = ("sdpo",)
NEEDS_WEIGHTS = False
VERSION = 1
LOWER_IS_BETTER = True
JUDGES = False
# An autoencoder's decoding of nothing, or a JPEG of it, is flat but for rounding.
TOLERANCE = 2


def is_blank(image: Image) -> bool:
    """Whether no channel varies by more than :data:`TOLERANCE`."""
    extrema = rgb(image).getextrema()
    return all(high - low <= TOLERANCE for low, high in extrema)  # type: ignore[misc]


def create(*, protocol: str, weights: str | Path | None, device: str, dtype: str, batch_size: int) -> Scorer:
    """The scorer; arguments as in :func:`evals.scorers.create`, none of which concerns it."""
    digest = Fingerprint({"scorer": "blank", "version": VERSION, "tolerance": TOLERANCE})
    return ImageScorer(digest, lambda image: float(is_blank(image)))
