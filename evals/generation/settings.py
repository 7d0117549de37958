"""What the stages ``generate`` and ``collect`` are told."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import Field

from artifacts.block import BaseBlock, Block, Dtype, JobSpec, Seed
from artifacts.validation import DIGEST_PATTERN, known

PROTOCOLS = ("clean", "sdpo")
SCHEDULERS = ("ddim", "euler", "dpm_solver")
OF_FLOWS = {"protocol": "clean", "scheduler": "euler"}
"""The only way in which flow models are drawn."""


class SamplingSettings(Block):
    """How images are drawn; the same for all models."""

    protocol: Annotated[str, known("protocol", lambda: list(PROTOCOLS))] = Field(
        default="clean",
        description="`clean`: guidance as named, start noise of each prompt from its own seed. `sdpo`: as the "
        "paper's evaluation code does it.",
    )
    scheduler: Annotated[str, known("scheduler", lambda: list(SCHEDULERS))] = Field(
        default="ddim", description="Sampler."
    )
    steps: int = Field(default=20, ge=1, description="Denoising steps.")
    guidance_scale: float = Field(
        default=5.0,
        ge=0,
        description="Classifier-free guidance; 1 is none. Under `protocol: sdpo` one more than it says, and 0 is none.",
    )
    batch_size: int = Field(default=64, ge=1, description="Images drawn at once; never changes the start noise.")
    seed: Seed = Field(default=0, description="Seed from which the seed of each prompt is derived.")
    size: int | None = Field(
        default=None,
        ge=8,
        description="Height and width in pixels, one that the base's configuration says it was trained at; left out, "
        "that of its denoiser (`sample_size`), unless its autoencoder says a larger one.",
    )
    dtype: Dtype = Field(default="float32", description="Precision of the model.")

    @property
    def effective_guidance(self) -> float:
        """The factor w of ``uncond + w (cond - uncond)``."""
        return self.guidance_scale + 1 if self.protocol == "sdpo" else self.guidance_scale

    @property
    def working_dtype(self) -> str:
        """Precision of text encoders, latents and guidance."""
        return self.dtype if self.protocol == "sdpo" else "float32"


def with_effect(settings: Mapping[str, Any], protocol: str | None) -> dict[str, Any]:
    """Some of the settings for a reader: behind a guidance that is not what it says, the one in effect.

    Args:
        settings: by key.
        protocol: under which they are meant; ``None`` if it is not known.
    """
    shown: dict[str, Any] = {}
    for key, value in settings.items():
        shown[key] = value
        if key == "guidance_scale" and value is not None and protocol is not None:
            effective = SamplingSettings(protocol=protocol, guidance_scale=value).effective_guidance
            shown |= {"effective_guidance": effective} if effective != value else {}
    return shown


class DrawnApart(Block):
    """Settings that are others for one prompt set; each means what it does in :class:`SamplingSettings`."""

    guidance_scale: float | None = Field(
        default=None, ge=0, description="Classifier-free guidance; 1 is none, and 0 under `protocol: sdpo`."
    )
    steps: int | None = Field(default=None, ge=1, description="Denoising steps.")
    scheduler: Annotated[str, known("scheduler", lambda: list(SCHEDULERS))] | None = Field(
        default=None, description="Sampler."
    )
    seed: Seed | None = Field(default=None, description="Seed from which the seed of each prompt is derived.")

    def of(self, settings: SamplingSettings) -> SamplingSettings:
        """The settings with these in their place."""
        return settings.model_copy(update=self.model_dump(exclude_none=True))


class ExternalModel(Block):
    """Where a denoiser that was trained elsewhere lies."""

    source: str = Field(min_length=1, description="File, folder, or hub id `owner/name@revision`.")
    file: str | None = Field(default=None, min_length=1, description="File or folder within `source`.")
    sha256: str | None = Field(
        default=None, pattern=DIGEST_PATTERN, description="Digest that the weight file has to have."
    )


class DrawnSpec(JobSpec):
    """A job about the images of some models on some prompt sets."""

    root: str = Field(description="Folder of the benchmark, `results/<benchmark>`.")
    models: list[str] = Field(description="Names of models; `<base>/base` is the base itself.")
    prompt_sets: list[str] = Field(description="Names of prompt sets.")
    images_per_prompt: dict[str, Annotated[int, Field(ge=1)]] = Field(
        default={}, description="Images a prompt of the prompt sets that have more than one, by name."
    )


class ShareSpec(DrawnSpec):
    """A job about all of these images, or about its share of them."""

    shard: Annotated[list[int], Field(min_length=2, max_length=2)] = Field(
        default=[0, 1], description="Number of this job, from 0, and of the jobs that share the images."
    )
    threads: int = Field(default=1, ge=1, description="CPU threads.")


class GenerateSpec(ShareSpec):
    """The job description of ``evals generate``."""

    base: BaseBlock = Field(description="The base of all models.")
    sources: dict[str, ExternalModel] = Field(default={}, description="Models that were not trained here, by name.")
    generation: SamplingSettings = Field(description="How images are drawn.")
    apart: dict[str, SamplingSettings] = Field(
        default={}, description="How the images of a prompt set are drawn that has other settings."
    )


class CollectSpec(DrawnSpec):
    """The job description of ``evals collect``."""

    shards: int = Field(ge=1, description="Number of jobs that have drawn the images.")
