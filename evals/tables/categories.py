"""``categories.csv`` and ``categories.md``: two variants compared on the prompts of each category of a set."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from artifacts import markdown
from evals.tables.numbers import deciding, decimals, number, percent, signed
from evals.tables.paired import compare_scores
from evals.tables.rows import CategoryRow
from evals.tables.statistics import false_discovery

if TYPE_CHECKING:
    from evals.tables.comparison import Comparison, Pair
    from evals.tables.matrices import ScoreMatrices


def category_rows(comparison: Comparison, matrices: ScoreMatrices) -> list[CategoryRow]:
    """Rows of every pair, prompt set with two categories, category in the set's order, and scorer.

    Prompts without a category are in no row. Benjamini and Hochberg's adjustment is across the categories of one pair,
    set and judge.
    """
    rows = []
    for pair in comparison.pairs:
        for prompt_set in comparison.prompt_sets:
            for scorer in comparison.raters(prompt_set):
                rows += _of_scorer(comparison, matrices, pair, prompt_set, scorer)
    return rows


def _of_scorer(
    comparison: Comparison, matrices: ScoreMatrices, pair: Pair, prompt_set: str, scorer: str
) -> list[CategoryRow]:
    listed = np.array(matrices.categories.get(prompt_set, []))
    names = [str(name) for name in dict.fromkeys(listed.tolist()) if name]
    if len(set(listed.tolist())) < 2:
        return []
    first, second = matrices.paired(pair.a, pair.b, prompt_set, scorer)
    prompts = matrices.units[prompt_set,]
    columns = {name: np.flatnonzero(listed == name) for name in names}
    found = {
        name: compare_scores((first - second)[:, at], prompts.of(at), comparison.statistics.confidence)
        for name, at in columns.items()
    }
    judged = scorer in comparison.judges
    adjusted = dict(zip(names, false_discovery([row.p_value for row in found.values()]), strict=True))
    return [
        CategoryRow(
            base=" / ".join(dict.fromkeys(comparison.base_of(variant) for variant in (pair.a, pair.b))),
            **pair._asdict(),
            prompt_set=prompt_set,
            category=name,
            scorer=scorer,
            mean_a=float(first[:, columns[name]].mean()),
            mean_b=float(second[:, columns[name]].mean()),
            mean_difference=row.mean_difference,
            ci_low=row.ci_low,
            ci_high=row.ci_high,
            p_value=row.p_value,
            p_fdr=adjusted[name] if judged else None,
            detectable=row.detectable,
            n_prompts=row.n_prompts,
            n_texts=row.n_texts,
            n_seeds=row.n_seeds,
        )
        for name, row in found.items()
    ]


def to_markdown(rows: Sequence[CategoryRow], confidence: float) -> str:
    """One table a prompt set and scorer: a comparison a row, a category a column."""
    level = percent(confidence)
    lines = ["# By category", ""]
    if not rows:
        return "\n".join([*lines, "No prompt set has two categories.", ""])
    for prompt_set, scorer in dict.fromkeys((row.prompt_set, row.scorer) for row in rows):
        chosen = [row for row in rows if (row.prompt_set, row.scorer) == (prompt_set, scorer)]
        counts = {row.category: row.n_prompts for row in chosen}
        digits = decimals([(row.ci_high - row.ci_low) / 2 for row in chosen])
        cells = {(row.a, row.b, row.category): _cell(row, digits, 1.0 - confidence) for row in chosen}
        pairs = dict.fromkeys((row.a, row.b) for row in chosen)
        header = ["comparison", *(f"{markdown.escape(name)} ({count})" for name, count in counts.items())]
        body = [[markdown.escape(f"{a} − {b}"), *(cells[a, b, name] for name in counts)] for a, b in pairs]
        lines += [f"## {markdown.escape(f'{prompt_set}, {scorer}')}", ""]
        lines += [markdown.table(header, body, "l" + "r" * len(counts)), ""]
    lines += [
        f"- Paired mean difference ± half the width of its {level} interval; in brackets the number of prompts.",
        "- † marks what is decided after Benjamini and Hochberg's adjustment across the categories of a row.",
    ]
    return "\n".join(lines) + "\n"


def _cell(row: CategoryRow, digits: int, level: float) -> str:
    half = (row.ci_high - row.ci_low) / 2
    digits = deciding(row.ci_low, row.ci_high, digits)
    mark = "†" if row.p_fdr is not None and row.p_fdr < level else " "
    return f"{signed(row.mean_difference, digits)} ± {number(half, digits)}{mark}"
