"""Pipelines with random weights in the layout of Stable Diffusion 1.5, XL and 3, and JPEG pairs to train them on.

What a step costs does not depend on what weights are, so the shapes ``sd15`` and ``sdxl`` stand for the published
bases. ``narrow`` is Stable Diffusion 1.5 with every width a fifth and images half as wide, for machines without a GPU:
depths, heads, strides and the 77 tokens stay. ``narrow-sd3`` is Stable Diffusion 3 medium likewise, with fewer heads of
its width and without T5.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Shape:
    """Widths of a pipeline.

    Attributes:
        family: ``sd15``, ``sdxl`` or ``sd3``.
        resolution: of its images, pixels; latents are an eighth as wide.
        autoencoder: channels of its four levels.
        text: of each text encoder: width, layers, heads.
        denoiser: options of ``UNet2DConditionModel`` or ``SD3Transformer2DModel`` that are not its defaults.
        latents: channels of its latents.
    """

    family: str
    resolution: int
    autoencoder: tuple[int, int, int, int]
    text: tuple[tuple[int, int, int], ...]
    denoiser: dict[str, Any]
    latents: int = 4


_CLIP_L, _CLIP_BIG_G = (768, 12, 12), (1280, 32, 20)
SHAPES = {
    "narrow": Shape(
        "sd15",
        256,
        (24, 48, 96, 96),
        ((156, 12, 12),),
        {"block_out_channels": (64, 128, 256, 256), "cross_attention_dim": 156, "attention_head_dim": 8},
    ),
    "narrow-sd3": Shape(
        "sd3",
        256,
        (24, 48, 96, 96),
        ((156, 12, 12), (260, 32, 20)),
        {
            "num_layers": 24,
            "num_attention_heads": 5,
            "attention_head_dim": 64,
            "joint_attention_dim": 820,
            "caption_projection_dim": 320,
            "pooled_projection_dim": 416,
            "pos_embed_max_size": 192,
        },
        latents=16,
    ),
    "sd15": Shape("sd15", 512, (128, 256, 512, 512), (_CLIP_L,), {"cross_attention_dim": 768, "attention_head_dim": 8}),
    "sdxl": Shape(
        "sdxl",
        1024,
        (128, 256, 512, 512),
        (_CLIP_L, _CLIP_BIG_G),
        {
            "block_out_channels": (320, 640, 1280),
            "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
            "up_block_types": ("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
            "transformer_layers_per_block": (1, 2, 10),
            "attention_head_dim": (5, 10, 20),
            "cross_attention_dim": 2048,
            "use_linear_projection": True,
            "addition_embed_type": "text_time",
            "addition_time_embed_dim": 256,
            "projection_class_embeddings_input_dim": 2816,
        },
    ),
}


def save(folder: Path, shape: Shape) -> Path:
    """Write the pipeline; weights are drawn on a GPU if there is one, since a CPU takes minutes for XL's."""
    import diffusers
    import torch

    torch.manual_seed(0)
    with torch.device("cuda" if torch.cuda.is_available() else "cpu"):
        networks = _networks(shape)
    schedule: dict[str, Any] = {
        "beta_start": 0.00085,
        "beta_end": 0.012,
        "beta_schedule": "scaled_linear",
        "steps_offset": 1,
    }
    pipeline: Any
    if shape.family == "sdxl":
        pipeline = diffusers.StableDiffusionXLPipeline(
            scheduler=diffusers.EulerDiscreteScheduler(timestep_spacing="leading", **schedule),
            tokenizer=_tokenizer(),
            tokenizer_2=_tokenizer(),
            **networks,
        )
    elif shape.family == "sd3":
        pipeline = diffusers.StableDiffusion3Pipeline(
            scheduler=diffusers.FlowMatchEulerDiscreteScheduler(shift=3.0),
            tokenizer=_tokenizer(),
            tokenizer_2=_tokenizer(),
            text_encoder_3=None,
            tokenizer_3=None,
            **networks,
        )
    else:
        pipeline = diffusers.StableDiffusionPipeline(
            scheduler=diffusers.PNDMScheduler(skip_prk_steps=True, **schedule),
            tokenizer=_tokenizer(),
            safety_checker=None,
            feature_extractor=None,
            requires_safety_checker=False,
            **networks,
        )
    pipeline.save_pretrained(folder)
    return folder


