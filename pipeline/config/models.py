"""Block ``models``: models from elsewhere, evaluated with nothing trained."""

from __future__ import annotations

from pydantic import Field

from artifacts.block import Block, Name
from artifacts.validation import DIGEST_PATTERN


class Model(Block):
    """A denoiser trained elsewhere: one row of the table, drawn and scored as any other."""

    name: Name = Field(description="Name in paths and tables; no variant's, and not `base`.")
    base: str | None = Field(
        default=None,
        description="Whose denoiser it replaces: name of `base` or of one of `other_bases`; left out, `base`.",
    )
    source: str = Field(
        min_length=1,
        description="A state dict or LoRA (`.pth`, `.pt`, `.bin`, `.safetensors`), a folder in diffusers' layout, or a "
        "hub id `owner/name@revision`.",
    )
    file: str | None = Field(
        default=None,
        min_length=1,
        description="File or folder within `source`; left out, `unet/` or `transformer/`, else the folder itself.",
    )
    sha256: str | None = Field(
        default=None,
        pattern=DIGEST_PATTERN,
        description="Digest of the weight file, checked before it is used; without it, it is only recorded.",
    )
    objective: str | None = Field(default=None, description="What it was trained with, for the tables.")
    safeguard: bool = Field(default=False, description="Whether it was trained with the safeguard, for the tables.")
    baseline: str | None = Field(default=None, description="Variant or model that it is compared with beside its base.")
