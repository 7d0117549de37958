"""The base family ``toy_surface``: how its bases are opened, and its own training of all variants at once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from artifacts.errors import InputError
from worlds.toy_surface.base import WEIGHTS as WEIGHTS
from worlds.toy_surface.base import SurfaceBase


def open_base(path: Path, *, device: str = "cpu") -> SurfaceBase:
    """Open a base folder.

    Raises:
        InputError: it is not one of this family, or ``device`` is not the CPU.
    """
    if device != "cpu":
        raise InputError(
            f"family 'toy_surface': device is '{device}', expected 'cpu'; its models are too small for more"
        )
    return SurfaceBase(path)


def train(specs: Sequence[Mapping[str, Any]]) -> None:
    """Train several variants with all their seeds at once; each spec is one of ``sdpo train``."""
    from worlds.toy_surface.training import train_together

    train_together(specs)
