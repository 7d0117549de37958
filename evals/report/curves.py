"""Curves over seeds: held-out drift of winner and loser and the safe scale λ by step, and all three by noise."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import TYPE_CHECKING

from artifacts import layout
from artifacts.contracts import NOISE_BUCKETS, NOISE_MEANS, noise_column, read_table
from evals.tables.main_table import row_order

if TYPE_CHECKING:
    import pandas as pd

    from evals.tables.comparison import Comparison

POINTS = 40

Series = tuple[tuple[float, float], ...]
"""(step, value) in the order of steps."""


@dataclass(frozen=True)
class Curve:
    """Mean, least and greatest value over seeds, by step; all four have the same length."""

    steps: tuple[float, ...]
    mean: tuple[float, ...]
    low: tuple[float, ...]
    high: tuple[float, ...]


@dataclass(frozen=True)
class Line:
    """The curves of one variant; ``safe_scale`` is ``None`` for an objective without a loser.

    ``by_noise`` has the same three of training batches, by share of noise instead of step; a curve without points where
    the log has none of them.
    """

    variant: str
    safeguard: bool
    winner_drift: Curve
    loser_drift: Curve
    safe_scale: Curve | None
    by_noise: tuple[Curve, ...]


@dataclass(frozen=True)
class Group:
    """Variants to be seen together: same base, pair set and objective, with and without safeguard."""

    base: str
    pairs: str
    objective: str
    lines: tuple[Line, ...]


def drift_groups(comparison: Comparison) -> tuple[Group, ...]:
    """Curves of every trained variant to the end of its training, grouped, in the order of the main table.

    Drift is read from ``drift.parquet`` (held-out pairs), λ and all that is by noise from ``training.parquet``
    (training batches).

    Raises:
        InputError: a log is missing or malformed.
    """
    groups: dict[tuple[str, str, str], list[Line]] = {}
    for variant in row_order(comparison):
        models = [model for model in comparison.of_variant(variant) if model.trained and model.step is None]
        if not models:
            continue
        folders = [layout.model(comparison.root, model.name) for model in models]
        drift = [read_table(folder / "drift.parquet", "drift") for folder in folders]
        training = [read_table(folder / "training.parquet", "training") for folder in folders]
        scales = [windowed(_series(log, "safe_scale_mean")) for log in training]
        line = Line(
            variant=variant,
            safeguard=models[0].safeguard,
            winner_drift=over_seeds([_series(log, "winner_drift") for log in drift]),
            loser_drift=over_seeds([_series(log, "loser_drift") for log in drift]),
            safe_scale=over_seeds(scales) if all(scales) else None,
            by_noise=tuple(over_seeds([noise_series(log, name) for log in training]) for name in NOISE_MEANS),
        )
        key = (models[0].base, models[0].pairs or "", models[0].objective or "")
        groups.setdefault(key, []).append(line)
    return tuple(Group(*key, tuple(lines)) for key, lines in groups.items())


def over_seeds(seeds: Sequence[Series]) -> Curve:
    """Mean and range over seeds at the steps that every seed has; other steps would mix different seeds."""
    by_seed = [dict(series) for series in seeds]
    steps = sorted(set.intersection(*(set(values) for values in by_seed))) if by_seed else []
    columns = [[values[step] for values in by_seed] for step in steps]
    return Curve(
        tuple(steps),
        tuple(fmean(column) for column in columns),
        tuple(min(column) for column in columns),
        tuple(max(column) for column in columns),
    )


def windowed(series: Series, points: int = POINTS) -> Series:
    """At most ``points`` points: means of consecutive windows of equal length, the last one maybe shorter.

    λ is logged per batch and is noisy; a window's step is its middle.
    """
    if len(series) <= points:
        return series
    width = -(-len(series) // points)
    windows = [series[start : start + width] for start in range(0, len(series), width)]
    return tuple((fmean(step for step, _ in window), fmean(value for _, value in window)) for window in windows)


def noise_series(log: pd.DataFrame, name: str) -> Series:
    """Mean over the pairs of the later half of the logged steps, at the middle of each bucket of noise that has any.

    Args:
        log: of contract ``training``.
        name: one of :data:`~artifacts.contracts.NOISE_MEANS`.
    """
    later = log.sort_values("step", kind="stable").iloc[len(log) // 2 :]
    series = []
    for bucket in range(NOISE_BUCKETS):
        columns = [noise_column("pairs", bucket), noise_column(name, bucket)]
        known = later[columns].astype(float).dropna()
        pairs, values = known[columns[0]], known[columns[1]]
        if pairs.sum() > 0:
            series.append(((bucket + 0.5) / NOISE_BUCKETS, float((pairs * values).sum() / pairs.sum())))
    return tuple(series)


def _series(log: pd.DataFrame, column: str) -> Series:
    present = log[["step", column]].dropna().sort_values("step", kind="stable")
    return tuple(zip(present["step"].astype(float).tolist(), present[column].astype(float).tolist(), strict=True))
