"""A base of rectified flow for training: what :mod:`families.flow` knows of it, and the noise it is trained with."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from artifacts.errors import InputError
from families.conditions import Conditions, moved
from families.flow.model import DENOISER, FlowModel
from sdpo.diffusion.latents import Latents
from sdpo.diffusion.noising import flow_coefficients, uniform_sigmas

if TYPE_CHECKING:
    import torch
    from PIL.Image import Image

    from sdpo.diffusion.noising import Parametrisation

WEIGHTS = f"{DENOISER}/diffusion_pytorch_model.safetensors"
EMBEDDED_GUIDANCE = 3.5
"""What FLUX dev is told in training unless the settings say another: the library's default for drawing."""


class FlowBase:
    """The Base of a flow model; timesteps are σ, as floating-point numbers in [0, 1].

    Args:
        model: of :mod:`families.flow`.
        guidance: what a transformer that is told the guidance is told in training.

    Raises:
        InputError: a guidance for a model that is told none.
    """

    parametrisation: Parametrisation = "flow"
    denoiser_folder: str = DENOISER

    def __init__(self, model: FlowModel, guidance: float | None = None) -> None:
        if guidance is not None and not model.guidance_embedded:
            raise InputError(
                f"training.embedded_guidance is {guidance:g}, but the transformer of {model.path} is told no guidance; "
                "leave it out"
            )
        if guidance is None and model.guidance_embedded:
            guidance = EMBEDDED_GUIDANCE
        self.model, self.guidance = model, guidance

    @property
    def condition_widths(self) -> dict[str, int]:
        """Last dimension of each condition of a prompt."""
        return self.model.condition_widths

    def draw_timesteps(self, count: int, generator: torch.Generator) -> torch.Tensor:
        """σ (count,), uniform on [0, 1)."""
        return uniform_sigmas(count, generator)

    def timesteps_at(self, shares: torch.Tensor) -> torch.Tensor:
        """σ of shares of noise: themselves."""
        return shares

    def spread_timesteps(self, count: int) -> torch.Tensor:
        """σ (count,) spread evenly, ascending."""
        import torch

        return (torch.arange(count) + 0.5) / count

    def coefficients(self, timesteps: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """1 − σ and σ, each (B,)."""
        return flow_coefficients(timesteps)

    def encode_images(self, images: Sequence[Image]) -> Latents:
        """Scaled latents (N, C, H, W) float32.

        Raises:
            InputError: the transformer does not take images of this size.
        """
        if expected := self.model.expected_sides(*images[0].size):
            raise InputError(
                f"images of {images[0].width} x {images[0].height} pixels: expected {expected}; set "
                "encoding.resolution, or other encoding.sizes"
            )
        return Latents(*self.model.autoencoder.encode(images))

    def decode_latents(self, latents: torch.Tensor) -> list[Image]:
        """Images of scaled latents (N, C, H, W)."""
        return self.model.autoencoder.decode(latents)

    def encode_prompts(self, prompts: Sequence[str]) -> Conditions:
        """Conditions of N prompts, float32, on the base's device."""
        import torch

        return moved(self.model.encode_prompts(prompts), self.model.device, torch.float32)

    def encoder_digests(self) -> dict[str, str]:
        """Digest of each part that encodes images and prompts."""
        return self.model.encoder_digests()

    def image_conditions(self, sizes: torch.Tensor) -> Conditions:
        """``guidance`` (N,), where the transformer is told it."""
        if self.guidance is None:
            return {}
        return {"guidance": sizes.new_full((len(sizes),), self.guidance, dtype=_float32())}

    def load_denoiser(self, device: str | None = None) -> torch.nn.Module:
        """A fresh float32 copy of the transformer, on a device; on the base's own by default."""
        found: torch.nn.Module = self.model.own_denoiser(_float32()).to(device or self.model.device)
        return found

    def predict(
        self, denoiser: torch.nn.Module, noisy: torch.Tensor, timesteps: torch.Tensor, conditions: Conditions
    ) -> torch.Tensor:
        """Velocity (B, C, H, W)."""
        return self.model.velocity(denoiser, noisy, timesteps, conditions)

    def save_denoiser(self, denoiser: torch.nn.Module, folder: Path) -> None:
        """Write ``folder/transformer/`` as safetensors, in one file."""
        saved: Any = denoiser
        saved.save_pretrained(folder / DENOISER, safe_serialization=True, max_shard_size="1TB")


def _float32() -> torch.dtype:
    import torch

    return torch.float32
