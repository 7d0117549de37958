"""Files of scores of folders."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from artifacts.errors import InputError

if TYPE_CHECKING:
    import pandas as pd


def read_scores(path: str | Path) -> pd.DataFrame:
    """A file of contract ``folder_scores``, each image and scorer once.

    Raises:
        InputError: it is another file, a score is infinite, or a scorer rated an image twice or under two fingerprints.
    """
    import numpy as np

    from artifacts.contracts import CONTRACTS, read_table

    if not Path(path).exists():
        raise InputError(f"{path}: no such file; write it with `evals score --images … --prompts … --out {path}`")
    table = read_table(path, "folder_scores")
    remedy = CONTRACTS["folder_scores"].remedy
    if len(table) == 0:
        raise InputError(f"{path}: holds no scores; {remedy}")
    if (twice := table.duplicated(["scorer", "file"])).any():
        row = table[twice].iloc[0]
        raise InputError(f"{path}: '{row['file']}' has two scores of '{row['scorer']}'; {remedy}")
    if (odd := table["score"].notna() & ~np.isfinite(table["score"])).any():
        row = table[odd].iloc[0]
        raise InputError(f"{path}: '{row['file']}' has the score {row['score']} by '{row['scorer']}'; {remedy}")
    for scorer, rows in table.groupby("scorer", sort=False):
        if rows["fingerprint"].nunique() > 1:
            raise InputError(f"{path}: scores of '{scorer}' have different fingerprints; {remedy}")
    return table
