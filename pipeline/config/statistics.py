"""Block ``statistics``: settings of the intervals."""

from __future__ import annotations

from pydantic import Field

from pipeline.config.block import Block, Seed


class Statistics(Block):
    """Settings of the intervals; docs/statistics.md."""

    confidence: float = Field(default=0.95, gt=0, lt=1, description="Level of the intervals.")
    resamples: int = Field(default=2000, ge=1, description="Bootstrap resamples of prompts, for the mean of one model.")
    seed: Seed = Field(default=0, description="Seed of the resampling.")
