"""Bases shaped like Stable Diffusion 1.x: one CLIP text tower, one latent U-Net, in diffusers' layout."""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from artifacts.errors import InputError
from artifacts.parts import load_part

if TYPE_CHECKING:
    import torch
    from PIL.Image import Image

    from sdpo.noising import Parametrisation

BATCH = 128


class StableDiffusion:
    """A base folder, its parts loaded when first needed and never all at once.

    Args:
        path: folder with ``model_index.json``, ``unet/``, ``vae/``, ``text_encoder/``, ``tokenizer/``, ``scheduler/``.
        device: where tensors and modules live.

    Raises:
        InputError: a part is missing.
    """

    def __init__(self, path: Path, *, device: str = "cpu") -> None:
        self.path = path
        self.device = device
        for part in ("unet", "vae", "text_encoder", "tokenizer", "scheduler"):
            if not (path / part).is_dir():
                raise InputError(f"{path / part}: missing; a base of this family is a folder in diffusers' layout")

    def _config(self, part: str, file: str = "config.json") -> dict[str, Any]:
        config: dict[str, Any] = json.loads((self.path / part / file).read_text())
        return config

    @property
    def parametrisation(self) -> Parametrisation:
        """As the scheduler's configuration says.

        Raises:
            InputError: the scheduler asks for something that no noising here provides.
        """
        file = self.path / "scheduler" / "scheduler_config.json"
        found = self._config("scheduler", file.name).get("prediction_type", "epsilon")
        if found not in ("epsilon", "v_prediction"):
            raise InputError(f"{file}: prediction_type is '{found}', expected epsilon or v_prediction")
        known: Parametrisation = found
        return known

    @cached_property
    def alphas_cumprod(self) -> torch.Tensor:
        """Signal share ᾱ_t of each timestep, (T,) float32."""
        from diffusers import DDPMScheduler

        scheduler = load_part(DDPMScheduler, self.path / "scheduler")
        alphas: torch.Tensor = scheduler.alphas_cumprod
        return alphas.to(self.device)

    def draw_timesteps(self, count: int, generator: torch.Generator) -> torch.Tensor:
        """Integers (count,), uniform over the schedule."""
        import torch

        return torch.randint(0, len(self.alphas_cumprod), (count,), generator=generator)

    def spread_timesteps(self, count: int) -> torch.Tensor:
        """Integers (count,) spread evenly over the schedule, ascending."""
        import torch

        return ((torch.arange(count) + 0.5) * len(self.alphas_cumprod) / count).long()

    def coefficients(self, timesteps: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """α_t = √ᾱ_t and σ_t = √(1 − ᾱ_t), each (B,)."""
        from sdpo.noising import ddpm_coefficients

        return ddpm_coefficients(self.alphas_cumprod, timesteps)

    def encode_images(self, images: Sequence[Image]) -> torch.Tensor:
        """Scaled latents (N, C, H, W) float32; the mode of the posterior where the autoencoder has one."""
        import diffusers
        import numpy as np
        import torch

        autoencoder = getattr(diffusers, self._config("vae")["_class_name"])
        vae = load_part(autoencoder, self.path / "vae", torch_dtype=torch.float32)
        vae.to(self.device).eval()
        parts = []
        with torch.inference_mode():
            for start in range(0, len(images), BATCH):
                arrays = [np.asarray(image.convert("RGB")) for image in images[start : start + BATCH]]
                pixels = torch.from_numpy(np.stack(arrays)).permute(0, 3, 1, 2).float() / 127.5 - 1
                encoded = vae.encode(pixels.to(self.device))
                latents = encoded.latent_dist.mode() if hasattr(encoded, "latent_dist") else encoded.latents
                parts.append(latents * vae.config.scaling_factor)
        return torch.cat(parts)

    def encode_prompts(self, prompts: Sequence[str]) -> torch.Tensor:
        """Text embeddings (N, T, D) float32, padded and cut to the tokenizer's length as the pipeline does."""
        import torch
        from transformers import CLIPTextModel, CLIPTokenizer

        tokenizer = load_part(CLIPTokenizer, self.path / "tokenizer")
        encoder = load_part(CLIPTextModel, self.path / "text_encoder", dtype=torch.float32)
        encoder.to(self.device).eval()
        parts = []
        with torch.inference_mode():
            for start in range(0, len(prompts), BATCH):
                tokens = tokenizer(
                    list(prompts[start : start + BATCH]),
                    padding="max_length",
                    max_length=tokenizer.model_max_length,
                    truncation=True,
                    return_tensors="pt",
                ).input_ids
                parts.append(encoder(tokens.to(self.device)).last_hidden_state)
        return torch.cat(parts)

    def load_denoiser(self) -> torch.nn.Module:
        """A fresh float32 copy of the U-Net."""
        import torch
        from diffusers import UNet2DConditionModel

        unet = load_part(UNet2DConditionModel, self.path / "unet", torch_dtype=torch.float32)
        module: torch.nn.Module = unet.to(self.device)
        return module

    def predict(
        self, denoiser: torch.nn.Module, noisy: torch.Tensor, timesteps: torch.Tensor, embeddings: torch.Tensor
    ) -> torch.Tensor:
        """Prediction (B, C, H, W)."""
        predicted: torch.Tensor = denoiser(noisy, timesteps, embeddings, return_dict=False)[0]
        return predicted

    def save_denoiser(self, denoiser: torch.nn.Module, folder: Path) -> None:
        """Write ``folder/unet/`` as safetensors."""
        denoiser.save_pretrained(folder / "unet", safe_serialization=True)  # type: ignore[operator]


def open_base(path: Path, *, device: str = "cpu") -> StableDiffusion:
    """Open a base folder of this family."""
    return StableDiffusion(path, device=device)
