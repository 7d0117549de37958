"""Block ``base``: the pretrained model that all runs start from."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from artifacts.validation import known
from pipeline.config import registries
from pipeline.config.block import Block, Name


class Base(Block):
    """The pretrained model that all runs start from."""

    name: Name = Field(description="Name in paths and tables.")
    family: Annotated[str, known("base family", registries.base_families)] = Field(
        description="Base family: the code that loads and runs it."
    )
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
