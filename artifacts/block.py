"""Blocks of a config and of job descriptions: what they have in common."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field

from artifacts.validation import COMMIT_PATTERN, NAME_PATTERN, parse

Name = Annotated[str, Field(pattern=NAME_PATTERN, max_length=80)]
"""A name that is used as part of a path, on file systems that ignore case too."""

Seed = Annotated[int, Field(ge=0, lt=2**32)]
Dtype = Literal["float32", "bfloat16", "float16"]


class Block(BaseModel):
    """A block: unknown keys are errors, values are not converted, nothing changes after loading."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)


class LanguageBlock(Block):
    """What runs the language part of a base that brings its own code: a process of another Python."""

    allow_remote_code: bool = Field(
        default=False,
        description="Whether the code in the checkpoint may run, where prompts are encoded and nowhere else.",
    )
    python: str = Field(
        description="The interpreter, of an environment with the packages that this code was written for.", min_length=1
    )
    revision: str = Field(
        pattern=COMMIT_PATTERN, description="Commit of the code that was read, and of the weights beside it."
    )


class BaseBlock(Block):
    """A pretrained model."""

    name: Name = Field(description="Name in paths and tables.")
    family: str = Field(description="Base family: the code that loads and runs it.")
    path: str = Field(
        description="Folder in diffusers' own layout, relative to where snakemake is started, or a hub id "
        "`owner/name@revision`.",
        min_length=1,
    )
    vae: str | None = Field(
        default=None,
        description="Another autoencoder instead of the base's own, a folder or a hub id; published for SDXL: "
        "madebyollin/sdxl-vae-fp16-fix.",
        min_length=1,
    )
    without: list[str] | None = Field(
        default=None,
        description="Text encoders of the base that are left out, such as `text_encoder_3` of SD3, whose T5 has 4.7 "
        "billion parameters; the denoiser is told zeros in their place.",
    )
    language: LanguageBlock | None = Field(
        default=None, description="What encodes the prompts of Ovis-U1, whose language part is code of its own."
    )


class JobSpec(Block):
    """What the command of a stage is told by ``--spec``."""

    stage_version: int | None = Field(default=None, description="Number of the stage, see `pipeline/stages.py`.")


Spec = TypeVar("Spec", bound=JobSpec)


def checked(model: type[Spec], spec: Mapping[str, Any], command: str) -> Spec:
    """A job description as the model of its command.

    Raises:
        InputError: with all that is wrong with it, in one line.
    """
    return parse(model, spec, f"--spec of {command}")
