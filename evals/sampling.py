"""From prompts to pixels: start noise, guidance, the sampling loop, decoding.

Two protocols. ``clean``: guidance as named and start noise of its own for each prompt, derived from the
prompt's identifier, so that neither batch size nor order nor sharding changes it. ``sdpo``: as the
evaluation code of Diffusion-SDPO (``test_sd15.py``) does it: ``cond + s (cond - uncond)``, which is a
guidance of s + 1, and one start noise shared by all prompts.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from artifacts.errors import InputError
from artifacts.parts import load_part
from artifacts.plugins import nearest
from artifacts.progress import progress

if TYPE_CHECKING:
    import torch
    from PIL.Image import Image

PROTOCOLS = ("clean", "sdpo")
SCHEDULERS = {
    "ddim": "DDIMScheduler",
    "euler": "EulerDiscreteScheduler",
    "dpm_solver": "DPMSolverMultistepScheduler",
}


@dataclass(frozen=True)
class SamplingSettings:
    """How images are made.

    Attributes:
        protocol: ``clean`` or ``sdpo``.
        scheduler: one of :data:`SCHEDULERS`.
        steps: calls of the scheduler.
        guidance_scale: classifier-free guidance as named; the protocol decides what is effective.
        batch_size: images at a time; results do not depend on it but for rounding.
        seed: seed that all start noise derives from.
        dtype: ``float32``, ``bfloat16`` or ``float16`` for the denoiser; decoding is always float32.
    """

    protocol: str = "clean"
    scheduler: str = "ddim"
    steps: int = 20
    guidance_scale: float = 5.0
    batch_size: int = 64
    seed: int = 0
    dtype: str = "float32"

    @property
    def effective_guidance(self) -> float:
        """The factor w of ``uncond + w (cond - uncond)``."""
        return self.guidance_scale + 1 if self.protocol == "sdpo" else self.guidance_scale


def noise_seed(settings: SamplingSettings, prompt_id: str) -> int:
    """Seed of the start noise of one prompt, in [0, 2^63)."""
    if settings.protocol == "sdpo":
        return settings.seed
    digest = hashlib.sha256(f"{settings.seed}:{prompt_id}".encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1


class Pipeline:
    """The parts of a base in diffusers' layout that turn a prompt into an image.

    Parts are loaded one by one as ``model_index.json`` names them, not by a pipeline class: that import costs
    more than a miniature job. Only libraries ``diffusers`` and ``transformers`` are accepted: no remote code.

    Args:
        path: folder of the base.
        dtype: of the denoiser.
        device: where everything lies.
    """

    def __init__(self, path: str | Path, *, dtype: str = "float32", device: str = "cpu") -> None:
        import torch

        self.path = Path(path)
        self.device = torch.device(device)
        self.dtype = getattr(torch, dtype)
        self.tokenizer = self._part("tokenizer")
        self.text_encoder = self._part("text_encoder", torch_dtype=torch.float32)
        self.vae = self._part("vae", torch_dtype=torch.float32)
        self.scheduler = self._part("scheduler")
        self.unet = self.load_unet(self.path)

    def _part(self, name: str, **options: Any) -> Any:
        import importlib
        import json

        index = self.path / "model_index.json"
        if not index.is_file():
            raise InputError(f"{index}: no such file; the base must be a folder in diffusers' layout")
        library, class_name = json.loads(index.read_text())[name]
        if library not in ("diffusers", "transformers"):
            raise InputError(f"{index}: part '{name}' comes from '{library}'; only diffusers and transformers are run")
        part = getattr(importlib.import_module(library), class_name)
        loaded = load_part(part, self.path / name, **options)
        return loaded.to(self.device).eval().requires_grad_(False) if hasattr(loaded, "parameters") else loaded

    def load_unet(self, model: Path) -> Any:
        """The denoiser of a model folder (``unet/`` below it).

        Raises:
            InputError: the folder holds no denoiser, or a damaged one.
        """
        from diffusers import UNet2DConditionModel

        if not (model / "unet" / "config.json").is_file():
            raise InputError(f"{model / 'unet'}: no denoiser; train the model first or correct its path")
        unet = load_part(UNet2DConditionModel, model / "unet", torch_dtype=self.dtype)
        return unet.to(self.device).eval().requires_grad_(False)

    def encode_prompts(self, prompts: list[str]) -> torch.Tensor:
        """Text embeddings (N, T, D) in float32, prompts padded and cut to the tokenizer's length."""
        import torch

        tokens = self.tokenizer(
            prompts,
            padding="max_length",
            max_length=self.tokenizer.model_max_length,
            truncation=True,
            return_tensors="pt",
        ).input_ids
        with torch.inference_mode():
            parts = [self.text_encoder(t.to(self.device)).last_hidden_state for t in tokens.split(256)]
            return torch.cat(parts)

    @property
    def latent_shape(self) -> tuple[int, int, int]:
        """Channels, height and width of one image's latents."""
        config = self.unet.config
        return config.in_channels, config.sample_size, config.sample_size

    def decode(self, latents: torch.Tensor) -> list[Image]:
        """RGB images of scaled latents (N, C, H, W)."""
        import torch
        from PIL import Image

        with torch.inference_mode():
            pixels = self.vae.decode(latents.float() / self.vae.config.scaling_factor).sample
        array = ((pixels / 2 + 0.5).clamp(0, 1) * 255).round().to(torch.uint8).permute(0, 2, 3, 1).cpu().numpy()
        return [Image.fromarray(picture) for picture in array]


