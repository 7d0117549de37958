"""Block ``report``: what the page shows beside tables and curves."""

from __future__ import annotations

from pydantic import Field

from artifacts.block import Block


class Grid(Block):
    """The image grid: one model a row, one prompt a column."""

    prompt_set: str | None = Field(default=None, description="Prompt set it shows; left out, the first.")
    prompts: int = Field(default=8, ge=1, description="Columns: so many prompts, spread evenly over the set.")
    seed: int | None = Field(default=None, description="Training seed whose models it shows; left out, the first.")


class Report(Block):
    """What the page shows beside tables and curves."""

    grid: Grid = Field(default_factory=Grid, description="The image grid.")
    beside: list[str] = Field(
        default=[],
        description="Result folders of other benchmarks, such as `results/miniature`, whose main table the page shows "
        "below this one's; one that has none yet is named.",
    )
    scorer_agreement: str | None = Field(
        default=None, description="JSON file that says how often each scorer agrees with an oracle."
    )
