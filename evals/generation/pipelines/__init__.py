"""The parts of a base that turn a prompt into an image, one class a kind of base."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from artifacts.errors import InputError
from evals.generation.pipelines.interface import Pipeline
from families.flow import is_flow

__all__ = ["Pipeline", "open_pipeline"]


def open_pipeline(
    path: str | Path, *, without: Sequence[str] = (), language: Mapping[str, Any] | None = None, **options: Any
) -> Pipeline:
    """Open a base by what its folder holds.

    Args:
        path: folder of the base.
        without: text encoders that are left out, where the base can do without.
        language: what runs the language part of a base that brings its own code.
        options: of :class:`~evals.generation.pipelines.interface.Pipeline`.

    Raises:
        InputError: the folder is no base that can be run.
    """
    if is_flow(Path(path)):
        from evals.generation.pipelines.flow import Flow

        return Flow(path, without=without, language=language, **options)
    if without:
        raise InputError(f"base.without: {path} cannot do without {without[0]}; leave it out")
    if language:
        raise InputError(f"base.language: {path} brings no code of its own; leave it out")
    from evals.generation.pipelines.stable_diffusion import StableDiffusion

    return StableDiffusion(path, **options)
