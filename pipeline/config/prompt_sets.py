"""Block ``prompt_sets``: the prompts that models are compared on."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field

from artifacts.block import Block
from artifacts.validation import known
from pipeline.config import registries


class PromptSet(Block):
    """One prompt set; its key is its name."""

    source: Annotated[str, known("prompt source", registries.prompt_sources)] = Field(
        description="Prompt source that reads or makes the prompts."
    )
    limit: int | None = Field(default=None, ge=1, description="Only the first so many prompts; left out, all.")
    options: dict[str, Any] = Field(default_factory=dict, description="The source's own options.")
