"""Block ``scorers``: what rates the images."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from evals.scoring.settings import ScorerSettings


class Scorer(ScorerSettings):
    """One scorer; its key is its name."""

    prompt_sets: Annotated[list[str], Field(min_length=1)] | None = Field(
        default=None,
        description="Prompt sets whose images it rates; left out, all. Tables have a dash elsewhere. A change "
        "of this runs tables, and of the scoring only jobs that lack scores.",
    )
