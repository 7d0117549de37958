"""Scores of folders as numbers to read: means with intervals, and two folders side by side.

The unit of chance is the prompt: all images of one prompt move together. A comparison is a benchmark's of one model
with another (:mod:`evals.tables.paired`). Holm's adjustment is across the scorers that judge quality.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from artifacts import markdown
from artifacts.errors import InputError
from artifacts.image_decoding import described
from evals.scorers import judges, lower_is_better
from evals.scoring.folder_score_files import common_scorers, paired, read_scores
from evals.tables.comparison import Statistics
from evals.tables.numbers import bracketed, deciding, decimals, number, p_value, percent, signed
from evals.tables.paired import compare_scores, compare_wins, prompts_of
from evals.tables.resampling import Resampling
from evals.tables.statistics import holm

if TYPE_CHECKING:
    import pandas as pd


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
    """a against b by one scorer, over ``n`` images of ``prompts`` prompts; ``left_out`` are broken on a side.

    ``p_value`` and ``p_holm`` belong to the win rate, ``difference_p_value`` and ``difference_p_holm`` to the
    difference; ``p_these_images`` is the exact sign test on prompts. A scorer that only describes images has the
    difference alone, unadjusted.
    """

    scorer: str
    protocol: str
    n: int
    prompts: int
    left_out: int
    mean_difference: float
    difference_ci_low: float
    difference_ci_high: float
    difference_p_value: float
    difference_p_holm: float | None = None
    wins: int | None = None
    ties: int | None = None
    losses: int | None = None
    win_rate: float | None = None
    win_rate_ci_low: float | None = None
    win_rate_ci_high: float | None = None
    p_value: float | None = None
    p_holm: float | None = None
    p_these_images: float | None = None


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
        values, prompts = scored["score"].to_numpy(np.float64), prompts_of([scored["prompt"]])
        ((low, high),) = Resampling(statistics, {"folder": prompts}).intervals(values[None], "folder")
        summaries.append(
            ScoreSummary(
                scorer=str(scorer),
                protocol=str(rows["protocol"].iloc[0]),
                mean=float(values.mean()),
                ci_low=low,
                ci_high=high,
                n=len(scored),
                prompts=prompts.units,
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
    for name in common_scorers((a, b), tables, scorers):
        left, right = (table[table["scorer"] == name] for table in tables)
        rows.append(_compared(name, paired(name, left, right, (a, b)), statistics.confidence))
    judging = [row for row in rows if row.p_value is not None]
    wins = holm([row.p_value for row in judging if row.p_value is not None])
    differences = holm([row.difference_p_value for row in judging])
    adjusted = {row.scorer: ps for row, ps in zip(judging, zip(wins, differences, strict=True), strict=True)}
    return [
        replace(row, p_holm=win, difference_p_holm=difference)
        for row in rows
        for win, difference in [adjusted.get(row.scorer, (None, None))]
    ]


def _compared(name: str, pairs: pd.DataFrame, confidence: float) -> FolderComparison:
    """One row; its p-values are not adjusted yet."""
    whole = pairs[pairs["problem_a"].isna() & pairs["problem_b"].isna()]
    # A folder is one model: a single row, whose columns are images, and images of one prompt move together.
    difference = (whole["score_a"] - whole["score_b"]).to_numpy(np.float64)[None]
    prompts = prompts_of([whole["prompt"]])
    found = compare_scores(difference, prompts, confidence)
    won: dict[str, Any] = {}
    if judges(name):
        wins = compare_wins([-difference if lower_is_better(name) else difference], prompts, confidence)
        won = {
            "wins": wins.wins,
            "ties": wins.ties,
            "losses": wins.losses,
            "win_rate": wins.win_rate,
            "win_rate_ci_low": wins.ci_low,
            "win_rate_ci_high": wins.ci_high,
            "p_value": wins.p_value,
            "p_these_images": wins.p_these_models,
        }
    return FolderComparison(
        scorer=name,
        protocol=str(pairs["protocol_a"].iloc[0]),
        n=len(whole),
        prompts=found.n_texts,
        left_out=len(pairs) - len(whole),
        mean_difference=found.mean_difference,
        difference_ci_low=found.ci_low,
        difference_ci_high=found.ci_high,
        difference_p_value=found.p_value,
        **won,
    )


def summary_markdown(rows: Sequence[ScoreSummary], confidence: float, met: Mapping[str, int] | None = None) -> str:
    """Means as a Markdown table that reads well as plain text.

    Args:
        met: how many images met what in decoding, by names of :data:`artifacts.image_decoding.MET`.
    """
    header = ["scorer", "protocol", "mean", f"{percent(confidence)} interval", "n"]
    body = []
    for row in rows:
        digits = decimals([(row.ci_high - row.ci_low) / 2])
        body.append(
            [row.scorer, row.protocol, number(row.mean, digits), bracketed(row.ci_low, row.ci_high, digits), str(row.n)]
        )
    notes = []
    if any(row.prompts < row.n for row in rows):
        notes.append(f"{rows[0].n} images of {rows[0].prompts} prompts: the interval resamples prompts.")
    if cut := [f"{markdown.escape(row.scorer)} {row.truncated}" for row in rows if row.truncated]:
        notes.append(f"Prompts of which a scorer read only the beginning: {', '.join(cut)} of {rows[0].prompts}.")
    if met:
        notes.append(f"Images that are not plain RGB (docs/image-decoding.md): {described(met)}.")
    if rows[0].broken:
        notes.append(f"{rows[0].broken} broken images have no score and are in no mean; column `problem` says why.")
    return _markdown(header, body, notes)


def comparison_markdown(rows: Sequence[FolderComparison], a: str | Path, b: str | Path, confidence: float) -> str:
    """Comparison as Markdown; a win rate above 0.5 and a difference above 0 are for a."""
    level = percent(confidence)
    header = ["scorer", "protocol", f"win rate [{level}]", "wins", "ties", "losses", "p (Holm)", f"a − b [{level}]"]
    header.append("p (Holm)")
    body = []
    for row in rows:
        digits = decimals([(row.difference_ci_high - row.difference_ci_low) / 2, row.mean_difference])
        digits = deciding(row.difference_ci_low, row.difference_ci_high, digits)
        difference = signed(row.mean_difference, digits)
        difference += f" {bracketed(row.difference_ci_low, row.difference_ci_high, digits, signed)}"
        body.append([row.scorer, row.protocol, *_wins(row), difference, _p(row.difference_p_holm)])
    first = rows[0]
    notes = [
        f"a = {markdown.escape(str(a))}, b = {markdown.escape(str(b))}; {first.n} images of {first.prompts} prompts. "
        "Ties count half.",
        f"Intervals: {level}, over prompts: they speak of these two models on other prompts, and say nothing of "
        "training again. p: by the interval before it, Holm across judges.",
    ]
    if lower := [row.scorer for row in rows if lower_is_better(row.scorer) and judges(row.scorer)]:
        notes.append(f"Lower is better for {markdown.escape(', '.join(lower))}: a wins where its score is lower.")
    if described := [row.scorer for row in rows if row.wins is None]:
        notes.append(f"{markdown.escape(', '.join(described))}: no judgement, so nothing wins or is tested.")
    if first.left_out:
        notes.append(f"{first.left_out} images that are broken on a side are left out.")
    return _markdown(header, body, notes)


def _wins(row: FolderComparison) -> list[str]:
    low, high = row.win_rate_ci_low, row.win_rate_ci_high
    if row.win_rate is None or low is None or high is None:
        return [""] * 5
    shown = f"{number(row.win_rate, 3)} {bracketed(low, high, deciding(low, high, 3, 0.5))}"
    return [shown, *(str(count) for count in (row.wins, row.ties, row.losses)), _p(row.p_holm)]


def _p(value: float | None) -> str:
    return "" if value is None else p_value(value)


def _markdown(header: Sequence[str], body: Sequence[Sequence[str]], notes: Sequence[str]) -> str:
    """The first two cells of a row are names."""
    cells = [[*map(markdown.escape, row[:2]), *row[2:]] for row in (header, *body)]
    table = markdown.table(cells[0], cells[1:], "ll" + "r" * (len(header) - 2))
    return "\n".join([table, "", *(f"- {note}" for note in notes)]).rstrip() + "\n"
