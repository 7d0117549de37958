"""Bases of rectified flow on transformers of diffusers, one file a family.

Known by the class of the transformer, which a folder's ``transformer/config.json`` names.
"""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

from artifacts.errors import InputError
from artifacts.json_files import read_object
from families.flow.model import DENOISER, FlowModel

FAMILIES = {
    "SD3Transformer2DModel": "sd3",
    "FluxTransformer2DModel": "flux",
    "OvisImageTransformer2DModel": "ovis_image",
}
"""Family by class of the transformer; each has a module here with the class ``Model``."""


def is_flow(path: Path) -> bool:
    """Whether a base's denoiser is a transformer."""
    return (path / DENOISER).is_dir()


def open_flow(path: Path, family: str | None = None, **options: Any) -> FlowModel:
    """Open a base.

    Args:
        path: its folder.
        family: that it has to be of, if any.
        options: of :class:`~families.flow.model.FlowModel`.

    Raises:
        InputError: the folder is no base, or one of another family.
    """
    file = path / DENOISER / "config.json"
    config = read_object(file, missing="a base must be a folder in diffusers' layout", damaged="fetch the base again")
    name = str(config.get("_class_name"))
    found = FAMILIES.get(name)
    if found is None:
        raise InputError(f"{file}: the denoiser is a {name}, expected one of {', '.join(FAMILIES)}")
    if family not in (None, found):
        raise InputError(
            f"{path}: its transformer is of family '{found}', not of the one that was named; set base.family to {found}"
        )
    model: FlowModel = importlib.import_module(f"families.flow.{found}").Model(path, **options)
    return model
