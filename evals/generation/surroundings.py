"""What stands around the weights of a denoiser from elsewhere and says what they are, which they do not say themselves.

Its folder has its configuration, and the pipeline around that a scheduler and an autoencoder.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from artifacts.errors import InputError
from evals.networks.weights import read_json
from families.autoencoder import Autoencoder
from families.diffusers_folder import DiffusersFolder
from families.parts import signal_shares

if TYPE_CHECKING:
    from evals.generation.pipelines import Pipeline

CONFIG = "config.json"
"""Of a denoiser's folder."""
SCHEDULER, AUTOENCODER = "scheduler/scheduler_config.json", "vae/config.json"
AROUND = (SCHEDULER, AUTOENCODER)
"""Of the pipeline around it."""


def folder_of(path: Path, pipeline: Pipeline) -> Path | None:
    """The denoiser's folder that a path is, or lies in: a copy that is named by its file is no other denoiser.

    Args:
        path: of weights.
        pipeline: of the base that they are drawn with.
    """
    if path.is_dir():
        return path
    config = path.with_name(CONFIG)
    named = read_json(config).get("_class_name") if config.is_file() else None
    return path.parent if named == pipeline.denoiser_class.__name__ else None


def check(folder: Path, pipeline: Pipeline) -> None:
    """What a denoiser predicts, of which noise and latents: the pipeline around it says so; its weights do not.

    Args:
        folder: of :func:`folder_of`.
        pipeline: of the base that they are drawn with.

    Raises:
        InputError: it says something else than the base.
    """
    import torch

    autoencoder = Autoencoder(folder.parent / "vae")
    if autoencoder.file.is_file():
        pipeline.autoencoder.check_same_latents(autoencoder)
    scheduler = folder.parent / SCHEDULER
    if not scheduler.is_file():
        return
    remedy = "give the base that it was trained from"
    flow = str(read_json(scheduler).get("_class_name")).startswith("FlowMatch")
    own = "flow" if flow else DiffusersFolder(folder.parent, ()).prediction_type
    base = pipeline.prediction_type
    if own != base:
        raise InputError(f"{scheduler}: prediction_type is {own}, the base {pipeline.path} has {base}; {remedy}")
    if flow:
        return
    shares, ours = (signal_shares(file.parent) for file in (scheduler, pipeline.path / SCHEDULER))
    if len(shares) != len(ours) or not torch.allclose(shares, ours, 1e-3, 1e-6):
        raise InputError(
            f"{scheduler}: its noise schedule is not that of the base {pipeline.path}, by which it would "
            f"be drawn; {remedy}"
        )


def own_config(folder: Path, pipeline: Pipeline) -> dict[str, Any]:
    """Configuration of a denoiser's folder, which may compute otherwise than the base with weights of the same shapes.

    Its size of images does not count: all models of a base are drawn at one.
    """
    config = read_json(folder / CONFIG)
    if (size := config.get("sample_size")) != (ours := pipeline.denoiser_config.get("sample_size")):
        print(
            f"note: {folder / CONFIG}: sample_size is {size}, the base's {ours}; drawn at the base's size",
            file=sys.stderr,
        )
    return config
