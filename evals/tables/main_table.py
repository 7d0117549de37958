"""The main table in the paper's layout, before it takes a format: rows variants, columns prompt set by scorer."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from evals.tables.numbers import MOST_DECIMALS, deciding, decimals, number, percent, signed
from evals.tables.rows import MEAN_OF_JUDGES, POOLED, DifferenceRow, RankRow, ScoreRow, WinRateRow
from evals.tables.table_notes import notes

if TYPE_CHECKING:
    from evals.tables.comparison import Comparison

DECIDED, DECIDED_HERE = "†", "‡"
"""Marks of an interval that excludes no difference: over prompts and seeds, and over prompts alone."""


NOT_RATED = "–"
"""In the place of a number: the scorer does not rate the prompt set."""

MEAN_WIN_RATE = "mean win rate"
"""Column of the judges' mean win rate against the base."""


class Marked(NamedTuple):
    """A text, and ``†`` or ``‡`` if the interval in it excludes no difference."""

    text: str = ""
    mark: str = ""


@dataclass(frozen=True)
class Cell:
    """What a variant has in a column, as printed; all texts may be empty.

    Attributes:
        value: mean score, or mean win rate against the base.
        place: 1 and 2 where the mean is the best and the second best of its base's variants, else 0.
        tied: whether the interval of its difference to the best holds zero; not said of the best itself.
        interval: its interval.
        against: what stands below it, one for each of :attr:`MainTable.against`: the difference with its half width, or
            the interval of the win rate.
    """

    value: str = ""
    place: int = 0
    tied: bool = False
    interval: str = ""
    against: tuple[Marked, ...] = (Marked(), Marked())


@dataclass(frozen=True)
class TableRow:
    """A variant's label cells, one a label column, its base, and its cells by (prompt set, column)."""

    labels: tuple[str, ...]
    base: str
    cells: Mapping[tuple[str, str], Cell]


@dataclass(frozen=True)
class Block:
    """Columns that stand together in every prompt set; ``heading`` is empty for the scorers that judge."""

    heading: str
    columns: tuple[str, ...]


@dataclass(frozen=True)
class MainTable:
    """A table without a format; all text is raw and is escaped by the format that prints it.

    ``against`` labels the lines below a variant's means: its differences to base and baseline.
    """

    title: str
    label_columns: tuple[str, ...]
    prompt_sets: tuple[str, ...]
    blocks: tuple[Block, ...]
    confidence: str
    rows: tuple[TableRow, ...]
    against: tuple[str, str]
    notes: tuple[str, ...]


def main_table(
    scores: Sequence[ScoreRow],
    differences: Sequence[DifferenceRow],
    win_rates: Sequence[WinRateRow],
    ranks: Sequence[RankRow],
    comparison: Comparison,
    generation: Mapping[str, Any] | None,
    trained: Mapping[str, Mapping[str, Any]],
) -> MainTable:
    """Arrange the rows of ``scores.csv`` with ``seed`` = ``all``, and what is compared with base and baseline.

    Args:
        scores, differences, win_rates, ranks: rows of these tables.
        comparison: gives the order of rows and columns.
        generation: how images were made, as key and value, for the notes.
        trained: how variants were trained (:func:`evals.tables.trainings.trainings`), for the notes.
    """
    pooled = {(row.variant, row.prompt_set, row.scorer): row for row in scores if row.seed == POOLED}
    order = row_order(comparison)
    bases = {variant: comparison.untrained(variant) for variant in order}
    baselines = {variant: comparison.of_variant(variant)[0].baseline for variant in order}
    against = {(r.a, r.prompt_set, r.scorer): r for r in differences if r.b == bases.get(r.a)}
    own = {(r.a, r.prompt_set, r.scorer): r for r in differences if r.b == baselines.get(r.a)}
    wins = {
        (r.a, r.b == baselines.get(r.a), r.prompt_set): r
        for r in win_rates
        if r.scorer == MEAN_OF_JUDGES and r.b in (bases.get(r.a), baselines.get(r.a))
    }
    # Where all are equal nobody is best, and of two nobody is second.
    unequal = {(r.base, r.prompt_set, r.scorer) for r in ranks if r.rank > 1}
    placed = [r for r in ranks if r.rank <= min(2, r.of - 1) and (r.base, r.prompt_set, r.scorer) in unequal]
    places = {(r.variant, r.prompt_set, r.scorer): r.rank for r in placed}
    tied = {(r.variant, r.prompt_set, r.scorer) for r in ranks if r.tied and r.rank > 1}
    digits = column_decimals(comparison.scorers, scores, differences)
    several_bases = len({comparison.base_of(variant) for variant in order}) > 1
    several_pairs = len({model.pairs for model in comparison.models if model.trained}) > 1
    more = [name for name, shown in (("base", several_bases), ("pairs", several_pairs)) if shown]
    rows = []
    for variant in order:
        first = comparison.of_variant(variant)[0]
        labels = [variant, "on" if first.safeguard else "", *(getattr(first, name) or "" for name in more)]
        cells = {}
        for name in comparison.prompt_sets:
            for scorer in comparison.scorers:
                key = variant, name, scorer
                cells[name, scorer] = Cell(NOT_RATED)
                if scorer in comparison.raters(name):
                    cells[name, scorer] = _cell(
                        pooled[key], places.get(key, 0), key in tied, (against.get(key), own.get(key)), digits[scorer]
                    )
            # The base meets no base, and one judge has no mean.
            cells[name, MEAN_WIN_RATE] = Cell("" if bases[variant] is None else NOT_RATED)
            if (win := wins.get((variant, False, name))) is not None:
                below = (_win_interval(win), _win_interval(wins.get((variant, True, name))))
                cells[name, MEAN_WIN_RATE] = Cell(number(win.win_rate, 3), interval=below[0].text, against=below)
        rows.append(TableRow(tuple(labels), first.base, cells))
    judging = Block("", (*comparison.judges, *([MEAN_WIN_RATE] if wins else [])))
    described = tuple(name for name in comparison.scorers if name in comparison.no_judges)
    describing = Block("what describes images and judges nothing", described)
    return MainTable(
        title=comparison.benchmark,
        label_columns=("variant", "safeguard", *more),
        prompt_sets=comparison.prompt_sets,
        blocks=tuple(block for block in (judging, describing) if block.columns),
        confidence=percent(comparison.statistics.confidence),
        rows=tuple(rows),
        against=(f"minus {comparison.reference or 'base'}", "minus baseline"),
        notes=notes(
            pooled, tuple(against.values()), tuple(own.values()), comparison, generation, trained, wins=bool(wins)
        ),
    )


