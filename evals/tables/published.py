"""``published.csv`` and ``published.md``: our means beside published figures.

A published figure is mostly that of one run, so two intervals over our seeds are given: that of the mean, and that in
which one more seed of ours would lie. Both are Student intervals of the means of single seeds, and take the prompts
as they are. A figure that was measured otherwise (its column ``protocol``) is shown and compared with nothing.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from artifacts import markdown
from artifacts.errors import InputError
from artifacts.plugins import nearest
from artifacts.text_lines import table
from evals.tables.numbers import bracketed, deciding, number, signed
from evals.tables.rows import POOLED
from evals.tables.statistics import t_interval

if TYPE_CHECKING:
    from evals.tables.comparison import Comparison
    from evals.tables.matrices import ScoreMatrices

_HEADER = (
    *("variant", "ours", "mean over seeds", "one more seed", "published", "ours − published", "in mean", "in seed"),
    "trust",
)
COLUMNS = ("variant", "prompt_set", "scorer", "value", "source")
"""Columns that a file of figures must have; ``trust`` and ``protocol`` may be there."""


@dataclass(frozen=True)
class Figure:
    """One published figure; ``prompt_set`` is ``all`` for all prompt sets, ``unit`` the unit of its last digit.

    ``trust`` says how it was read (``paper``, ``second-hand``), ``protocol`` how it was measured where that is not how
    it is measured here: other prompts, settings, versions of a scorer or units.
    """

    variant: str
    prompt_set: str
    scorer: str
    value: float
    unit: float
    source: str
    trust: str = ""
    protocol: str = ""


@dataclass(frozen=True)
class PublishedRow:
    """Ours against published.

    ``ci_low`` to ``ci_high`` is the interval of our mean over seeds, ``seed_low`` to ``seed_high`` that of one more
    seed; both are empty for a single seed. Inside means inside up to the rounding of the published figure; it is
    empty where there is no interval. Of a figure with a ``protocol`` of its own, difference and inside are empty too.
    """

    variant: str
    prompt_set: str
    scorer: str
    ours: float
    ci_low: float | None
    ci_high: float | None
    seed_low: float | None
    seed_high: float | None
    n_seeds: int
    published: float
    difference: float | None
    inside_interval: bool | None
    inside_seed_interval: bool | None
    source: str
    trust: str
    protocol: str


def read_figures(path: Path) -> list[Figure]:
    """Read a file of published figures: UTF-8 CSV with the columns :data:`COLUMNS`.

    Raises:
        InputError: the file is missing, lacks a column, or a value is no number or stands there twice.
    """
    figures: list[Figure] = []
    seen: set[tuple[str, ...]] = set()
    for place, cells in table(path):
        # A name with a blank behind it would be one of nothing here, and left out without a word.
        row = {name: cell.strip() for name, cell in cells.items()}
        # As an editor counts, where no cell has a line end; the header is line 1.
        where = f"{path}: line {place + 1}"
        if missing := [name for name in COLUMNS if name not in row]:
            raise InputError(f"{path}: column '{missing[0]}' is missing; expected {', '.join(COLUMNS)}")
        if not row["source"]:
            raise InputError(f"{where} has no source; say where the figure stands")
        key = row["variant"], row["prompt_set"] or POOLED, row["scorer"]
        trust, protocol = (row.get(name, "") for name in ("trust", "protocol"))
        # What was measured otherwise may stand there once for each way and source.
        whole = (*key, row["source"], protocol) if protocol else key
        if whole in seen:
            raise InputError(f"{where}: {', '.join(key)} stands there twice; keep one")
        seen.add(whole)
        try:
            figures.append(Figure(*key, *_value_and_unit(row["value"]), row["source"], trust, protocol))
        except (ValueError, ArithmeticError) as error:
            raise InputError(f"{where}: {error}; expected a number") from error
    return figures


def _value_and_unit(text: str) -> tuple[float, float]:
    """A number and the unit of its last digit: 0.01 of ``0.35``, 0.1 of ``2e-1``."""
    value = float(text)
    exponent = Decimal(text.strip()).as_tuple().exponent
    if not isinstance(exponent, int):
        raise ValueError(f"value is '{text}'")
    return value, 10.0**exponent


def published_rows(comparison: Comparison, matrices: ScoreMatrices, figures: Sequence[Figure]) -> list[PublishedRow]:
    """Figures of variants and scorers that are in the comparison, in the order of the file.

    One of a prompt set that our scorer does not rate is left out, as is one of all sets that are drawn alike if it does
    not rate them all.

    Raises:
        InputError: a figure names a prompt set that is not compared, or none of the figures is of this comparison.
    """
    rows = []
    for figure in figures:
        if figure.variant not in comparison.variants or figure.scorer not in comparison.scorers:
            continue
        if figure.prompt_set != POOLED and figure.prompt_set not in comparison.prompt_sets:
            known = list(comparison.prompt_sets)
            raise InputError(
                f"published figure of '{figure.variant}': unknown prompt set '{figure.prompt_set}': expected one of "
                f"{', '.join(known)}, or an empty cell for all{nearest(figure.prompt_set, known)}"
            )
        sets = comparison.pooled if figure.prompt_set == POOLED else (figure.prompt_set,)
        if not set(sets) <= set(comparison.sets_of(figure.scorer)):
            continue
        values = np.concatenate([matrices.values[figure.variant, name, figure.scorer] for name in sets], axis=1)
        rows.append(compared(figure, values.mean(axis=1).tolist(), comparison.statistics.confidence))
    if not rows:
        raise InputError(
            "published.file: none of its figures is of a variant and of a scorer with prompt sets that it rates here; "
            f"expected variants {', '.join(comparison.variants)} and scorers {', '.join(comparison.scorers)}"
        )
    return rows


def compared(figure: Figure, seeds: Sequence[float], confidence: float) -> PublishedRow:
    """One row from the means of single seeds."""
    ours = math.fsum(seeds) / len(seeds)
    interval = t_interval(seeds, confidence)
    low = high = seed_low = seed_high = None
    inside = inside_seed = None
    if interval is not None:
        low, high = interval
        # The mean's half width is t·s/√n; one more seed lies within t·s·√(1 + 1/n) of the mean.
        half = (high - low) / 2 * math.sqrt(len(seeds) + 1)
        seed_low, seed_high = ours - half, ours + half
        if not figure.protocol:
            rounding = figure.unit / 2 * (1 + 1e-9)
            inside = low - rounding <= figure.value <= high + rounding
            inside_seed = seed_low - rounding <= figure.value <= seed_high + rounding
    return PublishedRow(
        variant=figure.variant,
        prompt_set=figure.prompt_set,
        scorer=figure.scorer,
        ours=ours,
        ci_low=low,
        ci_high=high,
        seed_low=seed_low,
        seed_high=seed_high,
        n_seeds=len(seeds),
        published=figure.value,
        difference=None if figure.protocol else ours - figure.value,
        inside_interval=inside,
        inside_seed_interval=inside_seed,
        source=figure.source,
        trust=figure.trust,
        protocol=figure.protocol,
    )


def to_markdown(rows: Sequence[PublishedRow], confidence: str, digits: Mapping[str, int] | None = None) -> str:
    """One table a prompt set and scorer, with how many published figures lie in our intervals.

    Args:
        rows: what is compared.
        confidence: level of the intervals, as text.
        digits: decimals of each scorer's numbers; left out, 3.
    """
    lines = ["# Published figures", ""]
    for prompt_set, scorer in dict.fromkeys((row.prompt_set, row.scorer) for row in rows):
        chosen = [row for row in rows if (row.prompt_set, row.scorer) == (prompt_set, scorer)]
        alike = [row for row in chosen if not row.protocol]
        # One model has no interval over seeds, in which a figure could lie or not.
        several = [row for row in alike if row.inside_interval is not None]
        inside = [sum(bool(getattr(r, k)) for r in several) for k in ("inside_interval", "inside_seed_interval")]
        single = f" Ours of {len(alike) - len(several)} more is of one model, without such intervals."
        title = scorer if prompt_set == POOLED else f"{scorer}, {prompt_set}"
        lines += [
            f"## {markdown.escape(title)}",
            "",
            f"Of {len(several)} published figures that were measured as here, {inside[0]} lie in the {confidence} "
            f"interval of our mean over seeds and {inside[1]} in that of one more seed."
            f"{single if len(several) < len(alike) else ''}",
            "",
        ]
        body = []
        for row in chosen:
            shown = _decimals(row, (digits or {}).get(scorer, 3))
            body.append(
                [
                    markdown.escape(row.variant),
                    number(row.ours, shown),
                    bracketed(row.ci_low, row.ci_high, shown),
                    bracketed(row.seed_low, row.seed_high, shown),
                    f"{row.published:g}",
                    "measured otherwise" if row.difference is None else signed(row.difference, shown),
                    _yes(row.inside_interval),
                    _yes(row.inside_seed_interval),
                    markdown.escape(row.trust),
                ]
            )
        lines += [markdown.table(_HEADER, body, "lrllrrlll"), ""]
    lines += ["Sources:", ""]
    for source, trust, protocol in dict.fromkeys((row.source, row.trust, row.protocol) for row in rows):
        told = "; ".join(text for text in (trust, protocol and f"measured otherwise: {protocol}") if text)
        lines.append(f"- {markdown.escape(f'{source} ({told})' if told else source)}")
    return "\n".join(lines) + "\n"


def _decimals(row: PublishedRow, digits: int) -> int:
    """So many that rounding moves the published figure into no interval that it lies outside of, nor out of one."""
    if row.protocol:
        return digits
    for low, high in ((row.ci_low, row.ci_high), (row.seed_low, row.seed_high)):
        if low is not None and high is not None:
            digits = deciding(low - row.published, high - row.published, digits)
    return digits


def _yes(inside: bool | None) -> str:
    return "" if inside is None else "yes" if inside else "no"
