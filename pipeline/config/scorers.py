"""Block ``scorers``: what rates the images."""

from __future__ import annotations

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
