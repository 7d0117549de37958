"""Block ``prompt_sets``: the prompts that models are compared on."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field

from artifacts.block import Block
from artifacts.validation import known
from evals.generation.settings import DrawnApart
from pipeline.config import registries


class PromptSet(Block):
    """One prompt set; its key is its name. It has a source, or shows another's prompts under other settings."""

    source: Annotated[str, known("prompt source", registries.prompt_sources)] | None = Field(
        default=None, description="Prompt source that reads or makes the prompts; needed unless there is `shows`."
    )
    shows: str | None = Field(
        default=None,
        description="In place of a source: another prompt set, whose prompts are drawn once more, from the same start "
        "noise, under this set's `generation`.",
    )
    generation: DrawnApart | None = Field(
        default=None,
        description="Settings of `generation` that are others for this set. Its images are compared among themselves, "
        "and are not in the pooled rows.",
    )
    limit: int | None = Field(default=None, ge=1, description="Only the first so many prompts; left out, all.")
    images_per_prompt: int = Field(
        default=1,
        ge=1,
        description="Images drawn of each prompt, each from start noise of its own; GenEval and DPG-Bench have 4.",
    )
    options: dict[str, Any] = Field(default_factory=dict, description="The source's own options.")
