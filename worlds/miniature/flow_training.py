"""Training of the miniature's flow base: a rectified flow shaped like Stable Diffusion 3, in diffusers' layout.

It sees the same kind of pictures as the first base, through that one's autoencoder. Of Stable Diffusion 3's text
encoders it has the first CLIP and T5, both trained with the transformer; the second CLIP is left out.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

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
)
from worlds.miniature.rendering import IMAGE_SIZE_PX

if TYPE_CHECKING:
    import numpy as np
    import torch

HEADS, HEAD_WIDTH, LAYERS = 6, 16, 4


@dataclass(frozen=True)
class FlowRecipe(DenoiserRecipe):
    """Lengths and rates. The defaults are the recipe of the shipped weights."""

    denoiser_steps: int = 5000
    cycles: int = 1
    denoiser_learning_rate: float = 2e-3


@dataclass(frozen=True)
class FlowModules:
    """The parts of a trained flow base, as a diffusers pipeline holds them."""

    # diffusers does not type its classes: AutoencoderTiny, SD3Transformer2DModel, FlowMatchEulerDiscreteScheduler.
    vae: Any
    text_encoder: Any
    tokenizer: Any
    text_encoder_3: Any
    tokenizer_3: Any
    transformer: Any
    scheduler: Any

    def save(self, folder: Path) -> None:
        """Write the parts as half-precision safetensors in the layout of ``StableDiffusion3Pipeline``."""
        from diffusers import StableDiffusion3Pipeline

        parts = {name: getattr(self, name) for name in self.__dataclass_fields__}
        pipeline: Any = StableDiffusion3Pipeline(text_encoder_2=None, tokenizer_2=None, **parts)
        save_half(pipeline, folder, ("transformer", "vae"))


def build_text_encoder(tokenizer: Any) -> Any:
    """0.14 M parameters; two layers, whose output before the last goes to the transformer."""
    from transformers import CLIPTextModelWithProjection

    return CLIPTextModelWithProjection(clip_config(tokenizer))


def build_t5(tokenizer: Any) -> Any:
    """0.05 M parameters; one layer."""
    from transformers import T5Config, T5EncoderModel

    return T5EncoderModel(
        T5Config(
            vocab_size=len(tokenizer),
            d_model=TEXT_WIDTH,
            d_kv=TEXT_WIDTH // 4,
            d_ff=4 * TEXT_WIDTH,
            num_layers=1,
            num_heads=4,
            dropout_rate=0.0,
        )
    )


def build_transformer() -> Any:
    """1.3 M parameters; 16 tokens of an image beside those of its text."""
    from diffusers import SD3Transformer2DModel

    return SD3Transformer2DModel(
        sample_size=IMAGE_SIZE_PX // 4,
        patch_size=2,
        in_channels=4,
        out_channels=4,
        num_layers=LAYERS,
        attention_head_dim=HEAD_WIDTH,
        num_attention_heads=HEADS,
        joint_attention_dim=TEXT_WIDTH,
        caption_projection_dim=HEADS * HEAD_WIDTH,
        pooled_projection_dim=TEXT_WIDTH,
        pos_embed_max_size=IMAGE_SIZE_PX // 8,
        qk_norm="rms_norm",
    )


def train_flow(recipe: FlowRecipe, vae: Any) -> FlowModules:
    """Train transformer and text encoders from a seed.

    Args:
        recipe: lengths and rates.
        vae: the first base's autoencoder, in float32.
    """
    import torch
    from diffusers import FlowMatchEulerDiscreteScheduler

    torch.manual_seed(recipe.seed + 1)
    words, pieces = world_tokenizer.build(), world_tokenizer.build_t5()
    parts = FlowModules(
        vae.eval(),
        build_text_encoder(words),
        words,
        build_t5(pieces),
        pieces,
        build_transformer(),
        FlowMatchEulerDiscreteScheduler(),
    )
    for cycle in range(1, recipe.cycles + 1):
        torch.manual_seed(recipe.seed + cycle)
        _train_cycle(recipe, parts, cycle)
    return parts


def _train_cycle(recipe: FlowRecipe, parts: FlowModules, cycle: int) -> None:
    """Train in place for one cycle, from 1; σ is logit-normal, as Stable Diffusion 3's (arXiv 2403.03206, §3.1)."""
    import torch

    pictures = captioned_latents(recipe, parts.vae, cycle)
    first, last = (
        tokenizer(pictures.captions, padding="max_length", truncation=True, return_tensors="pt").input_ids
        for tokenizer in (parts.tokenizer, parts.tokenizer_3)
    )
    clip, t5, transformer = parts.text_encoder.train(), parts.text_encoder_3.train(), parts.transformer.train()

    def loss(latents: torch.Tensor, captions: NDArray[np.int64]) -> torch.Tensor:
        noise, sigmas = torch.randn(latents.shape), torch.randn(len(latents)).sigmoid()
        share = sigmas[:, None, None, None]
        encoded = clip(first[captions], output_hidden_states=True)
        velocity = transformer(
            hidden_states=(1 - share) * latents + share * noise,
            timestep=1000 * sigmas,
            encoder_hidden_states=torch.cat([encoded.hidden_states[-2], t5(last[captions])[0]], dim=1),
            pooled_projections=encoded.text_embeds,
            return_dict=False,
        )[0]
        return torch.nn.functional.mse_loss(velocity, noise - latents)

    trained = [p for part in (transformer, clip, t5) for p in part.parameters()]
    fit(recipe, trained, pictures, loss, label=f"flow, cycle {cycle}")
    for part in (clip, t5, transformer):
        part.eval()


def load_autoencoder(base: Path) -> Any:
    """The autoencoder of the first base, in float32."""
    import torch
    from diffusers import AutoencoderTiny

    return load_part(AutoencoderTiny, base / "vae").to(torch.float32)
