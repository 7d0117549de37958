"""The parts of a base that turn a prompt into an image, one class a kind of base."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from evals.generation.pipelines.interface import Pipeline

__all__ = ["Pipeline", "open_pipeline"]


def open_pipeline(path: str | Path, **options: Any) -> Pipeline:
    """Open a base by what its folder holds.

    Args:
        path: folder of the base.
        options: of :class:`~evals.generation.pipelines.interface.Pipeline`.

    Raises:
        InputError: the folder is no base that can be run.
    """
    from evals.generation.pipelines.stable_diffusion import StableDiffusion

    return StableDiffusion(path, **options)
