"""What stands around the weights of a denoiser from elsewhere and says what they are, which they do not say themselves.

Its folder has its configuration, and the pipeline around that a scheduler, an autoencoder and text encoders; a file
may have metadata.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from artifacts.errors import InputError
from artifacts.weight_files import metadata
from evals.networks.weights import read_json
from families.autoencoder import Autoencoder
from families.diffusers_folder import DENOISERS, DiffusersFolder
from families.part_digest import same_weights
from families.parts import signal_shares

if TYPE_CHECKING:
    from evals.generation.pipelines import Pipeline

CONFIG = "config.json"
"""Of a denoiser's folder."""
SCHEDULER, AUTOENCODER = "scheduler/scheduler_config.json", "vae/config.json"
AROUND = (SCHEDULER, AUTOENCODER)
"""Of the pipeline around it."""
PREDICTION = "modelspec.prediction_type"
"""Key of a file's metadata, as kohya's tools write it."""
REMEDY = "give the base that it was trained from"


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
    """What a denoiser predicts, of which noise, latents and texts: the pipeline around it says so.

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
    for part in pipeline.text_parts:
        beside, base = folder.parent / part, pipeline.path / part
        if part.startswith("text_encoder") and beside.is_dir() and same_weights(beside, base) is False:
            raise InputError(
                f"{beside}: its weights are not those of {base}, by which the model would be told its prompts; give "
                f"the pipeline as a base of its own (other_bases), or copy {folder.name} out of it"
            )
    scheduler = folder.parent / SCHEDULER
    if not scheduler.is_file():
        return
    flow = str(read_json(scheduler).get("_class_name")).startswith("FlowMatch")
    own = "flow" if flow else DiffusersFolder(folder.parent, ()).prediction_type
    if own != (expected := pipeline.prediction_type):
        raise InputError(f"{scheduler}: prediction_type is {own}, the base {pipeline.path} has {expected}; {REMEDY}")
    if flow:
        return
    shares, ours = (signal_shares(file.parent) for file in (scheduler, pipeline.path / SCHEDULER))
    if len(shares) != len(ours) or not torch.allclose(shares, ours, 1e-3, 1e-6):
        raise InputError(
            f"{scheduler}: its noise schedule is not that of the base {pipeline.path}, by which it would "
            f"be drawn; {REMEDY}"
        )


def check_metadata(file: Path, pipeline: Pipeline) -> None:
    """What a file says of itself that it predicts, which a LoRA's or a denoiser's tensors do not show.

    Args:
        file: of weights.
        pipeline: of the base that they are drawn with.

    Raises:
        InputError: v, and the base predicts ε.
    """
    said = metadata(file).get(PREDICTION)
    # The other way round it means little: tools say epsilon of whatever they are not told.
    if said in ("v", "v_prediction") and pipeline.prediction_type == "epsilon":
        raise InputError(
            f"{file}: {PREDICTION} is {said} in its metadata, the base {pipeline.path} has epsilon; {REMEDY}"
        )


def check_adapters(path: Path) -> None:
    """A LoRA of PEFT has a folder for each part that it changes.

    Args:
        path: file of a LoRA.

    Raises:
        InputError: beside the denoiser's lies one of a text encoder.
    """
    if path.parent.name in DENOISERS and (others := sorted(path.parent.parent.glob(f"text_encoder*/{path.name}"))):
        raise InputError(
            f"{others[0]}: the LoRA changes text encoders too; only the denoiser of a model is exchanged here"
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
