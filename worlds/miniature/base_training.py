"""Training of the miniature base: autoencoder, then denoiser with its text encoder, in diffusers' layout.

The denoiser learns from pictures with the faults of the web (:func:`worlds.miniature.rendering.faulty`), so that
preference training finds something to align. The noise schedule ends in nearly pure noise (linear, 1e-4 to
0.02): with Stable Diffusion's own schedule the colour of a flat background survives the last step on
8 x 8 latents, and the denoiser reads it there instead of in the prompt.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from families.parts import load_part
from worlds.miniature import tokenizer as world_tokenizer
from worlds.miniature.denoiser_training import (
    TEXT_WIDTH,
    DenoiserRecipe,
    captioned_latents,
    clip_config,
    fit,
    save_half,
    shuffled_batches,
    to_tensor,
)
from worlds.miniature.rendering import IMAGE_SIZE_PX, degrade, render
from worlds.miniature.scenes import random_scene

if TYPE_CHECKING:
    import torch
    from transformers import CLIPTextModel, CLIPTokenizer

LATENT_NOISE = 0.05


@dataclass(frozen=True)
class BaseRecipe(DenoiserRecipe):
    """Sizes and lengths of the training. The defaults are the recipe of the shipped weights."""

    autoencoder_steps: int = 1500
    autoencoder_learning_rate: float = 2e-3


@dataclass(frozen=True)
class BaseModules:
    """The parts of a trained base, as a diffusers pipeline holds them."""

    # diffusers does not type its classes: AutoencoderTiny, UNet2DConditionModel, DDIMScheduler.
    vae: Any
    text_encoder: CLIPTextModel
    tokenizer: CLIPTokenizer
    unet: Any
    scheduler: Any

    @classmethod
    def load(cls, folder: Path) -> BaseModules:
        """Read what :meth:`save` wrote, as float32."""
        import diffusers
        import torch
        import transformers

        return cls(
            vae=load_part(diffusers.AutoencoderTiny, folder / "vae").to(torch.float32),
            text_encoder=load_part(transformers.CLIPTextModel, folder / "text_encoder").to(torch.float32),
            tokenizer=load_part(transformers.CLIPTokenizer, folder / "tokenizer"),
            unet=load_part(diffusers.UNet2DConditionModel, folder / "unet").to(torch.float32),
            scheduler=load_part(diffusers.DDIMScheduler, folder / "scheduler"),
        )

    def save(self, folder: Path) -> None:
        """Write the parts as half-precision safetensors in the layout of ``StableDiffusionPipeline``."""
        from diffusers import StableDiffusionPipeline

        pipeline: Any = StableDiffusionPipeline(
            vae=self.vae,
            text_encoder=self.text_encoder,
            tokenizer=self.tokenizer,
            unet=self.unet,
            scheduler=self.scheduler,
            safety_checker=None,
            feature_extractor=None,
            requires_safety_checker=False,
        )
        save_half(pipeline, folder, ("unet", "vae"))


def build_autoencoder() -> Any:
    """0.15 M parameters; 32 x 32 pixels to 4 x 8 x 8 latents."""
    from diffusers import AutoencoderTiny

    return AutoencoderTiny(
        encoder_block_out_channels=(32, 32, 32),
        decoder_block_out_channels=(32, 32, 32),
        num_encoder_blocks=(0, 1, 1),
        num_decoder_blocks=(1, 1, 0),
        latent_channels=4,
    )


def build_text_encoder(tokenizer: CLIPTokenizer) -> CLIPTextModel:
    """0.12 M parameters; two layers of width 64."""
    from transformers import CLIPTextModel

    return CLIPTextModel(clip_config(tokenizer))


def build_unet() -> Any:
    """1.1 M parameters; cross-attention at 4 x 4 and in the middle, which is half the cost of 8 x 8.

    The pooled text modulates every block beside the timestep: with attention at 4 x 4 alone, shapes, which live at
    8 x 8, stay blobs.
    """
    from diffusers import UNet2DConditionModel

    return UNet2DConditionModel(
        sample_size=IMAGE_SIZE_PX // 4,
        in_channels=4,
        out_channels=4,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        block_out_channels=(32, 64),
        layers_per_block=1,
        cross_attention_dim=TEXT_WIDTH,
        attention_head_dim=(2, 4),
        norm_num_groups=8,
        addition_embed_type="text",
        addition_embed_type_num_heads=4,
        resnet_time_scale_shift="scale_shift",
    )


def build_scheduler() -> Any:
    """The forward process that the base is trained with."""
    from diffusers import DDIMScheduler

    return DDIMScheduler(
        beta_start=1e-4,
        beta_end=0.02,
        beta_schedule="linear",
        clip_sample=False,
        set_alpha_to_one=False,
        steps_offset=1,
    )


def train_autoencoder(recipe: BaseRecipe) -> Any:
    """Reconstruct clean and degraded renders; the scaling factor gives latents unit variance."""
    import torch

    torch.manual_seed(recipe.seed)
    rng = np.random.default_rng(recipe.seed)
    scenes = [random_scene(rng, two_objects=0.5) for _ in range(recipe.pictures // 2)]
    pictures = to_tensor(degrade(render(scenes, rng), rng, probability=recipe.degradation / 2))
    vae = build_autoencoder().train()
    optimizer = torch.optim.AdamW(vae.parameters(), lr=recipe.autoencoder_learning_rate, weight_decay=1e-4)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, recipe.autoencoder_learning_rate, total_steps=recipe.autoencoder_steps
    )
    for chosen in shuffled_batches(len(pictures), recipe.batch_size, recipe.autoencoder_steps, rng, "autoencoder"):
        batch = pictures[chosen]
        latents = vae.encode(batch).latents
        decoded = vae.decode(latents + LATENT_NOISE * torch.randn_like(latents)).sample
        loss = torch.nn.functional.mse_loss(decoded, batch) + 0.1 * torch.nn.functional.l1_loss(decoded, batch)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    vae.eval()
    with torch.no_grad():
        vae.register_to_config(scaling_factor=round(float(1 / vae.encode(pictures[:2048]).latents.std()), 4))
    return vae


def train_base(recipe: BaseRecipe, *, start: BaseModules | None = None) -> BaseModules:
    """Train all parts from a seed.

    Args:
        start: a base after its first cycle, to go on from; ``None`` begins with the autoencoder.
    """
    import torch

    if start is None:
        vae = train_autoencoder(recipe)
        torch.manual_seed(recipe.seed + 1)
        tokenizer = world_tokenizer.build()
        parts = BaseModules(vae, build_text_encoder(tokenizer), tokenizer, build_unet(), build_scheduler())
        _train_cycle(recipe, parts, 1)
    else:
        parts = start
    for cycle in range(2, recipe.cycles + 1):
        torch.manual_seed(recipe.seed + cycle)
        _train_cycle(recipe, parts, cycle)
    return parts


def _train_cycle(recipe: BaseRecipe, parts: BaseModules, cycle: int) -> None:
    """Train denoiser and text encoder in place for one cycle, from 1; they end as the average over the steps."""
    import torch

    pictures = captioned_latents(recipe, parts.vae, cycle)
    padded = parts.tokenizer(pictures.captions, padding="max_length", truncation=True, return_tensors="pt").input_ids
    text_encoder, unet, scheduler = parts.text_encoder.train(), parts.unet.train(), parts.scheduler

    def loss(latents: torch.Tensor, captions: NDArray[np.int64]) -> torch.Tensor:
        noise = torch.randn(latents.shape)
        timesteps = torch.randint(0, scheduler.config.num_train_timesteps, (len(latents),))
        noisy = scheduler.add_noise(latents, noise, timesteps)
        hidden = text_encoder(padded[captions]).last_hidden_state
        return torch.nn.functional.mse_loss(unet(noisy, timesteps, hidden).sample, noise)

    fit(recipe, [*unet.parameters(), *text_encoder.parameters()], pictures, loss, label=f"denoiser, cycle {cycle}")
    text_encoder.eval()
    unet.eval()
