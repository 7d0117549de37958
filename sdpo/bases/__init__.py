"""Bases: pretrained text-to-image models that training starts from.

A base family is one module with a function ``open_base(path, *, device) -> Base``. It may also have

- ``WEIGHTS``: the file of a trained model's weights in its folder, by default :data:`WEIGHTS`;
- a method ``encoder_digests()`` of its bases: a digest of each part that encodes images and prompts, by which a pair
  cache knows what made it (:func:`families.part_digest.part_digest`); without it only the widths are compared;
- ``FLOW = False``: its bases are no rectified flows, so that a config which asks for what only those have (a shifted
  schedule, the time of a pair) is refused before a base is opened;
- ``PASSES_VARY = True``: the number of passes through the denoiser that a prediction takes depends on its prompts, so
  that processes which have other prompts cannot share the weights (:mod:`sdpo.training.sharding`);
- ``train(specs)``: its own training of several variants at once, instead of one after another by
  :mod:`sdpo.training`. It writes the same files. Of :class:`Base` such a family needs only what the pair cache uses.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from artifacts.errors import InputError
from artifacts.hub import content_digest, local_folder
from artifacts.plugins import Call, Registry

if TYPE_CHECKING:
    import torch
    from PIL.Image import Image

    from families.conditions import Conditions
    from sdpo.diffusion.latents import Latents
    from sdpo.diffusion.noising import Parametrisation

REGISTRY = Registry(
    kind="base family",
    package="sdpo.bases",
    shared=("sdpo.diffusion", "families"),
    group="sdpo.bases",
    optional={"WEIGHTS": str, "FLOW": bool, "PASSES_VARY": bool},
    calls={"open_base": Call(("path",), ("device",))},
    optional_calls={"train": Call(("specs",))},
)

WEIGHTS = "unet/diffusion_pytorch_model.safetensors"
_KEYS = {
    "vae": "base.vae",
    "encoder_dtype": "encoding.encoder_dtype",
    "without": "base.without",
    "language": "base.language",
    "embedded_guidance": "training.embedded_guidance",
}
"""Key of the config that an option of a family comes from."""


class Base(Protocol):
    """What the pair cache and the trainer need of a base."""

    @property
    def parametrisation(self) -> Parametrisation:
        """What the denoiser predicts."""
        ...

    @property
    def denoiser_folder(self) -> str:
        """Folder of the denoiser in a base or model, in diffusers' layout: ``unet`` or ``transformer``."""
        ...

    @property
    def condition_widths(self) -> Mapping[str, int]:
        """Names of the conditions of a prompt, and the last dimension of each, that the denoiser takes."""
        ...

    def draw_timesteps(self, count: int, generator: torch.Generator) -> torch.Tensor:
        """Random timesteps (count,), as this base is trained with."""
        ...

    def timesteps_at(self, shares: torch.Tensor) -> torch.Tensor:
        """Timesteps (N,) at shares of the schedule (N,) in [0, 1), 0 is data."""
        ...

    def spread_timesteps(self, count: int) -> torch.Tensor:
        """Timesteps (count,) spread evenly over the schedule, ascending."""
        ...

    def coefficients(self, timesteps: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """α and σ of ``x_t = α x0 + σ ε``, each (B,)."""
        ...

    def encode_images(self, images: Sequence[Image]) -> Latents:
        """Scaled latents of N images of one size, float32; any batching is the base's own."""
        ...

    def encode_prompts(self, prompts: Sequence[str]) -> Conditions:
        """Conditions of N prompts, such as ``text`` (N, T, D), float32."""
        ...

    def image_conditions(self, sizes: torch.Tensor) -> Conditions:
        """Conditions of N images; may be none.

        Args:
            sizes: (N, 6) pixels: original height and width, crop's top and left, target height and width.
        """
        ...

    def load_denoiser(self, device: str | None = None) -> torch.nn.Module:
        """A fresh copy of the base's denoiser in float32, on a device; on the base's own by default."""
        ...

    def predict(
        self, denoiser: torch.nn.Module, noisy: torch.Tensor, timesteps: torch.Tensor, conditions: Conditions
    ) -> torch.Tensor:
        """Prediction (B, C, H, W) of a denoiser of this family.

        Args:
            conditions: those of the prompts and those of the images.
        """
        ...

    def save_denoiser(self, denoiser: torch.nn.Module, folder: Path) -> None:
        """Write the denoiser into ``folder`` in diffusers' own layout, as safetensors."""
        ...


def names() -> list[str]:
    """Known base families."""
    return REGISTRY.names()


def open_base(family: str, path: str | Path, *, device: str = "cpu", **options: Any) -> Base:
    """Open a base.

    Args:
        family: its name.
        path: its folder.
        device: where tensors and modules live.
        options: ``vae``, folder of another autoencoder; ``encoder_dtype``; ``without``, text encoders that are left
            out; ``language``, what runs the language part of a base that brings its own code; ``embedded_guidance``,
            what the denoiser is told in training.

    Raises:
        InputError: unknown family, the folder is not a base of that family, or the family has no such option.
    """
    opener = REGISTRY.load(family).open_base
    known = inspect.signature(opener).parameters
    for option in options:
        if option not in known:
            key = _KEYS.get(option, option)
            raise InputError(f"base family '{family}' has no choice of {option}; leave {key} out")
    base: Base = opener(Path(path), device=device, **options)
    return base


def open_described(
    base: Mapping[str, Any],
    *,
    device: str = "cpu",
    encoder_dtype: str = "float32",
    embedded_guidance: float | None = None,
) -> Base:
    """Open the base of a job description.

    Args:
        base: ``family``, ``path`` and, if it has them, ``vae``, ``without`` and ``language``: each path a folder or
            a hub id ``owner/name@revision``.
        device: where tensors and modules live.
        encoder_dtype: dtype in which autoencoder and text encoders compute.
        embedded_guidance: what a denoiser that is told the guidance is told in training.

    Raises:
        InputError: as :func:`open_base`, or the base cannot be fetched.
    """
    options: dict[str, Any] = {} if encoder_dtype == "float32" else {"encoder_dtype": encoder_dtype}
    if base.get("vae"):
        options["vae"] = local_folder(base["vae"])
    options |= {key: base[key] for key in ("without", "language") if base.get(key)}
    if embedded_guidance is not None:
        options["embedded_guidance"] = embedded_guidance
    return open_base(base["family"], local_folder(base["path"]), device=device, **options)


def digests(base: Mapping[str, Any]) -> dict[str, str]:
    """Digest of each folder or hub id that a job description's base names."""
    return {path: content_digest(path) for path in (base["path"], base.get("vae")) if path}


def weights_file(family: str) -> str:
    """File of a trained model's weights, relative to the model's folder.

    Raises:
        InputError: unknown family.
    """
    name: str = getattr(REGISTRY.load(family), "WEIGHTS", WEIGHTS)
    return name
