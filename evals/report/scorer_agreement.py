"""How alike scorers judge the same comparison: rank correlations of their paired differences."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from evals.report.summary import number, signed

if TYPE_CHECKING:
    from evals.report.results import Compared
    from evals.report.score_files import ScoreFiles
    from evals.tables.comparison import Comparison


@dataclass(frozen=True)
class Correlation:
    """Spearman's correlation of two scorers' differences between the variants of ``pair``, −1 to 1.

    Differences are of single images, over prompts and seeds, better ones positive. ``r`` is ``None`` where one of the
    two has no or the same difference everywhere; ``gap`` says so. ``opposed`` is the share of differences of unlike
    sign.
    """

    pair: str
    first: str
    second: str
    r: float | None
    n: int
    opposed: float | None
    gap: str = ""


def correlations(comparison: Comparison, scores: ScoreFiles, pairs: Sequence[Compared]) -> tuple[Correlation, ...]:
    """Those of all scorers that judge, for each pair, over the prompt sets that are pooled and that both rate."""
    found: dict[tuple[Compared, str, str], Correlation] = {}
    for pair in pairs:
        differences = {scorer: _differences(comparison, scores, pair, scorer) for scorer in comparison.judges}
        for first in comparison.judges:
            for second in comparison.judges:
                mirrored = found.get((pair, second, first))
                found[pair, first, second] = (
                    _correlation(f"{pair.a} vs {pair.b}", first, second, differences)
                    # A gap is told by the scorer that comes first.
                    if mirrored is None or mirrored.r is None
                    else replace(mirrored, first=first, second=second)
                )
    return tuple(found.values())


@dataclass(frozen=True)
class PrintedCorrelation:
    """A correlation of two different scorers as printed, once for both orders."""

    pair: str
    scorers: str
    r: str
    opposed: str
    n: int


def unlike(found: Sequence[Correlation]) -> tuple[PrintedCorrelation, ...]:
    """Those of two different scorers, each two once."""
    order = list(dict.fromkeys(row.first for row in found))
    return tuple(
        PrintedCorrelation(
            row.pair,
            f"{row.first}, {row.second}",
            f"– ({row.gap})" if row.r is None else signed(row.r, 2),
            "–" if row.opposed is None else number(row.opposed, 2),
            row.n,
        )
        for row in found
        if order.index(row.first) < order.index(row.second)
    )


def _differences(comparison: Comparison, scores: ScoreFiles, pair: Compared, scorer: str) -> dict[str, np.ndarray]:
    sets = [name for name in comparison.pooled if name in comparison.sets_of(scorer)]
    return {name: scores.difference(comparison, pair.a, pair.b, name, scorer).ravel() for name in sets}


def _correlation(pair: str, first: str, second: str, differences: dict[str, dict[str, np.ndarray]]) -> Correlation:
    from scipy.stats import rankdata

    shared = [name for name in differences[first] if name in differences[second]]
    if not shared:
        return Correlation(pair, first, second, None, 0, None, "no prompt set that both rate")
    x, y = (np.concatenate([differences[scorer][name] for name in shared]) for scorer in (first, second))
    known = np.isfinite(x) & np.isfinite(y)
    x, y = x[known], y[known]
    for scorer, values in ((first, x), (second, y)):
        # Equal up to the rounding of a difference.
        if len(values) < 3 or np.ptp(values) <= 1e-9 * np.abs(values).max():
            return Correlation(pair, first, second, None, len(values), None, f"{scorer} has one difference for all")
    ranks = rankdata(x), rankdata(y)
    r = float(np.corrcoef(*ranks)[0, 1])
    return Correlation(
        pair, first, second, round(r, 6) if math.isfinite(r) else None, len(x), float((x * y < 0).mean())
    )
