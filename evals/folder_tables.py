"""Scores of folders as numbers to read: means with intervals, and two folders side by side.

The unit of chance is the prompt: all images of one prompt are resampled together, and a prompt counts for the side that
wins it in more of its images. Holm's adjustment is across the scorers that judge quality.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from artifacts.errors import InputError
from artifacts.plugins import nearest
from evals.comparison import Statistics
from evals.scorers import judges, lower_is_better
from evals.statistics import (
    Floats,
    clustered_means,
    holm_among,
    labelled_rng,
    percentile_interval,
    preferences,
    sign_test,
    win_rate,
)
from evals.tables.formats import escape_markdown

if TYPE_CHECKING:
    import pandas as pd

_KEY = ["file", "prompt"]


@dataclass(frozen=True)
class ScoreSummary:
    """Mean of one scorer over ``n`` images of ``prompts`` prompts; ``broken`` images are in neither.

    The scorer read only the beginning of ``truncated`` of the prompts.
    """

    scorer: str
    protocol: str
    mean: float
    ci_low: float
    ci_high: float
    n: int
    prompts: int
    broken: int
    truncated: int


@dataclass(frozen=True)
class FolderComparison:
    """a against b by one scorer, over ``n`` images of ``prompts`` prompts; ``left_out`` are broken on a side."""

    scorer: str
    protocol: str
    n: int
    prompts: int
    left_out: int
    wins: int
    ties: int
    losses: int
    win_rate: float
    win_rate_ci_low: float
    win_rate_ci_high: float
    p_value: float
    p_holm: float
    mean_difference: float
    difference_ci_low: float
    difference_ci_high: float


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


def summarise(table: pd.DataFrame, statistics: Statistics) -> list[ScoreSummary]:
    """One row a scorer, in the table's order.

    Raises:
        InputError: no image has a score.
    """
    summaries = []
    for scorer, rows in table.groupby("scorer", sort=False):
        scored = rows[rows["problem"].isna()]
        if len(scored) == 0:
            raise InputError(
                f"scorer '{scorer}': all {len(rows)} images are broken, the first is {rows['file'].iloc[0]}"
            )
        values, groups = scored["score"].to_numpy(np.float64), _groups(scored["prompt"])
        low, high = _interval(values, groups, statistics)
        summaries.append(
            ScoreSummary(
                scorer=str(scorer),
                protocol=str(rows["protocol"].iloc[0]),
                mean=float(values.mean()),
                ci_low=low,
                ci_high=high,
                n=len(scored),
                prompts=int(groups.max()) + 1,
                broken=len(rows) - len(scored),
                truncated=int(scored.drop_duplicates("prompt")["truncated"].sum()),
            )
        )
    return summaries


def compare(
    a: str | Path, b: str | Path, statistics: Statistics, scorers: Sequence[str] | None = None
) -> list[FolderComparison]:
    """Compare two files of scores, image by image.

    Args:
        scorers: only these; left out, all, which must be the same on both sides.

    Raises:
        InputError: files, prompts, scorers or fingerprints do not pair.
    """
    tables = (read_scores(a), read_scores(b))
    rows = []
    for name in _common_scorers((a, b), tables, scorers):
        left, right = (table[table["scorer"] == name] for table in tables)
        rows.append(_compare_scorer(name, left, right, (a, b), statistics))
    adjusted = holm_among(
        {row.scorer: row.p_value for row in rows}, {row.scorer for row in rows if not judges(row.scorer)}
    )
    return [replace(row, p_holm=adjusted[row.scorer]) for row in rows]


def _common_scorers(
    paths: tuple[str | Path, str | Path], tables: tuple[pd.DataFrame, pd.DataFrame], wanted: Sequence[str] | None
) -> list[str]:
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


def _compare_scorer(
    name: str, left: pd.DataFrame, right: pd.DataFrame, paths: tuple[str | Path, str | Path], statistics: Statistics
) -> FolderComparison:
    """One row; its ``p_holm`` is not adjusted yet."""
    a, b = paths
    for column in ("protocol", "fingerprint"):
        one, other = left[column].iloc[0], right[column].iloc[0]
        if one != other:
            raise InputError(
                f"{b}: scorer '{name}' has {column} '{other[:12]}', {a} has '{one[:12]}': these are different scales; "
                "score both folders with the same weights, protocol and dtype"
            )
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
    whole = pairs[pairs["problem_a"].isna() & pairs["problem_b"].isna()]
    if len(whole) == 0:
        raise InputError(f"{a}, {b}: no image has a score of '{name}' on both sides")
    difference = (whole["score_a"] - whole["score_b"]).to_numpy(np.float64)
    better = -difference if lower_is_better(name) else difference
    groups = _groups(whole["prompt"])
    wins, losses = int((better > 0).sum()), int((better < 0).sum())
    ties = len(better) - wins - losses
    # A prompt counts once, for the side that wins it in more of its images.
    net = np.sign(np.bincount(groups, weights=np.sign(better)))
    p_value = sign_test(int((net > 0).sum()), int((net < 0).sum()))
    rate_low, rate_high = _interval(preferences(better), groups, statistics)
    low, high = _interval(difference, groups, statistics)
    return FolderComparison(
        scorer=name,
        protocol=str(left["protocol"].iloc[0]),
        n=len(whole),
        prompts=int(groups.max()) + 1,
        left_out=len(pairs) - len(whole),
        wins=wins,
        ties=ties,
        losses=losses,
        win_rate=win_rate(wins, ties, losses),
        win_rate_ci_low=rate_low,
        win_rate_ci_high=rate_high,
        p_value=p_value,
        p_holm=p_value,
        mean_difference=float(difference.mean()),
        difference_ci_low=low,
        difference_ci_high=high,
    )


def _groups(prompts: pd.Series[str]) -> NDArray[np.int64]:
    import pandas as pd

    return pd.factorize(prompts)[0].astype(np.int64)


def _interval(values: Floats, groups: NDArray[np.int64], statistics: Statistics) -> tuple[float, float]:
    """The draws depend on the seed and the number of prompts alone, so all scorers meet the same resamples."""
    rng = labelled_rng(statistics.seed, "folder", int(groups.max()) + 1)
    return percentile_interval(clustered_means(values, groups, statistics.resamples, rng), statistics.confidence)


def summary_markdown(rows: Sequence[ScoreSummary], confidence: float) -> str:
    """Means as a Markdown table that reads well as plain text."""
    header = ["scorer", "protocol", "mean", f"{_percent(confidence)} interval", "n"]
    body = []
    for row in rows:
        digits = _decimals(row.ci_high - row.ci_low, row.mean)
        interval = f"[{row.ci_low:.{digits}f}, {row.ci_high:.{digits}f}]"
        body.append([row.scorer, row.protocol, f"{row.mean:.{digits}f}", interval, str(row.n)])
    notes = []
    if any(row.prompts < row.n for row in rows):
        notes.append(f"{rows[0].n} images of {rows[0].prompts} prompts: the interval resamples prompts.")
    if cut := [f"{escape_markdown(row.scorer)} {row.truncated}" for row in rows if row.truncated]:
        notes.append(f"Prompts of which a scorer read only the beginning: {', '.join(cut)} of {rows[0].prompts}.")
    if rows[0].broken:
        notes.append(f"{rows[0].broken} broken images have no score and are in no mean; column `problem` says why.")
    return _markdown(header, body, 2, notes)


def comparison_markdown(rows: Sequence[FolderComparison], a: str | Path, b: str | Path, confidence: float) -> str:
    """Comparison as Markdown; a win rate above 0.5 and a difference above 0 are for a."""
    percent = _percent(confidence)
    header = ["scorer", "protocol", "win rate", "wins", "ties", "losses", "p", "p (Holm)", f"a − b [{percent}]"]
    body = []
    for row in rows:
        digits = _decimals(row.difference_ci_high - row.difference_ci_low, row.mean_difference)
        body.append(
            [
                row.scorer,
                row.protocol,
                f"{row.win_rate:.3f} [{row.win_rate_ci_low:.3f}, {row.win_rate_ci_high:.3f}]",
                *map(str, (row.wins, row.ties, row.losses)),
                _p(row.p_value),
                _p(row.p_holm),
                f"{row.mean_difference:+.{digits}f} "
                f"[{row.difference_ci_low:+.{digits}f}, {row.difference_ci_high:+.{digits}f}]",
            ]
        )
    first = rows[0]
    notes = [
        f"a = {escape_markdown(str(a))}, b = {escape_markdown(str(b))}; {first.n} images of {first.prompts} prompts. "
        "Ties count half.",
        f"Intervals: {percent}, prompts resampled. p: exact two-sided sign test on prompts; Holm across judges.",
    ]
    if first.left_out:
        notes.append(f"{first.left_out} images that are broken on a side are left out.")
    return _markdown(header, body, 2, notes)


def _p(value: float) -> str:
    return f"{value:.3f}" if value >= 0.001 else f"{value:.0e}"


def _percent(share: float) -> str:
    return f"{100 * share:g} %"


def _decimals(width: float, value: float) -> int:
    """So that half the interval's width, or the value where there is none, shows two digits."""
    scale = width / 2 or abs(value)
    return min(max(1 - math.floor(math.log10(scale)), 0), 8) if scale > 0 else 2


def _markdown(header: Sequence[str], body: Sequence[Sequence[str]], labels: int, notes: Sequence[str]) -> str:
    cells = [[escape_markdown(cell) if i < labels else cell for i, cell in enumerate(row)] for row in (header, *body)]
    widths = [max(3, *(len(row[i]) for row in cells)) for i in range(len(header))]
    rule = ["-" * width if i < labels else "-" * (width - 1) + ":" for i, width in enumerate(widths)]
    aligned = [
        [cell.ljust(widths[i]) if i < labels else cell.rjust(widths[i]) for i, cell in enumerate(row)]
        for row in (cells[0], rule, *cells[1:])
    ]
    lines = ["| " + " | ".join(row) + " |" for row in aligned]
    return "\n".join([*lines, "", *(f"- {note}" for note in notes)]).rstrip() + "\n"
