"""The autoencoder within Ovis-U1's checkpoint."""

from __future__ import annotations

from functools import cached_property
from typing import Any

from artifacts.errors import InputError
from families.autoencoder import Autoencoder
from families.ovis_u1.checkpoint import VAE, Checkpoint

KIND = "AutoencoderKL"


class OriginalAutoencoder(Autoencoder):
    """As :class:`Autoencoder`, read from the original checkpoint.

    Raises:
        InputError: it is of another class.
    """

    def __init__(self, checkpoint: Checkpoint, *, dtype: str = "float32", device: Any = "cpu") -> None:
        super().__init__(checkpoint.folder, dtype=dtype, device=device)
        self.checkpoint = checkpoint
        if (found := self.config["_class_name"]) != KIND:
            raise InputError(f"{checkpoint.file}: vae_config names a {found}, expected an {KIND}")

    @cached_property
    def config(self) -> dict[str, Any]:
        """``vae_config`` of the generator."""
        return {"_class_name": KIND, **self.checkpoint.generator["vae_config"]}

    @cached_property
    def module(self) -> Any:
        """The module itself.

        Raises:
            InputError: the checkpoint holds other weights.
        """
        import torch
        from diffusers import AutoencoderKL

        module: Any = AutoencoderKL.from_config(self.config)
        self.checkpoint.load(VAE, module, getattr(torch, self.dtype))
        return module.to(self.device).eval().requires_grad_(False)
