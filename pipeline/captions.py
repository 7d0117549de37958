"""What ``snakemake --report`` shows of a benchmark: files with a caption each, by their folder."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

CATEGORIES = {"tables": "Tables", "figures": "Figures", "report": "Page", "audit": "Audit"}
"""Headings of the archive, by the folder of a file."""


def captioned(files: Sequence[str]) -> list[Any]:
    """The files as outputs of a rule that Snakemake's report shows.

    The caption of ``tables/scores.csv`` is ``workflow/report/tables/scores.rst``, relative to the rules.
    """
    from snakemake.io import report

    return [
        report(
            file,
            caption=f"../report/{folder}/{Path(file).stem}.rst",
            category=CATEGORIES[folder],
            labels={"file": Path(file).name},
        )
        for file in files
        for folder in [Path(file).parent.name]
    ]
