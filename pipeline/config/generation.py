"""Block ``generation``: how images are drawn from a model."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from artifacts.validation import known
from pipeline.config import registries
from pipeline.config.block import Block, Dtype, Seed


class Generation(Block):
    """How images are drawn; the same for all models."""

    protocol: Annotated[str, known("protocol", registries.generation_protocols)] = Field(
        default="clean",
        description="`clean`: guidance as named, start noise of each prompt from its own seed. `sdpo`: as the "
        "paper's evaluation code does it.",
    )
    scheduler: Annotated[str, known("scheduler", registries.schedulers)] = Field(default="ddim", description="Sampler.")
    steps: int = Field(default=20, ge=1, description="Denoising steps.")
    guidance_scale: float = Field(default=5.0, ge=0, description="Classifier-free guidance; 1 is none.")
    batch_size: int = Field(default=64, ge=1, description="Images drawn at once; never changes the start noise.")
    seed: Seed = Field(default=0, description="Seed from which the seed of each prompt is derived.")
    size: int | None = Field(
        default=None,
        ge=8,
        description="Height and width in pixels, one that the base's configuration says it was trained at; left out, "
        "that of its denoiser (`sample_size`), unless its autoencoder says a larger one.",
    )
    dtype: Dtype = Field(default="float32", description="Precision of the model.")
