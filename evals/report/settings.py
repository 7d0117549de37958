"""What the stage ``report`` is told."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field

from artifacts.block import Block
from evals.tables.comparison import ComparisonSpec

BROWSER = "report/browser"
"""Folder of the image browser, in that of the benchmark."""
DEGENERATE = "report/degenerate.csv"
"""Counts of images that show nothing or are shown again."""


class GridSettings(Block):
    """The image grid: one model a row, one prompt a column."""

    prompt_set: str = Field(description="Prompt set it shows.")
    prompts: int = Field(ge=1, description="Columns: so many prompts, spread evenly over the set.")
    seed: int = Field(description="Training seed whose models it shows.")


class ReportSpec(ComparisonSpec):
    """The job description of ``evals report``."""

    grid: GridSettings = Field(description="The image grid.")
    beside: list[str] = Field(default=[], description="Folders of benchmarks whose main tables are shown too.")
    scorer_agreement: str | None = Field(
        default=None, description="JSON file that says how often each scorer agrees with an oracle."
    )


def main_table_of(folder: str) -> str:
    """The main table of a benchmark by its result folder."""
    return (Path(folder) / "tables" / "main.html").as_posix()
