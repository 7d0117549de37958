"""The main table in the paper's layout, before it takes a format: rows variants, columns prompt set by scorer."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from evals.tables.numbers import MOST_DECIMALS, deciding, decimals, number, percent, signed
from evals.tables.rows import MEAN_OF_JUDGES, POOLED, DifferenceRow, ScoreRow, WinRateRow
from evals.tables.table_notes import notes

if TYPE_CHECKING:
    from evals.tables.comparison import Comparison

DECIDED, DECIDED_HERE = "†", "‡"
"""Marks of an interval that excludes no difference: over prompts and seeds, and over prompts alone."""


NOT_RATED = "–"
"""In the place of a number: the scorer does not rate the prompt set."""

MEAN_WIN_RATE = "mean win rate"
"""Column of the judges' mean win rate against the base."""


@dataclass(frozen=True)
class Cell:
    """What a variant has in a column, as printed; all texts may be empty.

    Attributes:
        value: mean score, or mean win rate against the base.
        best: whether the mean is the best of its base's variants.
        interval: its interval.
        against_base: difference to the base with its half width, or the win rate's interval.
        mark: ``†`` or ``‡`` if that excludes no difference.
    """

    value: str = ""
    best: bool = False
    interval: str = ""
    against_base: str = ""
    mark: str = ""


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

    ``against`` is the label of the lines that hold differences.
    """

    title: str
    label_columns: tuple[str, ...]
    prompt_sets: tuple[str, ...]
    blocks: tuple[Block, ...]
    confidence: str
    rows: tuple[TableRow, ...]
    against: str
    notes: tuple[str, ...]


def main_table(
    scores: Sequence[ScoreRow],
    differences: Sequence[DifferenceRow],
    win_rates: Sequence[WinRateRow],
    comparison: Comparison,
    generation: Mapping[str, Any] | None,
    trained: Mapping[str, Mapping[str, Any]],
) -> MainTable:
    """Arrange the rows of ``scores.csv`` with ``seed`` = ``all``, and what is compared with the base.

    Args:
        scores, differences, win_rates: rows of these tables.
        comparison: gives the order of rows and columns.
        generation: how images were made, as key and value, for the notes.
        trained: how variants were trained (:func:`evals.tables.trainings.trainings`), for the notes.
    """
    pooled = {(row.variant, row.prompt_set, row.scorer): row for row in scores if row.seed == POOLED}
    order = row_order(comparison)
    bases = {variant: comparison.untrained(variant) for variant in order}
    against = {(r.a, r.prompt_set, r.scorer): r for r in differences if r.b == bases.get(r.a)}
    wins = {(r.a, r.prompt_set): r for r in win_rates if r.b == bases.get(r.a) and r.scorer == MEAN_OF_JUDGES}
    seeds = {(r.a, r.prompt_set): r.n_seeds for r in against.values()}
    digits = column_decimals(comparison.scorers, scores, differences)
    best = _best(pooled, comparison, order)
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
                        pooled[key], against.get(key), digits[scorer], variant in best[first.base, name, scorer]
                    )
            if (win := wins.get((variant, name))) is not None:
                cells[name, MEAN_WIN_RATE] = _win_cell(win, seeds[variant, name])
            else:
                # The base meets no base, and one judge has no mean.
                cells[name, MEAN_WIN_RATE] = Cell("" if bases[variant] is None else NOT_RATED)
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
        against="minus base",
        notes=notes(pooled, tuple(against.values()), comparison, generation, trained, wins=bool(wins)),
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


def _best(
    pooled: Mapping[tuple[str, str, str], ScoreRow], comparison: Comparison, order: Sequence[str]
) -> dict[tuple[str, str, str], tuple[str, ...]]:
    """(base, prompt set, scorer) to the variants with the best mean; none where all are equal or nothing is judged."""
    best: dict[tuple[str, str, str], tuple[str, ...]] = {}
    for base in dict.fromkeys(comparison.base_of(variant) for variant in order):
        for name in comparison.prompt_sets:
            for scorer in comparison.raters(name):
                means = {v: pooled[v, name, scorer].mean for v in order if comparison.base_of(v) == base}
                least, most = min(means.values()), max(means.values())
                chosen = least if scorer in comparison.lower_is_better else most
                judged = scorer in comparison.judges and least < most
                best[base, name, scorer] = tuple(v for v, mean in means.items() if judged and mean == chosen)
    return best


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


def _cell(row: ScoreRow, against: DifferenceRow | None, digits: int, best: bool) -> Cell:
    interval = f"{number(row.ci_low, digits)} to {number(row.ci_high, digits)}"
    cell = Cell(number(row.mean, digits), best, interval)
    if against is None:
        return cell
    half = (against.ci_high - against.ci_low) / 2
    mean = against.mean_difference
    # The half width is printed, not the ends: it must be less than the difference where the interval excludes zero.
    exact = deciding(abs(mean) - half, abs(mean) + half, digits)
    while exact < MOST_DECIMALS and (round(abs(mean), exact) > round(half, exact)) != (abs(mean) > half):
        exact += 1
    text = f"{signed(mean, exact)} ± {number(half, exact)}"
    return Cell(cell.value, best, interval, text, _mark(against.ci_low, against.ci_high, 0.0, against.n_seeds))


def _win_cell(row: WinRateRow, seeds: int) -> Cell:
    digits = deciding(row.ci_low, row.ci_high, 3, 0.5)
    interval = f"{number(row.ci_low, digits)} to {number(row.ci_high, digits)}"
    return Cell(number(row.win_rate, 3), False, interval, interval, _mark(row.ci_low, row.ci_high, 0.5, seeds))


def _mark(low: float, high: float, null: float, seeds: int) -> str:
    if low <= null <= high:
        return ""
    return DECIDED if seeds > 1 else DECIDED_HERE
