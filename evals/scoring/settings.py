"""What the stages ``score`` and ``gather`` are told."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from artifacts.block import Block, Dtype
from evals.generation.settings import DrawnSpec, ShareSpec


class ScorerSettings(Block):
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
    options: dict[str, Any] = Field(
        default_factory=dict, description="The scorer's own settings, e.g. `antialias` of `hpsv2`; docs/scorers.md."
    )


class ScoreSpec(ShareSpec):
    """The job description of ``evals score``."""

    scorers: dict[str, ScorerSettings] = Field(description="Scorers by name.")
    rated: dict[str, list[str]] = Field(
        default={}, description="Prompt sets of the scorers that do not rate all of them, by name."
    )
    batch_size: int = Field(ge=1, description="Images a scorer rates at once.")
    cache: str | None = Field(default=None, description="Folder of a score cache; left out, none.")
    device: str | None = Field(default=None, description="What models run on; left out, a free GPU if there is one.")

    def raters(self, prompt_set: str) -> list[str]:
        """Scorers that rate a prompt set."""
        return [name for name in self.scorers if prompt_set in self.rated.get(name, (prompt_set,))]


class GatherSpec(DrawnSpec):
    """The job description of ``evals gather``."""

    rated: dict[str, list[str]] = Field(description="Prompt sets that each scorer has rated, by scorer.")
    shards: int = Field(ge=1, description="Number of jobs that have scored the images.")
