"""Figures of an audit: from rows of contract ``audit`` to ``audit.json`` and to a page of text."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from artifacts import markdown
from sdpo.audit.first_order import scale, slack_needed

if TYPE_CHECKING:
    import pandas as pd

QUARTILES = (0.25, 0.5, 0.75)
_SPACES = (
    *("model", "cosine, output", "cosine, parameters", "limit, output", "limit, parameters"),
    "μ needed: median, greatest",
)
_LIMITS = ("model", "μ", "λ, output", "λ, parameters", "output λ within the limit")
_MOVES = (
    *("model", "optimizer", "rate", "λ from", "μ", "λ", "predicted change", "real change", "predicted to rise"),
    *("rose", "real / predicted", "others rose"),
)


def geometry(rows: pd.DataFrame, slacks: Sequence[float]) -> list[dict[str, Any]]:
    """One entry a model: angles, limits of λ in both spaces, and what the one is worth in the other.

    Args:
        rows: rows of contract ``audit``.
        slacks: values of μ.

    Returns:
        ``model``, ``batches``; ``output_cosine``, ``parameter_cosine``, ``output_limit`` and ``parameter_limit``, each
        with ``mean``, ``least``, ``greatest`` and ``absent``, the share of
        batches without a value, which is a limit of ∞; ``slack_needed``, the least μ that would have
        kept the output-space λ within the parameter-space limit, with ``median``, ``greatest`` and ``never``, the share
        of batches where no μ does; and ``scales``, for each μ: mean λ of both spaces and ``within``, the share of
        batches whose output-space λ keeps within the parameter-space limit.
    """
    found = []
    for model, batches in rows.drop_duplicates(["model", "batch"]).groupby("model", sort=False):
        output, parameter = (batches[f"{s}_limit"].fillna(math.inf).tolist() for s in ("output", "parameter"))
        pairs = list(zip(output, parameter, strict=True))
        needed = sorted(x for x in (slack_needed(p, o) for o, p in pairs) if not math.isnan(x))
        columns = ("output_cosine", "parameter_cosine", "output_limit", "parameter_limit")
        found.append(
            {
                "model": model,
                "batches": len(pairs),
                **{column: _range(batches[column]) for column in columns},
                "slack_needed": {
                    "median": _quantile(needed, 0.5),
                    "greatest": needed[-1] if needed else None,
                    "never": 1 - len(needed) / len(pairs),
                },
                "scales": [
                    {
                        "mu": mu,
                        "output": sum(scale(o, mu) for o, _ in pairs) / len(pairs),
                        "parameter": sum(scale(p, mu) for _, p in pairs) / len(pairs),
                        "within": sum(scale(o, mu) <= p for o, p in pairs) / len(pairs),
                    }
                    for mu in slacks
                ],
            }
        )
    return found


def steps(rows: pd.DataFrame) -> list[dict[str, Any]]:
    """One entry a model, guard, μ, optimizer and learning rate: predicted and real change of the winners' error.

    Returns:
        The five keys; ``batches``, ``safe_scale`` and ``update_norm`` (means); ``predicted_change`` and ``real_change``
        (means); ``predicted_rise`` and ``real_rise``, the shares of batches whose error rises; ``ratio``, the quartiles
        of real over predicted change; ``other_change`` (mean) and ``other_rise`` of the next micro-batch's winners.
        What differs in λ only stands together.
    """
    keys = ["model", "optimizer", "learning_rate", "guard", "mu"]
    order = {column: {x: i for i, x in enumerate(dict.fromkeys(rows[column]))} for column in keys[:3]}
    groups = list(rows.groupby(keys, sort=False, dropna=False))
    groups.sort(
        key=lambda group: tuple(order[column][x] for column, x in zip(keys, group[0], strict=False) if column in order)
    )
    found = []
    for key, group in groups:
        predicted, real = group["predicted_change"], group["real_change"]
        ratios = sorted((real / predicted)[predicted != 0].tolist())
        entry = dict(zip(keys, key, strict=True))
        found.append(
            {
                **entry,
                "mu": None if math.isnan(mu := float(str(entry["mu"]))) else mu,
                "batches": len(group),
                **{name: float(group[name].mean()) for name in ("safe_scale", "update_norm")},
                "predicted_change": float(predicted.mean()),
                "real_change": float(real.mean()),
                "predicted_rise": float((predicted > 0).mean()),
                "real_rise": float((real > 0).mean()),
                "other_change": float(group["other_change"].mean()),
                "other_rise": float((group["other_change"] > 0).mean()),
                "ratio": [_quantile(ratios, q) for q in QUARTILES],
            }
        )
    return found


def page(geometries: Sequence[dict[str, Any]], taken: Sequence[dict[str, Any]]) -> str:
    """The figures as Markdown, for a terminal and for a page of documentation."""
    spaces, limits, moves = [], [], []
    for entry in geometries:
        needed = entry["slack_needed"]
        least = f"{_number(needed['median'], '.3f')}, {_number(needed['greatest'], '.3f')}"
        never = f"; never for {needed['never']:.0%}" if needed["never"] else ""
        cosines = [_span(entry[f"{space}_cosine"], 3) for space in ("output", "parameter")]
        spans = [_span(entry[f"{space}_limit"], 2) for space in ("output", "parameter")]
        spaces.append([entry["model"], *cosines, *spans, f"{least}{never}"])
        for row in entry["scales"]:
            scales = [f"{row[key]:{form}}" for key, form in (("mu", "g"), ("output", ".3f"), ("parameter", ".3f"))]
            limits.append([entry["model"], *scales, f"{row['within']:.0%} of {entry['batches']}"])
    for row in taken:
        low, middle, high = (_number(x, ".2f") for x in row["ratio"])
        moves.append(
            [
                *(row["model"], row["optimizer"], f"{row['learning_rate']:g}", row["guard"], _number(row["mu"], "g")),
                *(f"{row['safe_scale']:.3f}", f"{row['predicted_change']:+.2e}", f"{row['real_change']:+.2e}"),
                *(f"{row['predicted_rise']:.0%}", f"{row['real_rise']:.0%}"),
                *(f"{middle} [{low}, {high}]", f"{row['other_rise']:.0%}"),
            ]
        )
    return "\n\n".join(
        [
            markdown.table(_SPACES, spaces, "lrrrrr"),
            markdown.table(_LIMITS, limits, "lrrrr"),
            markdown.table(_MOVES, moves, "llrlrrrrrrrr"),
        ]
    )


def _range(values: pd.Series[float]) -> dict[str, float | None]:
    known = values.dropna()
    if known.empty:
        return {"mean": None, "least": None, "greatest": None, "absent": 1.0}
    absent = float(values.isna().mean())
    return {"absent": absent, "mean": float(known.mean()), "least": float(known.min()), "greatest": float(known.max())}


def _quantile(ordered: Sequence[float], share: float) -> float | None:
    """Linearly interpolated quantile of ascending values."""
    if not ordered:
        return None
    position = share * (len(ordered) - 1)
    below = math.floor(position)
    above = min(below + 1, len(ordered) - 1)
    return ordered[below] + (position - below) * (ordered[above] - ordered[below])


def _number(value: float | None, form: str) -> str:
    return "–" if value is None else format(value, form)


def _span(values: dict[str, float | None], digits: int) -> str:
    mean, least, greatest = (_number(values[key], f".{digits}f") for key in ("mean", "least", "greatest"))
    return f"{mean} [{least}, {greatest}]"
