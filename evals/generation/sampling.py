"""From prompts to latents: start noise, guidance, the sampling loop.

Two protocols. ``clean``: guidance as named; start noise of its own for each prompt, derived from the
prompt's identifier, so that neither batch size nor order nor sharding changes it; text encoders, latents and guidance
in float32 whatever the denoiser's precision; no text is what the base says it is. ``sdpo``: as the evaluation code
of Diffusion-SDPO (``test_sd15.py``, ``test_sdxl.py``) does it: ``cond + s (cond - uncond)``, which is a guidance of
s + 1; one start noise shared by all prompts, drawn on the device; everything but decoding in the denoiser's precision;
no text is always the encoded empty prompt.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from artifacts.errors import InputError
from families.conditions import Conditions, joined, moved, picked, repeated

if TYPE_CHECKING:
    import torch
    from PIL.Image import Image

    from evals.generation.pipelines import Pipeline
    from evals.generation.settings import SamplingSettings


def noise_seed(settings: SamplingSettings, prompt_id: str, image: int = 0) -> int:
    """Seed of the start noise of one prompt, in [0, 2^63), of which torch's CPU generator uses the lower 32 bits.

    Some two of 5319 prompts have the same noise with a probability of 0.3 %.

    Args:
        settings: how images are drawn.
        prompt_id: of the prompt.
        image: which of its images, from 0. No other image of the prompt has a part in its seed.
    """
    if settings.protocol == "sdpo":
        return settings.seed + image
    label = f"{settings.seed}:{prompt_id}" if image == 0 else f"{settings.seed}:{prompt_id}:{image}"
    digest = hashlib.sha256(label.encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1


def start_noise(
    settings: SamplingSettings,
    prompt_ids: list[str],
    shape: tuple[int, int, int],
    device: Any = "cpu",
    *,
    image: int = 0,
) -> torch.Tensor:
    """Standard normal start noise (N, C, H, W) of the images of this number of N prompts.

    ``clean`` draws on the CPU in float32, so that every machine has the same; ``sdpo`` on the device in the
    denoiser's precision, where the published code draws it.
    """
    import torch

    if settings.protocol == "sdpo":
        generator = torch.Generator(device).manual_seed(noise_seed(settings, "", image))
        shared = torch.randn(shape, generator=generator, device=device, dtype=getattr(torch, settings.dtype))
        return shared.expand(len(prompt_ids), *shape)
    seeds = [noise_seed(settings, prompt_id, image) for prompt_id in prompt_ids]
    return torch.stack([torch.randn(shape, generator=torch.Generator().manual_seed(seed)) for seed in seeds])


def sample(
    pipeline: Pipeline,
    denoiser: Any,
    conditions: Conditions,
    empty: Conditions,
    noise: torch.Tensor,
    settings: SamplingSettings,
    names: Sequence[str] = (),
) -> torch.Tensor:
    """Denoise one batch.

    Args:
        pipeline: of the base.
        denoiser: of the model.
        conditions: of B prompts.
        empty: of one empty prompt.
        noise: (B, C, H, W) start noise of unit variance.
        settings: how.
        names: of the B images, for messages.

    Returns:
        Scaled latents (B, C, H, W) in the working precision.

    Raises:
        InputError: they are not finite, or this kind of base is not drawn from that way.
    """
    import torch

    parameter = next(denoiser.parameters())
    device, dtype, working = parameter.device, parameter.dtype, getattr(torch, settings.working_dtype)
    scheduler = pipeline.sampler(settings)
    guidance = settings.effective_guidance
    # A guidance of one is the conditional prediction alone.
    guided = guidance != 1 and not pipeline.guides_itself
    told = pipeline.told(conditions, settings)
    if guided:
        told = joined([repeated(pipeline.told(empty, settings), len(noise)), told])
    told = moved(told, device, dtype)
    # Flow matching scales neither the start nor what goes in.
    latents: torch.Tensor = noise.to(device, working) * getattr(scheduler, "init_noise_sigma", 1.0)
    scaled_input = getattr(scheduler, "scale_model_input", lambda latents, timestep: latents)
    # Counted on the device and read once: latents that have left the range never come back.
    finite_steps = torch.zeros(len(latents), dtype=torch.long, device=device)
    with torch.inference_mode():
        for timestep in scheduler.timesteps:
            scaled = scaled_input(latents, timestep).to(dtype)
            inputs = torch.cat([scaled, scaled]) if guided else scaled
            predicted = pipeline.predict(denoiser, inputs, timestep, told).to(working)
            if guided:
                unconditional, conditional = predicted.chunk(2)
                difference = conditional - unconditional
                if settings.protocol == "sdpo":
                    # As it is published: the sum with one more, from the other end, rounds otherwise.
                    predicted = conditional + settings.guidance_scale * difference
                else:
                    predicted = unconditional + guidance * difference
            latents = scheduler.step(predicted, timestep, latents).prev_sample
            finite_steps += latents.flatten(1).isfinite().all(1)
    if int(finite_steps.min()) < len(scheduler.timesteps):
        row = int(finite_steps.argmin())
        raise InputError(
            f"{names[row] if names else f'image {row}'}: latents are not finite from step "
            f"{int(finite_steps[row]) + 1} of {len(scheduler.timesteps)} on, with the denoiser in "
            f"{str(dtype).removeprefix('torch.')}; set generation.dtype to float32, or check the model's weights"
        )
    return latents


def sample_batch(
    pipeline: Pipeline,
    denoiser: Any,
    conditions: Conditions,
    empty: Conditions,
    prompt_ids: list[str],
    settings: SamplingSettings,
    *,
    image: int = 0,
    model: str = "",
) -> list[Image]:
    """One image of each of B prompts at once.

    Args:
        pipeline: of the base.
        denoiser: of the model.
        conditions: of the B prompts in order.
        empty: of the empty prompt.
        prompt_ids: B identifiers that the start noise derives from.
        settings: how.
        image: which of each prompt's images, from 0.
        model: what is drawn from, for messages.

    Raises:
        InputError: latents or pixels are not finite.
    """
    noise = start_noise(settings, prompt_ids, pipeline.latent_shape, pipeline.device, image=image)
    names = [f"{f'{model}, ' if model else ''}prompt {prompt_id}" for prompt_id in prompt_ids]
    return pipeline.decode(sample(pipeline, denoiser, conditions, empty, noise, settings, names), names)


def sample_prompts(
    pipeline: Pipeline, denoiser: Any, conditions: Conditions, prompt_ids: list[str], settings: SamplingSettings
) -> list[Image]:
    """Images of N prompts, in batches, in memory all at once; arguments as for :func:`sample_batch`."""
    empty = pipeline.empty_prompt(zeros=settings.protocol == "clean")
    images: list[Image] = []
    for start in range(0, len(prompt_ids), settings.batch_size):
        rows = slice(start, start + settings.batch_size)
        images += sample_batch(pipeline, denoiser, picked(conditions, rows), empty, prompt_ids[rows], settings)
    return images
