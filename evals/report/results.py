"""Read back the long-form tables of a benchmark, and the order and kinds of its comparisons."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from evals.tables.comparison import ASKED, BASE, BASELINE
from evals.tables.main_table import row_order
from evals.tables.rows import CostRow, DifferenceRow, DriftRow, RankRow, ScoreRow, WinRateRow, read_rows

if TYPE_CHECKING:
    from evals.tables.comparison import Comparison


@dataclass(frozen=True)
class Results:
    """The rows of ``scores``, ``win_rates``, ``differences``, ``drift``, ``ranks`` and ``costs.csv``, in file order."""

    scores: tuple[ScoreRow, ...]
    win_rates: tuple[WinRateRow, ...]
    differences: tuple[DifferenceRow, ...]
    drift: tuple[DriftRow, ...]
    ranks: tuple[RankRow, ...]
    costs: tuple[CostRow, ...]

    @classmethod
    def read(cls, root: Path) -> Results:
        """Read all six tables below ``root/tables``.

        Raises:
            InputError: a table is missing or malformed.
        """
        tables = root / "tables"
        return cls(
            scores=read_rows(tables / "scores.csv", ScoreRow),
            win_rates=read_rows(tables / "win_rates.csv", WinRateRow),
            differences=read_rows(tables / "differences.csv", DifferenceRow),
            drift=read_rows(tables / "drift.csv", DriftRow),
            ranks=read_rows(tables / "ranks.csv", RankRow),
            costs=read_rows(tables / "costs.csv", CostRow),
        )


@dataclass(frozen=True)
class Compared:
    """Two variants of a comparison, and the seeds that both have; 1 where nothing was trained."""

    a: str
    b: str
    seeds: int


@dataclass(frozen=True)
class Group:
    """Comparisons of one kind (see :class:`evals.tables.comparison.Pair`) and base, under one heading."""

    kind: str
    heading: str
    pairs: tuple[Compared, ...]


def groups(comparison: Comparison, results: Results) -> tuple[Group, ...]:
    """What is compared, against baselines first, in the order of the main table."""
    position = {variant: index for index, variant in enumerate(row_order(comparison))}
    found: dict[tuple[str, str], dict[tuple[str, str], int]] = {}
    for row in results.differences:
        found.setdefault((row.kind, row.base), {})[row.a, row.b] = row.n_seeds
    kinds = (BASELINE, BASE, ASKED)
    several = len({model.base for model in comparison.models}) > 1
    listed = []
    for kind, base in sorted(found, key=lambda key: kinds.index(key[0])):
        pairs = [Compared(a, b, seeds) for (a, b), seeds in found[kind, base].items()]
        if kind != ASKED:
            pairs.sort(key=lambda pair: position.get(pair.a, len(position)))
        heading = _heading(comparison, kind, pairs)
        listed.append(Group(kind, f"{heading}: {base}" if several else heading, tuple(pairs)))
    return tuple(listed)


def _heading(comparison: Comparison, kind: str, pairs: list[Compared]) -> str:
    if kind == BASE:
        return "Every variant against the base"
    if kind == ASKED:
        return "Comparisons asked for"
    guarded = all(comparison.of_variant(pair.a)[0].safeguard for pair in pairs)
    return "Safeguard against its baseline" if guarded else "Variants against their baselines"
