"""HPS v2.1: HPSv2's network retrained on more data; its scores are not comparable with those of v2.0.

A scorer of its own, so that a table can have both. Protocols ``author`` and ``package`` as in
:mod:`evals.scorers.hpsv2`; the paper's evaluation does not use v2.1, so there is no ``sdpo``. A file that was
fetched as v2.0, or whose name says so, is refused.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from artifacts.errors import InputError
from evals.networks.interface import Scorer
from evals.scorers import hpsv2

PROTOCOLS = ("author", "package")
IMPLEMENTATIONS = hpsv2.IMPLEMENTATIONS
DEFAULTS = hpsv2.DEFAULTS
NEEDS_WEIGHTS = True
VERSION = hpsv2.VERSION
WEIGHTS = (
    "HPS_v2.1_compressed.pt, or a folder with open_clip_config.json and HPS_v2.1*.pt or open_clip_model.safetensors"
)
PATTERNS = ("HPS_v2.1*.pt", *hpsv2.PATTERNS[1:])
PUBLISHED_V20 = "HPS_v2_compressed.pt"


def create(
    *,
    protocol: str,
    weights: str | Path,
    device: str,
    dtype: str,
    batch_size: int,
    implementation: str = "native",
    options: Mapping[str, Any] = DEFAULTS,
) -> Scorer:
    """Load HPS v2.1 from :data:`WEIGHTS`; arguments as in :func:`evals.scorers.hpsv2.create`.

    Raises:
        InputError: as :func:`evals.scorers.hpsv2.create`, or the weights are named as v2.0 is published.
    """
    path = Path(weights)
    if path.name == PUBLISHED_V20 or (path / PUBLISHED_V20).exists():
        raise InputError(f"{path}: {PUBLISHED_V20} is HPS v2.0; give {WEIGHTS}, or run scorer 'hpsv2'")
    return hpsv2.load(
        "hpsv21", WEIGHTS, PATTERNS, protocol, weights, device, dtype, batch_size, implementation, options
    )
