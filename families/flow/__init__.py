"""Bases of rectified flow on transformers, one file a family.

Known by the class of the transformer, which a folder's ``transformer/config.json`` names; Ovis-U1 by its checkpoint's
``config.json``.
"""

from __future__ import annotations

import importlib
import inspect
from pathlib import Path
from typing import Any

from artifacts.errors import InputError
from artifacts.json_files import read_object
from families.flow.model import DENOISER, FlowModel
from families.ovis_u1.checkpoint import MODEL_TYPE, is_checkpoint

FAMILIES = {
    "SD3Transformer2DModel": "sd3",
    "FluxTransformer2DModel": "flux",
    "OvisImageTransformer2DModel": "ovis_image",
}
"""Family by class of the transformer; each has a module here with the class ``Model``."""
NAMES = (*FAMILIES.values(), MODEL_TYPE)
"""All families."""


def is_flow(path: Path) -> bool:
    """Whether a base's denoiser is a transformer."""
    return (path / DENOISER).is_dir() or is_checkpoint(path)


def open_flow(path: Path, family: str | None = None, **options: Any) -> FlowModel:
    """Open a base.

    Args:
        path: its folder.
        family: that it has to be of, if any.
        options: of the family's ``Model``.

    Raises:
        InputError: the folder is no base, or one of another family, or the family has no such option.
    """
    found = _family(path, family)
    if family not in (None, found):
        raise InputError(
            f"{path}: its transformer is of family '{found}', not of the one that was named; set base.family to {found}"
        )
    kind: Any = importlib.import_module(f"families.flow.{found}").Model
    if unknown := [name for name in options if name not in inspect.signature(kind).parameters]:
        raise InputError(f"base.{unknown[0]}: {path}, of family '{found}', has no such choice; leave it out")
    model: FlowModel = kind(path, **options)
    return model


def _family(path: Path, named: str | None) -> str:
    """Family of a folder; one that is none is read as that which was named, whose message fits better."""
    if is_checkpoint(path) or (named == MODEL_TYPE and not (path / DENOISER).is_dir()):
        return MODEL_TYPE
    file = path / DENOISER / "config.json"
    config = read_object(file, missing="a base must be a folder in diffusers' layout", damaged="fetch the base again")
    name = str(config.get("_class_name"))
    if name not in FAMILIES:
        raise InputError(f"{file}: the denoiser is a {name}, expected one of {', '.join(FAMILIES)}")
    return FAMILIES[name]
