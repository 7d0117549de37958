"""What ``evals score`` prints of a folder: the mean of each scorer, with its interval over prompts."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from artifacts import markdown
from artifacts.image_decoding import described
from evals.tables.intervals import estimate
from evals.tables.numbers import bracketed, decimals, number, percent
from evals.tables.sources import FOLDER, of_table

if TYPE_CHECKING:
    import pandas as pd

    from evals.tables.comparison import Statistics


def summary_markdown(table: pd.DataFrame, statistics: Statistics, met: Mapping[str, int] | None = None) -> str:
    """Means as a Markdown table that reads well as plain text; images that are broken are in none.

    Args:
        table: contract ``folder_scores``.
        met: how many images met what in decoding, by names of :data:`artifacts.image_decoding.MET`.

    Raises:
        InputError: no image has a score.
    """
    source = of_table(table, FOLDER, statistics)
    comparison, matrices = source.comparison, source.matrices
    (variant,) = comparison.variants
    whole = ~np.isnan(next(iter(matrices.values.values()))[0])
    prompts = matrices.units[FOLDER,].of(np.flatnonzero(whole))
    body, cut = [], []
    for scorer, protocol in comparison.scorers.items():
        values = matrices.values[variant, FOLDER, scorer][:, whole]
        low, high = estimate(values, prompts).interval(statistics.confidence)
        digits = decimals([(high - low) / 2])
        names = (markdown.escape(scorer), markdown.escape(protocol))
        body.append([*names, number(float(values.mean()), digits), bracketed(low, high, digits), str(values.size)])
        if count := matrices.truncated[FOLDER, scorer]:
            cut.append(f"{markdown.escape(scorer)} {count}")
    count = int(whole.sum())
    notes = []
    if prompts.units < count:
        notes.append(f"{count} images of {prompts.units} prompts: a prompt's images count as one.")
    if cut:
        notes.append(f"Prompts of which a scorer read only the beginning: {', '.join(cut)} of {prompts.units}.")
    if met:
        notes.append(f"Images that are not plain RGB (docs/image-decoding.md): {described(met)}.")
    if broken := len(whole) - count:
        notes.append(f"{broken} broken images have no score and are in no mean; column `problem` says why.")
    header = ["scorer", "protocol", "mean", f"{percent(statistics.confidence)} interval", "n"]
    lines = [markdown.table(header, body, "llrrr"), "", *(f"- {note}" for note in notes)]
    return "\n".join(lines).rstrip() + "\n"
