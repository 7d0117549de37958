"""Block ``scorers``: what rates the images."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field

from pipeline.config.block import Block, Dtype


class Scorer(Block):
    """One scorer; its key is its name."""

    protocol: str | None = Field(
        default=None,
        description="How exactly the scorer is run; left out, `sdpo` (the paper's own evaluation code) or, where "
        "the scorer has none, its first.",
    )
    weights: str | None = Field(
        default=None, description="Folder or file of the weights, relative to where snakemake is started."
    )
    dtype: Dtype = Field(default="float32", description="Precision of the model; protocols are defined for `float32`.")
    implementation: Literal["native", "package"] = Field(
        default="native",
        description="`package` runs `imagereward` or `hpsv2` through its original package, one image at a time.",
    )
    prompt_sets: Annotated[list[str], Field(min_length=1)] | None = Field(
        default=None,
        description="Prompt sets whose images it rates; left out, all. Tables have a dash elsewhere. A change "
        "of this runs tables, and of the scoring only jobs that lack scores.",
    )
    options: dict[str, Any] = Field(
        default_factory=dict, description="The scorer's own settings, e.g. `antialias` of `hpsv2`; docs/scorers.md."
    )
