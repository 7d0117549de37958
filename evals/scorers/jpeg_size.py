"""JPEG size: how much an image says, as DDPO's (in)compressibility reward measures it (Black et al. 2023,
arXiv:2305.13301, section 5.1).

Kilobytes (1000 bytes) of the image at its own size as JPEG of quality 95, as Pillow's encoder writes it. A larger
number is more detail or more noise: no judgement of quality, but free of weights and quick to show a model that drifts
to flat or to noisy images. The prompt is ignored.
"""

from __future__ import annotations

import io
from pathlib import Path
from typing import TYPE_CHECKING

from evals.networks.interface import Fingerprint, ImageScorer, Scorer
from evals.networks.preprocessing import rgb

if TYPE_CHECKING:
    from PIL.Image import Image

PROTOCOLS = ("sdpo",)
NEEDS_WEIGHTS = False
VERSION = 1
JUDGES = False
QUALITY = 95


def kilobytes(image: Image) -> float:
    """Size of the image as JPEG."""
    buffer = io.BytesIO()
    rgb(image).save(buffer, format="JPEG", quality=QUALITY)
    return len(buffer.getvalue()) / 1000


def create(*, protocol: str, weights: str | Path | None, device: str, dtype: str, batch_size: int) -> Scorer:
    """The scorer; arguments as in :func:`evals.scorers.create`, none of which concerns it."""
    from PIL import features

    # Another encoder writes other sizes.
    encoder = features.version("libjpeg_turbo") or features.version("jpg")
    digest = Fingerprint({"scorer": "jpeg_size", "version": VERSION, "quality": QUALITY, "by": encoder})
    return ImageScorer(digest, kilobytes)
