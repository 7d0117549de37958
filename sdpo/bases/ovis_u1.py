"""Ovis-U1, in the folder of its original checkpoint."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from families.flow import open_flow
from sdpo.diffusion.flow_base import WEIGHTS, FlowBase

__all__ = ["PASSES_VARY", "WEIGHTS", "open_base"]
PASSES_VARY = True


def open_base(
    path: Path,
    *,
    device: str = "cpu",
    vae: Path | None = None,
    encoder_dtype: str = "float32",
    language: Mapping[str, Any] | None = None,
    embedded_guidance: float | None = None,
) -> FlowBase:
    """Open a base folder of this family."""
    options = {"device": device, "vae": vae, "text_dtype": encoder_dtype, "vae_dtype": encoder_dtype}
    return FlowBase(open_flow(path, "ovis_u1", language=language, **options), embedded_guidance)
