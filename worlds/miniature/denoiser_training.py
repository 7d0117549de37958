"""What the miniature's denoisers have in common when they are trained: pictures with faults, batches, the average."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from artifacts.atomic import write_json
from artifacts.progress import progress
from worlds.miniature.rendering import Pixels, faulty
from worlds.miniature.scenes import training_scene
from worlds.miniature.tokenizer import CONTEXT_LENGTH

if TYPE_CHECKING:
    import torch


TEXT_WIDTH = 64


@dataclass(frozen=True)
class DenoiserRecipe:
    """Sizes and lengths of a denoiser's training.

    It is trained in ``cycles`` of ``denoiser_steps``, each a rise and fall of the learning rate on new pictures, each
    from the averaged weights of the one before.
    """

    seed: int = 0
    pictures: int = 40_000
    denoiser_steps: int = 4000
    cycles: int = 2
    batch_size: int = 64
    denoiser_learning_rate: float = 3e-3
    average_decay: float = 0.999
    empty_prompt_share: float = 0.1
    contradiction: float = 0.25
    degradation: float = 0.15


@dataclass(frozen=True)
class CaptionedLatents:
    """Pictures of a cycle.

    Attributes:
        latents: scaled, (N, 4, 8, 8).
        captions: N + 1 texts, the empty one first.
        rng: where the pictures' random numbers came from, and the batches' come from.
    """

    latents: torch.Tensor
    captions: list[str]
    rng: np.random.Generator


def clip_config(tokenizer: Any) -> Any:
    """A CLIP text encoder of two layers of width 64."""
    from transformers import CLIPTextConfig

    return CLIPTextConfig(
        vocab_size=len(tokenizer),
        hidden_size=TEXT_WIDTH,
        intermediate_size=4 * TEXT_WIDTH,
        num_hidden_layers=2,
        num_attention_heads=4,
        max_position_embeddings=CONTEXT_LENGTH,
        projection_dim=TEXT_WIDTH,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )


def save_half(pipeline: Any, folder: Path, parts: Sequence[str]) -> None:
    """Write a pipeline of diffusers as half-precision safetensors; its modules stay in single.

    Args:
        parts: those whose configuration says where they were once loaded from, which is nothing about them, and names
            a folder of one machine: it is taken out.
    """
    import torch

    pipeline.to(dtype=torch.float16).save_pretrained(folder)
    pipeline.to(dtype=torch.float32)
    for part in parts:
        config = json.loads((folder / part / "config.json").read_text(encoding="utf-8"))
        config.pop("_name_or_path", None)
        write_json(folder / part / "config.json", config)


def to_tensor(pictures: Pixels) -> torch.Tensor:
    """(N, 32, 32, 3) in [0, 1] to (N, 3, 32, 32) in [-1, 1]."""
    import torch

    return torch.from_numpy(np.ascontiguousarray(pictures.transpose(0, 3, 1, 2))) * 2 - 1


def encode(vae: Any, pictures: Pixels) -> torch.Tensor:
    """Scaled latents (N, 4, 8, 8) of pictures (N, 32, 32, 3) in [0, 1]."""
    import torch

    with torch.no_grad():
        parts = [vae.encode(to_tensor(pictures[i : i + 256])).latents for i in range(0, len(pictures), 256)]
    scale: float = vae.config.scaling_factor
    return torch.cat(parts) * scale


def captioned_latents(recipe: DenoiserRecipe, vae: Any, cycle: int) -> CaptionedLatents:
    """New pictures with the faults of the web for a cycle, from 1."""
    rng = np.random.default_rng(recipe.seed + cycle)
    scenes = [training_scene(rng) for _ in range(recipe.pictures)]
    pictures = faulty(scenes, rng, contradiction=recipe.contradiction, degradation=recipe.degradation)
    return CaptionedLatents(encode(vae, pictures), ["", *(scene.caption for scene in scenes)], rng)


def shuffled_batches(count: int, size: int, steps: int, rng: np.random.Generator, label: str) -> Iterator[np.ndarray]:
    """``steps`` batches of indices, reshuffled every epoch, under a progress bar."""
    queue = np.empty(0, dtype=np.int64)
    for _ in progress(range(steps), label=label, unit="step"):
        while len(queue) < size:
            queue = np.concatenate([queue, rng.permutation(count)])
        yield queue[:size]
        queue = queue[size:]


def fit(
    recipe: DenoiserRecipe,
    parameters: Sequence[torch.nn.Parameter],
    pictures: CaptionedLatents,
    loss: Callable[[torch.Tensor, NDArray[np.int64]], torch.Tensor],
    *,
    label: str,
) -> None:
    """Train parameters in place for one cycle; they end as the average over the steps.

    Args:
        recipe: lengths and rates.
        parameters: all that trains.
        pictures: of this cycle.
        loss: of latents (B, 4, 8, 8) and of the rows (B,) of their captions.
        label: of the progress bar.
    """
    import torch

    rng, latents = pictures.rng, pictures.latents
    optimizer = torch.optim.AdamW(parameters, lr=recipe.denoiser_learning_rate, weight_decay=1e-4)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, recipe.denoiser_learning_rate, total_steps=recipe.denoiser_steps, pct_start=0.1
    )
    average = [p.detach().clone() for p in parameters]
    batches = shuffled_batches(len(latents), recipe.batch_size, recipe.denoiser_steps, rng, label)
    for step, chosen in enumerate(batches, start=1):
        captions = np.where(rng.random(len(chosen)) < recipe.empty_prompt_share, 0, chosen + 1)
        optimizer.zero_grad()
        loss(latents[chosen], captions).backward()
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        schedule.step()
        decay = min(recipe.average_decay, (1 + step) / (10 + step))
        with torch.no_grad():
            torch._foreach_lerp_(average, list(parameters), 1 - decay)
    with torch.no_grad():
        for parameter, mean in zip(parameters, average, strict=True):
            parameter.copy_(mean)