def _networks(shape: Shape) -> dict[str, Any]:
    import diffusers
    from transformers import CLIPTextModel, CLIPTextModelWithProjection

    tokenizer = _tokenizer()
    networks: dict[str, Any] = {
        "vae": diffusers.AutoencoderKL(
            block_out_channels=shape.autoencoder,
            down_block_types=("DownEncoderBlock2D",) * 4,
            up_block_types=("UpDecoderBlock2D",) * 4,
            layers_per_block=2,
            latent_channels=shape.latents,
            norm_num_groups=min(32, shape.autoencoder[0] // 3),
            sample_size=shape.resolution,
            scaling_factor={"sd15": 0.18215, "sdxl": 0.13025, "sd3": 1.5305}[shape.family],
            shift_factor=0.0609 if shape.family == "sd3" else None,
        ),
    }
    size, texts = shape.resolution // 8, [_text_config(tokenizer, *text) for text in shape.text]
    if shape.family == "sd3":
        channels = {"in_channels": shape.latents, "out_channels": shape.latents}
        transformer = diffusers.SD3Transformer2DModel(sample_size=size, **channels, **shape.denoiser)
        encoders = [CLIPTextModelWithProjection(config) for config in texts]
        return {**networks, "transformer": transformer, "text_encoder": encoders[0], "text_encoder_2": encoders[1]}
    networks["unet"] = diffusers.UNet2DConditionModel(sample_size=size, **shape.denoiser)
    networks["text_encoder"] = CLIPTextModel(texts[0])
    if shape.family == "sdxl":
        networks["text_encoder_2"] = CLIPTextModelWithProjection(texts[1])
    return networks


def _tokenizer() -> Any:
    """CLIP's tokenizer with the 256 bytes alone as its vocabulary."""
    from transformers import CLIPTokenizer
    from transformers.convert_slow_tokenizer import bytes_to_unicode

    symbols = list(bytes_to_unicode().values())
    words = [*symbols, *(s + "</w>" for s in symbols), "<|startoftext|>", "<|endoftext|>"]
    vocabulary: Any = {token: i for i, token in enumerate(words)}
    return CLIPTokenizer(vocab=vocabulary, merges=[], model_max_length=77)


def _text_config(tokenizer: Any, width: int, layers: int, heads: int) -> Any:
    from transformers import CLIPTextConfig

    return CLIPTextConfig(
        vocab_size=len(tokenizer),
        hidden_size=width,
        intermediate_size=4 * width,
        projection_dim=width,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        max_position_embeddings=77,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )


def save_pairs(folder: Path, shape: Shape, count: int, heldout: int) -> Path:
    """Write ``pairs.jsonl`` and JPEG files of smooth noise; the winner of pair i is 2i.jpg, the loser 2i + 1.jpg.

    Published images are larger than what is trained on at 256 pixels, and as large at 512 and 1024.
    """
    import numpy as np
    from PIL import Image

    random = np.random.default_rng(0)
    folder.mkdir(parents=True)
    rows = []
    side = max(512, shape.resolution)
    for i in range(2 * count):
        coarse = Image.fromarray(random.integers(0, 256, (64, 64, 3), dtype=np.uint8))
        coarse.resize((side, side), Image.Resampling.BICUBIC).save(folder / f"{i}.jpg", quality=90)
    for pair in range(count):
        prompt = f"picture number {pair} of a set of {count}, drawn by nobody in particular"
        split = "heldout" if pair >= count - heldout else "train"
        rows.append({"prompt": prompt, "winner": f"{2 * pair}.jpg", "loser": f"{2 * pair + 1}.jpg", "split": split})
    (folder / "pairs.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows), encoding="utf-8")
    return folder