def make_scheduler(base_scheduler: Any, name: str) -> Any:
    """The named sampler with the base's own noise schedule.

    Raises:
        InputError: the name is not in :data:`SCHEDULERS`.
    """
    import diffusers

    if name not in SCHEDULERS:
        raise InputError(
            f"unknown scheduler '{name}': expected one of {', '.join(SCHEDULERS)}{nearest(name, [*SCHEDULERS])}"
        )
    return getattr(diffusers, SCHEDULERS[name]).from_config(base_scheduler.config)


def start_noise(settings: SamplingSettings, prompt_ids: list[str], shape: tuple[int, int, int]) -> torch.Tensor:
    """Standard normal start noise (N, C, H, W), drawn on the CPU in float32 prompt by prompt."""
    import torch

    seeds = [noise_seed(settings, prompt_id) for prompt_id in prompt_ids]
    return torch.stack([torch.randn(shape, generator=torch.Generator().manual_seed(seed)) for seed in seeds])


def sample(
    unet: Any,
    scheduler: Any,
    embeddings: torch.Tensor,
    empty: torch.Tensor,
    noise: torch.Tensor,
    settings: SamplingSettings,
) -> torch.Tensor:
    """Denoise one batch.

    Args:
        unet: the denoiser.
        scheduler: from :func:`make_scheduler`.
        embeddings: (B, T, D) text embeddings.
        empty: (1, T, D) embedding of the empty prompt.
        noise: (B, C, H, W) start noise of unit variance.

    Returns:
        Scaled latents (B, C, H, W), float32.
    """
    import torch

    scheduler.set_timesteps(settings.steps)
    dtype = next(unet.parameters()).dtype
    device = next(unet.parameters()).device
    conditions = torch.cat([empty.expand_as(embeddings), embeddings]).to(device, dtype)
    latents: torch.Tensor = noise.to(device) * scheduler.init_noise_sigma
    guidance = settings.effective_guidance
    with torch.inference_mode():
        for timestep in scheduler.timesteps:
            scaled = scheduler.scale_model_input(latents, timestep).to(dtype)
            predicted = unet(torch.cat([scaled, scaled]), timestep, conditions).sample.float()
            unconditional, conditional = predicted.chunk(2)
            combined = unconditional + guidance * (conditional - unconditional)
            latents = scheduler.step(combined, timestep, latents).prev_sample
    return latents


def sample_prompts(
    pipeline: Pipeline,
    unet: Any,
    embeddings: torch.Tensor,
    prompt_ids: list[str],
    settings: SamplingSettings,
    *,
    label: str | None = None,
) -> list[Image]:
    """Images of N prompts, in batches.

    Args:
        pipeline: tokenizer, text encoder, autoencoder and scheduler of the base.
        unet: the denoiser of the model.
        embeddings: (N, T, D), of the prompts in order.
        prompt_ids: N identifiers that the start noise derives from.
        settings: how.
        label: of the progress shown on stderr; none is shown without.
    """
    scheduler = make_scheduler(pipeline.scheduler, settings.scheduler)
    empty = pipeline.encode_prompts([""])
    images: list[Image] = []
    with progress(total=len(prompt_ids), label=label, unit="image") as bar:
        for start in range(0, len(prompt_ids), settings.batch_size):
            ids = prompt_ids[start : start + settings.batch_size]
            noise = start_noise(settings, ids, pipeline.latent_shape)
            batch = embeddings[start : start + settings.batch_size]
            images += pipeline.decode(sample(unet, scheduler, batch, empty, noise, settings))
            bar.update(len(ids))
    return images