def row_order(comparison: Comparison) -> tuple[str, ...]:
    """Variants of one base together, in the comparison's order, each safeguarded one directly below its baseline."""
    bases = dict.fromkeys(model.base for model in comparison.models)
    in_bases = [variant for base in bases for variant in comparison.variants if comparison.base_of(variant) == base]
    baseline = {variant: comparison.of_variant(variant)[0].baseline for variant in in_bases}
    order: list[str] = []
    for variant in in_bases:
        if baseline[variant] not in comparison.variants:
            order.append(variant)
            order += [other for other in in_bases if baseline[other] == variant]
    # Whatever hangs from a baseline that has one itself keeps its place at the end of its base.
    listed = dict.fromkeys([*order, *in_bases])
    return tuple(sorted(listed, key=lambda variant: list(bases).index(comparison.base_of(variant))))


def column_decimals(
    scorers: Iterable[str], scores: Sequence[ScoreRow], differences: Sequence[DifferenceRow]
) -> dict[str, int]:
    """Decimals with which a typical half width of a scorer's differences, or means, shows two significant digits."""
    digits = {}
    for scorer in scorers:
        of_scorer = [row for row in scores if row.scorer == scorer and row.seed == POOLED]
        widths = [(row.ci_high - row.ci_low) / 2 for row in differences if row.scorer == scorer]
        widths = widths or [(row.ci_high - row.ci_low) / 2 for row in of_scorer]
        digits[scorer] = decimals(widths if any(widths) else [row.mean / 10 for row in of_scorer])
    return digits


def _cell(row: ScoreRow, place: int, tied: bool, against: Sequence[DifferenceRow | None], digits: int) -> Cell:
    interval = f"{number(row.ci_low, digits)} to {number(row.ci_high, digits)}"
    return Cell(number(row.mean, digits), place, tied, interval, tuple(_difference(found, digits) for found in against))


def _difference(row: DifferenceRow | None, digits: int) -> Marked:
    if row is None:
        return Marked()
    half, mean = (row.ci_high - row.ci_low) / 2, row.mean_difference
    # The half width is printed, not the ends: it must be less than the difference where the interval excludes zero.
    exact = deciding(abs(mean) - half, abs(mean) + half, digits)
    while exact < MOST_DECIMALS and (round(abs(mean), exact) > round(half, exact)) != (abs(mean) > half):
        exact += 1
    return Marked(f"{signed(mean, exact)} ± {number(half, exact)}", _mark(row.ci_low, row.ci_high, 0.0, row.n_seeds))


def _win_interval(row: WinRateRow | None) -> Marked:
    if row is None:
        return Marked()
    digits = deciding(row.ci_low, row.ci_high, 3, 0.5)
    text = f"{number(row.ci_low, digits)} to {number(row.ci_high, digits)}"
    return Marked(text, _mark(row.ci_low, row.ci_high, 0.5, row.n_seeds))


def _mark(low: float, high: float, null: float, seeds: int) -> str:
    if low <= null <= high:
        return ""
    return DECIDED if seeds > 1 else DECIDED_HERE
