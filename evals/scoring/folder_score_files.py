"""Files of scores of folders: reading one, and pairing two by image and prompt."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from artifacts.errors import InputError
from artifacts.file_names import normal
from artifacts.plugins import nearest

if TYPE_CHECKING:
    import pandas as pd

_KEY = ["file", "prompt"]


def read_scores(path: str | Path) -> pd.DataFrame:
    """A file of contract ``folder_scores``, each image and scorer once.

    Raises:
        InputError: it is another file, or a scorer rated an image twice or under two fingerprints.
    """
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
    for scorer, rows in table.groupby("scorer", sort=False):
        if rows["fingerprint"].nunique() > 1:
            raise InputError(f"{path}: scores of '{scorer}' have different fingerprints; {remedy}")
    return table


def common_scorers(
    paths: tuple[str | Path, str | Path], tables: tuple[pd.DataFrame, pd.DataFrame], wanted: Sequence[str] | None
) -> list[str]:
    """Scorers that both files have.

    Args:
        paths: the files, for messages.
        tables: their content.
        wanted: only these; left out, all, which must be the same on both sides.

    Raises:
        InputError: a file lacks a scorer.
    """
    a, b = paths
    left, right = (list(dict.fromkeys(table["scorer"])) for table in tables)
    for path, names in ((a, left), (b, right)):
        if wanted is not None and (unknown := [name for name in wanted if name not in names]):
            known = ", ".join(names)
            raise InputError(f"{path}: has no scores of '{unknown[0]}', only of {known}{nearest(unknown[0], names)}")
    if wanted is not None:
        return list(wanted)
    for path, names, other in ((b, left, right), (a, right, left)):
        if only := [name for name in names if name not in other]:
            both = ",".join(name for name in left if name in right)
            remedy = f"name the common ones: --scorers {both}" if both else "score both folders with the same scorers"
            raise InputError(f"{path}: has no scores of '{only[0]}', the other file has; {remedy}")
    return left


def paired(name: str, left: pd.DataFrame, right: pd.DataFrame, paths: tuple[str | Path, str | Path]) -> pd.DataFrame:
    """Rows of one scorer for the same image and prompt side by side, columns with the suffixes ``_a`` and ``_b``.

    Raises:
        InputError: protocols, fingerprints, images or prompts do not pair, or no image has a score on both sides.
    """
    a, b = paths
    for column in ("protocol", "fingerprint"):
        one, other = left[column].iloc[0], right[column].iloc[0]
        if one != other:
            raise InputError(
                f"{b}: scorer '{name}' has {column} '{other[:12]}', {a} has '{one[:12]}': these are different scales; "
                "score both folders with the same weights, protocol and dtype"
            )
    # The same image may be named in another Unicode form on another system.
    left, right = (rows.assign(**{key: rows[key].map(normal) for key in _KEY}) for rows in (left, right))
    for here, there, path, other_path in ((left, right, b, a), (right, left, a, b)):
        known = set(zip(there["file"], there["prompt"], strict=True))
        missing = [key for key in zip(here["file"], here["prompt"], strict=True) if key not in known]
        if missing:
            file, prompt = missing[0]
            theirs = there["prompt"][there["file"] == file]
            what = f"'{file}' with another prompt" if len(theirs) else f"no image '{file}'"
            raise InputError(
                f"{path}: has {what}; {other_path} has it with '{prompt[:60]}' ({len(missing)} images do not pair); "
                "score images of the same names made from the same prompts"
            )
    pairs = left.merge(right, on=_KEY, suffixes=("_a", "_b"), how="inner", validate="one_to_one")
    if not (pairs["problem_a"].isna() & pairs["problem_b"].isna()).any():
        raise InputError(f"{a}, {b}: no image has a score of '{name}' on both sides")
    return pairs
