"""Block ``base``: the pretrained model that all runs start from."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from artifacts.block import BaseBlock
from artifacts.validation import known
from pipeline.config import registries


class Base(BaseBlock):
    """The pretrained model that all runs start from."""

    family: Annotated[str, known("base family", registries.base_families)] = Field(
        description=BaseBlock.model_fields["family"].description
    )
