"""The base family of the toy surface: velocity fields pretrained on the whole surface, one a pretraining seed.

A base folder holds ``config.json`` (``layer_sizes``), ``models.safetensors`` (``parameters``: (K, P), one pretrained
model a row) and ``provenance.json``. Training seed k starts from model k mod K, so that intervals over seeds are about
pretraining too; the published table does not say how many bases it stands on.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from artifacts.errors import InputError
from sdpo.diffusion.noising import Parametrisation

if TYPE_CHECKING:
    import torch
    from PIL.Image import Image

    from families.conditions import Conditions
    from sdpo.diffusion.latents import Latents

WEIGHTS = "model.safetensors"
"""File of a trained model in its folder; tensor ``parameters``, (P,)."""


class SurfaceBase:
    """A base folder, opened.

    Attributes:
        sizes: widths of the network's layers.
        parameters: (K, P), one pretrained model a row.
    """

    parametrisation: Parametrisation = "flow"

    def __init__(self, path: Path) -> None:
        from safetensors import SafetensorError
        from safetensors.torch import load_file

        from worlds.toy_surface.mlp_stack import parameter_count

        remedy = "restore it with `git checkout -- resources/toy_surface` or run `toy-surface base`"
        try:
            sizes = json.loads((path / "config.json").read_text(encoding="utf-8"))["layer_sizes"]
            tensor = load_file(path / "models.safetensors")["parameters"]
        except (OSError, ValueError, KeyError, SafetensorError) as error:
            raise InputError(f"{path}: not a base of family 'toy_surface' ({error}); {remedy}") from error
        if tensor.ndim != 2 or tensor.shape[1] != parameter_count(sizes):
            raise InputError(f"{path}: parameters of shape {tuple(tensor.shape)} do not fit layers {sizes}; {remedy}")
        self.sizes: tuple[int, ...] = tuple(sizes)
        self.parameters: torch.Tensor = tensor

    def pretrained(self, seed: int) -> torch.Tensor:
        """Parameters (P,) that training seed ``seed`` starts from."""
        return self.parameters[seed % len(self.parameters)]

    def encode_images(self, images: Sequence[Image]) -> Latents:
        """Coordinates of clouds of equal size, (N, 3, points, 1)."""
        import numpy as np
        import torch

        from sdpo.diffusion.latents import Latents
        from worlds.toy_surface.clouds import coordinates

        clouds = np.stack([coordinates(image) for image in images])
        return Latents(torch.from_numpy(clouds).float().transpose(1, 2).unsqueeze(-1).contiguous())

    def encode_prompts(self, prompts: Sequence[str]) -> Conditions:
        """Zeros (N, 1, 1): the model takes no prompt."""
        import torch

        return {"text": torch.zeros(len(prompts), 1, 1)}
