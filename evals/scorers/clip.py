"""CLIP score (Hessel et al. 2021, arXiv:2104.08718), as the paper's evaluation code computes it.

Protocol ``sdpo``: open_clip ViT-H-14 trained on LAION-2B, raw cosine in float32, no factor, no clamp, no prompt prefix;
range -1 to 1, about 0.3 on generated images.
"""

from __future__ import annotations

from pathlib import Path

from evals.scorers import open_clip_model
from evals.scorers.interface import Scorer

PROTOCOLS = ("sdpo",)
NEEDS_WEIGHTS = True
VERSION = 1
WEIGHTS = (
    "a folder with open_clip_config.json and open_clip_model.safetensors (or open_clip_pytorch_model.bin), "
    "or a weight file of ViT-H-14"
)


def create(*, protocol: str, weights: str | Path, device: str, dtype: str, batch_size: int) -> Scorer:
    """Load the CLIP score from :data:`WEIGHTS`; arguments as in :func:`evals.scorers.create`.

    Raises:
        InputError: the weights are missing or not those of their configuration.
    """
    return open_clip_model.create(
        scorer="clip",
        version=VERSION,
        expected=WEIGHTS,
        patterns=(open_clip_model.WEIGHT_FILE, "open_clip_pytorch_model.bin"),
        protocol=protocol,
        weights=weights,
        device=device,
        dtype=dtype,
        batch_size=batch_size,
    )
