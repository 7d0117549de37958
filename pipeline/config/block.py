"""What all blocks of the config have in common."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from artifacts.validation import NAME_PATTERN

Name = Annotated[str, Field(pattern=NAME_PATTERN, max_length=80)]
"""A name that is used as part of a path, on file systems that ignore case too."""

Seed = Annotated[int, Field(ge=0, lt=2**32)]
Dtype = Literal["float32", "bfloat16", "float16"]


class Block(BaseModel):
    """A block: unknown keys are errors, values are not converted, nothing changes after loading."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)
