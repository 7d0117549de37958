"""Human Preference Score v2 (Wu et al. 2023, arXiv:2306.09341): open_clip ViT-H-14 fine-tuned on HPD v2.

Protocol ``sdpo``: version 2.0, stock open_clip preprocessing, raw cosine in float32; range -1 to 1, about 0.27 on
generated images. The ``hpsv2`` package differs: resize of the longest side with padding, half precision, version 2.1
and a factor 100 in its benchmark.
"""

from __future__ import annotations

from pathlib import Path

from artifacts.errors import InputError
from evals.scorers import open_clip_model
from evals.scorers.interface import Scorer

PROTOCOLS = ("sdpo",)
NEEDS_WEIGHTS = True
VERSION = 1
WEIGHTS = "HPS_v2_compressed.pt, or a folder with open_clip_config.json and HPS_v2*.pt or open_clip_model.safetensors"


def create(*, protocol: str, weights: str | Path, device: str, dtype: str, batch_size: int) -> Scorer:
    """Load HPSv2 from :data:`WEIGHTS`; arguments as in :func:`evals.scorers.create`.

    Raises:
        InputError: the weights are missing, of another architecture, or named HPS v2.1, which the protocol is not.
    """
    path = Path(weights)
    found = sorted(path.glob("HPS_v2.1*")) if path.is_dir() else [path] * path.name.startswith("HPS_v2.1")
    if protocol == "sdpo" and found:
        raise InputError(f"{found[0]}: protocol 'sdpo' is HPS v2.0; give HPS_v2_compressed.pt")
    return open_clip_model.create(
        scorer="hpsv2",
        version=VERSION,
        expected=WEIGHTS,
        patterns=("HPS_v2*.pt", open_clip_model.WEIGHT_FILE, "open_clip_pytorch_model.bin"),
        protocol=protocol,
        weights=weights,
        device=device,
        dtype=dtype,
        batch_size=batch_size,
    )
