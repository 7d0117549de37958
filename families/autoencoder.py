"""The autoencoder of a base: images to the latents that its denoiser sees, and back."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from artifacts.errors import InputError
from artifacts.json_files import read_object
from families.latent_scaling import LatentScaling
from families.parts import load_part

if TYPE_CHECKING:
    import torch
    from PIL.Image import Image

ENCODERS = ("AutoencoderKL", "AutoencoderTiny")
"""Classes that encode, with a posterior and without."""
ENCODED_IMAGES, ENCODED_PIXELS = 128, 8 * 512 * 512
"""Images, and pixels of images, that are encoded at once, at most."""
DECODED_PIXELS = 1 << 20
"""Pixels a pass of decoding: 4 images of 512 x 512, 1 of 1024 x 1024, about 4 GB in float32."""


class Autoencoder:
    """An autoencoder of diffusers, loaded when it is first used.

    Args:
        path: its folder.
        dtype: in which it computes. Half precision overflows in SDXL's own.
        device: where it lies.
    """

    def __init__(self, path: Path, *, dtype: str = "float32", device: Any = "cpu") -> None:
        self.path, self.dtype, self.device = path, dtype, device
        self.file = path / "config.json"

    @cached_property
    def config(self) -> dict[str, Any]:
        """Content of its ``config.json``.

        Raises:
            InputError: it is missing or damaged.
        """
        missing = "a base must be a folder in diffusers' layout"
        return read_object(self.file, missing=missing, damaged="fetch the base again")

    def or_another(self, vae: Path | None) -> Autoencoder:
        """The one to take in the place of a base's own.

        Args:
            vae: its folder, which may be that of a base, too; ``None`` if there is none.

        Raises:
            InputError: its latents are others than those of the base's own, where the base has one.
        """
        if vae is None:
            return self
        other = Autoencoder(vae / "vae" if (vae / "vae").is_dir() else vae, dtype=self.dtype, device=self.device)
        if self.file.is_file():
            self.check_same_latents(other)
        return other

    def check_same_latents(self, other: Autoencoder) -> None:
        """Refuse an autoencoder of other latents: a denoiser that was trained on the ones is lost on the others.

        Raises:
            InputError: configurations say that they are of other sizes or scales.
        """
        wrong = None
        if (side := other.pixels_a_latent) != self.pixels_a_latent:
            wrong = f"a latent is {side} pixels a side, expected {self.pixels_a_latent}"
        # Each class has a scale of its own for the same latents.
        elif other.config.get("_class_name") == self.config.get("_class_name"):
            wrong = other._scaling.difference(self._scaling)
        if wrong:
            raise InputError(f"{other.file}: {wrong} as in {self.file}: its latents are others; take parts of one base")

    @property
    def pixels_a_latent(self) -> int:
        """Pixels along a side for each of the latents'.

        Raises:
            InputError: the configuration says no levels.
        """
        # What diffusers takes for a missing key is one level.
        levels = self.config.get("block_out_channels", self.config.get("encoder_block_out_channels", [64]))
        if not isinstance(levels, list) or not levels:
            raise InputError(f"{self.file}: block_out_channels is {levels!r}, expected one number a level")
        return int(2 ** (len(levels) - 1))

    @property
    def channels(self) -> int:
        """Channels of the latents."""
        return int(self.config.get("latent_channels", 4))

    @cached_property
    def module(self) -> Any:
        """The module itself.

        Raises:
            InputError: the folder is no autoencoder of diffusers, or damaged.
        """
        import diffusers
        import torch

        kind = getattr(diffusers, str(self.config.get("_class_name")), None)
        if kind is None or not hasattr(kind, "decode"):
            raise InputError(f"{self.file}: names no autoencoder of diffusers; base.vae must be the folder of one")
        module = load_part(kind, self.path, torch_dtype=getattr(torch, self.dtype))
        return module.to(self.device).eval().requires_grad_(False)

    @cached_property
    def _scaling(self) -> LatentScaling:
        return LatentScaling.of(self.config, self.file)

    def encode(self, images: Sequence[Image]) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Scaled latents of N images of one size: mean and standard deviation of the posterior, where there is one.

        Returns:
            Each (N, C, H, W) float32, on the autoencoder's device.

        Raises:
            InputError: the autoencoder is of a class that only decodes.
        """
        import numpy as np
        import torch

        if (name := self.config.get("_class_name")) not in ENCODERS:
            raise InputError(f"{self.path}: autoencoder is a {name}, expected {' or '.join(ENCODERS)}")
        means, deviations = [], []
        batch = max(1, min(ENCODED_IMAGES, ENCODED_PIXELS // (images[0].width * images[0].height)))
        # Not in inference mode, whose tensors a training straight from images could not keep for its backward pass.
        with torch.no_grad():
            for start in range(0, len(images), batch):
                arrays = [np.asarray(image.convert("RGB")) for image in images[start : start + batch]]
                pixels = torch.from_numpy(np.stack(arrays)).permute(0, 3, 1, 2).float() / 127.5 - 1
                encoded = self.module.encode(pixels.to(self.device, self.module.dtype))
                if hasattr(encoded, "latent_dist"):
                    posterior = encoded.latent_dist
                    means.append(self._scaling.seen(posterior.mean.float()))
                    deviations.append(self._scaling.seen_deviation(posterior.std.float()))
                else:
                    means.append(self._scaling.seen(encoded.latents.float()))
        return torch.cat(means), torch.cat(deviations) if deviations else None

    def decode(self, latents: torch.Tensor, names: Sequence[str] = ()) -> list[Image]:
        """RGB images of scaled latents (N, C, H, W).

        Args:
            latents: what a denoiser made.
            names: of the N images, for messages.

        Raises:
            InputError: pixels are not finite.
        """
        import torch
        from PIL import Image

        module = self.module
        raw = self._scaling.raw(latents.float()).to(module.dtype)
        side = self.pixels_a_latent
        at_once = max(1, DECODED_PIXELS // (side * side * latents.shape[2] * latents.shape[3]))
        pictures: list[torch.Tensor] = []
        with torch.inference_mode():
            for piece in raw.split(at_once):
                pixels = module.decode(piece).sample.float()
                picture = ((pixels / 2 + 0.5).clamp(0, 1) * 255).round().to(torch.uint8).permute(0, 2, 3, 1).cpu()
                if not (finite := pixels.flatten(1).isfinite().all(1)).all():
                    row = sum(map(len, pictures)) + int(finite.long().argmin())
                    raise InputError(
                        f"{names[row] if names else f'image {row}'}: the autoencoder {self.path} makes pixels that are "
                        f"not finite, in {self.dtype}; check its weights, take float32, or name another one (base.vae)"
                    )
                pictures.append(picture)
        return [Image.fromarray(picture) for picture in torch.cat(pictures).numpy()]
