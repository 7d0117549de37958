"""``drift.csv``: held-out drift of every trained model at the end of its training."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING

from artifacts import layout
from artifacts.contracts import read_table
from artifacts.errors import InputError
from evals.tables.rows import POOLED, DriftRow
from evals.tables.statistics import t_interval

if TYPE_CHECKING:
    from evals.tables.comparison import Comparison

_MEASURES = ("winner_drift", "loser_drift", "margin", "implicit_accuracy")


def drift_rows(comparison: Comparison) -> list[DriftRow]:
    """One row a trained model, from the last step of its ``drift.parquet``, and one with ``seed`` = ``all``.

    The pooled row holds means over seeds and a Student interval of the winner drift over seeds, empty for a
    single seed. The held-out pairs are the same for every seed, so the interval is about seeds alone.

    Raises:
        InputError: a trained model's drift file is missing, malformed, empty or holds a number that is not finite.
    """
    rows = []
    for variant in comparison.variants:
        of_variant = []
        for model in sorted(comparison.of_variant(variant), key=lambda model: model.seed or 0):
            if model.seed is None:
                continue
            path = layout.model(comparison.root, model.name) / "drift.parquet"
            last = _last_step(path)
            of_variant.append(
                DriftRow(
                    variant=variant,
                    objective=model.objective or "",
                    safeguard=model.safeguard,
                    pairs=model.pairs or "",
                    seed=str(model.seed),
                    winner_drift=last["winner_drift"],
                    loser_drift=last["loser_drift"],
                    margin=last["margin"],
                    implicit_accuracy=last["implicit_accuracy"],
                    ci_low=None,
                    ci_high=None,
                )
            )
        rows += of_variant
        if of_variant:
            interval = t_interval([row.winner_drift for row in of_variant], comparison.statistics.confidence)
            rows.append(
                replace(
                    of_variant[0],
                    seed=POOLED,
                    winner_drift=fmean(row.winner_drift for row in of_variant),
                    loser_drift=fmean(row.loser_drift for row in of_variant),
                    margin=fmean(row.margin for row in of_variant),
                    implicit_accuracy=fmean(row.implicit_accuracy for row in of_variant),
                    ci_low=interval[0] if interval else None,
                    ci_high=interval[1] if interval else None,
                )
            )
    return rows


def _last_step(path: Path) -> dict[str, float]:
    frame = read_table(path, "drift")
    if frame.empty:
        raise InputError(f"{path}: no row; delete the model's folder and run snakemake again")
    last = frame.sort_values("step", kind="stable").iloc[-1]
    values = {name: float(last[name]) for name in _MEASURES}
    for name, value in values.items():
        if not math.isfinite(value):
            raise InputError(
                f"{path}: {name} at step {int(last['step'])} is {value}, expected a finite number; "
                "the training diverged: lower its learning rate or drop the variant"
            )
    return values
