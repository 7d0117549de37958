"""Block ``published``: figures from the literature, shown beside ours."""

from __future__ import annotations

from pydantic import Field

from artifacts.block import Block


class Published(Block):
    """Figures from the literature that `tables/published.csv` and `published.md` set beside ours."""

    file: str = Field(
        description="CSV file with the columns variant, prompt_set (empty: all), scorer, value and source; rows of "
        "variants and scorers that the benchmark lacks are left out.",
        min_length=1,
    )
