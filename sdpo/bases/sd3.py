"""Stable Diffusion 3 and 3.5, in diffusers' layout."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from families.flow import open_flow
from sdpo.diffusion.flow_base import WEIGHTS, FlowBase

__all__ = ["WEIGHTS", "open_base"]


def open_base(
    path: Path,
    *,
    device: str = "cpu",
    vae: Path | None = None,
    encoder_dtype: str = "float32",
    without: Sequence[str] = (),
) -> FlowBase:
    """Open a base folder of this family; any of its three text encoders can be left out."""
    options = {"device": device, "vae": vae, "text_dtype": encoder_dtype, "vae_dtype": encoder_dtype}
    return FlowBase(open_flow(path, "sd3", without=without, **options))
