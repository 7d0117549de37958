"""Bases: pretrained text-to-image models that training starts from.

A base family is one module with a function ``open_base(path, *, device) -> Base``. It may also have

- ``WEIGHTS``: the file of a trained model's weights in its folder, by default :data:`WEIGHTS`;
- ``train(specs)``: its own training of several variants at once, instead of one after another by
  :mod:`sdpo.trainer`. It writes the same files. Of :class:`Base` such a family needs only what the pair cache uses.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from artifacts.plugins import Registry

if TYPE_CHECKING:
    import torch
    from PIL.Image import Image

    from sdpo.noising import Parametrisation

REGISTRY = Registry(kind="base family", package="sdpo.bases", group="sdpo.bases")

WEIGHTS = "unet/diffusion_pytorch_model.safetensors"


class Base(Protocol):
    """What the pair cache and the trainer need of a base."""

    @property
    def parametrisation(self) -> Parametrisation:
        """What the denoiser predicts."""
        ...

    def draw_timesteps(self, count: int, generator: torch.Generator) -> torch.Tensor:
        """Random timesteps (count,), as this base is trained with."""
        ...

    def spread_timesteps(self, count: int) -> torch.Tensor:
        """Timesteps (count,) spread evenly over the schedule, ascending."""
        ...

    def coefficients(self, timesteps: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """α and σ of ``x_t = α x0 + σ ε``, each (B,)."""
        ...

    def encode_images(self, images: Sequence[Image]) -> torch.Tensor:
        """Scaled latents (N, C, H, W), float32."""
        ...

    def encode_prompts(self, prompts: Sequence[str]) -> torch.Tensor:
        """Text embeddings (N, T, D), float32."""
        ...

    def load_denoiser(self) -> torch.nn.Module:
        """A fresh copy of the base's denoiser in float32."""
        ...

    def predict(
        self, denoiser: torch.nn.Module, noisy: torch.Tensor, timesteps: torch.Tensor, embeddings: torch.Tensor
    ) -> torch.Tensor:
        """Prediction (B, C, H, W) of a denoiser of this family."""
        ...

    def save_denoiser(self, denoiser: torch.nn.Module, folder: Path) -> None:
        """Write the denoiser into ``folder`` in diffusers' own layout, as safetensors."""
        ...


def names() -> list[str]:
    """Known base families."""
    return REGISTRY.names()


def open_base(family: str, path: str | Path, *, device: str = "cpu") -> Base:
    """Open a base.

    Raises:
        InputError: unknown family, or the folder is not a base of that family.
    """
    base: Base = REGISTRY.load(family).open_base(Path(path), device=device)
    return base


def weights_file(family: str) -> str:
    """File of a trained model's weights, relative to the model's folder.

    Raises:
        InputError: unknown family.
    """
    name: str = getattr(REGISTRY.load(family), "WEIGHTS", WEIGHTS)
    return name


def train_together(specs: Sequence[Mapping[str, Any]]) -> None:
    """Train variants of one base: at once if its family can, else one after another.

    Args:
        specs: one a variant, as for :func:`sdpo.trainer.train`.

    Raises:
        InputError: unknown family, bad settings, or damaged input files.
    """
    own = getattr(REGISTRY.load(specs[0]["base"]["family"]), "train", None)
    if own is not None:
        own(specs)
        return
    from sdpo.trainer import train

    for spec in specs:
        train(spec)
