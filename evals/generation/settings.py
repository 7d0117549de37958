"""What the stages ``generate`` and ``collect`` are told."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from artifacts.block import BaseBlock, Block, JobSpec
from artifacts.validation import DIGEST_PATTERN
from evals.generation.sampling import SamplingSettings


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


class GenerateSpec(DrawnSpec):
    """The job description of ``evals generate``."""

    base: BaseBlock = Field(description="The base of all models.")
    sources: dict[str, ExternalModel] = Field(default={}, description="Models that were not trained here, by name.")
    generation: SamplingSettings = Field(description="How images are drawn.")
    shard: Annotated[list[int], Field(min_length=2, max_length=2)] = Field(
        default=[0, 1], description="Number of this job, from 0, and of the jobs that share the images."
    )
    threads: int = Field(default=1, ge=1, description="CPU threads.")


class CollectSpec(DrawnSpec):
    """The job description of ``evals collect``."""

    shards: int = Field(ge=1, description="Number of jobs that have drawn the images.")
