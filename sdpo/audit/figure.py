"""The picture of an audit: both spaces against each other, and how often the winners' error rose after a step.

Equal rows give equal bytes. Colours are from the palette of Okabe and Ito (2008); markers and dashes say the same.
"""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

_MODELS = (("#0072b2", "o"), ("#d55e00", "^"), ("#009e73", "s"), ("#cc79a7", "v"))
_GUARDS = {
    "off": ("#000000", ":"),
    "output": ("#d55e00", "--"),
    "parameter": ("#0072b2", "-"),
}
_OPTIMIZERS = {"sgd": "SGD", "adamw": "AdamW, fresh state", "adamw_warmed": "AdamW, warmed state"}
_MARKERS = ("o", "s", "^", "v", "D", "P")
_STYLE: dict[str, Any] = {
    "font.family": "DejaVu Sans",
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "savefig.facecolor": "#ffffff",
}


def draw(rows: pd.DataFrame) -> bytes:
    """The picture as PNG.

    First row: cosine of gradients, limit of λ, and real over predicted change, by space or by length of the step;
    further rows: one a model, the share of batches whose winner error rose, by learning rate, a panel an optimizer.

    Args:
        rows: rows of contract ``audit``.
    """
    import matplotlib
    from matplotlib.figure import Figure

    models = list(dict.fromkeys(rows["model"]))
    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(_STYLE)  # type: ignore[arg-type]  # keys are a Literal in its stubs
        figure = Figure(figsize=(10.5, 3.2 * (1 + len(models))), layout="constrained")
        panels = figure.subplots(1 + len(models), 3, squeeze=False)
        _spaces(panels[0][0], rows, models, "cosine")
        _spaces(panels[0][1], rows, models, "limit")
        _ratios(panels[0][2], rows)
        for model, line in zip(models, panels[1:], strict=True):
            for axes, optimizer in zip(line, _OPTIMIZERS, strict=True):
                chosen = rows[(rows["model"] == model) & (rows["optimizer"] == optimizer)]
                _rises(axes, chosen, f"{model}\n{_OPTIMIZERS[optimizer]}")
        if handles := panels[1][0].get_legend_handles_labels()[0]:
            figure.legend(handles=handles, frameon=False, loc="outside lower center", ncols=4)
        file = io.BytesIO()
        figure.savefig(file, format="png", dpi=130, metadata={"Software": None})
    return file.getvalue()


def _spaces(axes: Axes, rows: pd.DataFrame, models: list[str], quantity: str) -> None:
    """Every batch: the quantity at the output against the one by the parameters; the line is where they agree."""
    batches = rows.drop_duplicates(["model", "batch"])
    columns = [f"output_{quantity}", f"parameter_{quantity}"]
    for index, model in enumerate(models):
        colour, marker = _MODELS[index % len(_MODELS)]
        shown = batches[batches["model"] == model].dropna(subset=columns)
        label = model.replace("$", r"\$")
        axes.scatter(shown[columns[0]], shown[columns[1]], s=14, color=colour, marker=marker, alpha=0.7, label=label)
    known = batches[columns].dropna()
    if not known.empty:
        ends = [float(known.min().min()), float(known.max().max())]
        axes.plot(ends, ends, color="#888888", linewidth=0.8)
        if quantity == "cosine":
            axes.legend(frameon=False, fontsize=7.5)
    names = {"cosine": "cosine of winner and loser", "limit": "limit of λ (before slack and clipping)"}
    axes.set_title(names[quantity], loc="left", fontsize=9.5)
    axes.set_xlabel("at the output (residuals)")
    axes.set_ylabel("by the parameters")


def _ratios(axes: Axes, rows: pd.DataFrame) -> None:
    """Median of real over predicted change against the length of the step, all models and guards together."""
    for (optimizer, marker), (colour, _) in zip(
        zip(_OPTIMIZERS, _MARKERS, strict=False), (_MODELS[0], _MODELS[1], _MODELS[2]), strict=True
    ):
        chosen = rows[(rows["optimizer"] == optimizer) & (rows["predicted_change"] != 0)]
        if chosen.empty:
            continue
        ratio = chosen["real_change"] / chosen["predicted_change"]
        for rate, group in chosen.assign(ratio=ratio).groupby("learning_rate"):
            low, middle, high = group["ratio"].quantile([0.25, 0.5, 0.75])
            axes.errorbar(
                group["update_norm"].median(), middle, yerr=[[middle - low], [high - middle]],
                fmt=marker, color=colour, markersize=4, linewidth=1, label=_OPTIMIZERS[optimizer]
                if rate == chosen["learning_rate"].min() else None,
            )  # fmt: skip
    axes.axhline(1, color="#888888", linewidth=0.8)
    axes.set_xscale("log")
    axes.set_ylim(-1.5, 1.5)
    axes.set_title("real / predicted change: median, quartiles", loc="left", fontsize=9.5)
    axes.set_xlabel("length of the step ‖Δθ‖")
    axes.legend(frameon=False, fontsize=7.5)


def _rises(axes: Axes, rows: pd.DataFrame, title: str) -> None:
    """Share of batches whose winner error rose, one line a guard and μ; the objective's own limit is in the tables."""
    slacks = sorted(rows["mu"].dropna().unique())
    for (guard, mu), chosen in rows[rows["guard"] != "objective"].groupby(["guard", "mu"], sort=False, dropna=False):
        rose = (chosen["real_change"] > 0).groupby(chosen["learning_rate"]).mean()
        colour, dash = _GUARDS[str(guard)]
        marker = _MARKERS[slacks.index(mu) % len(_MARKERS)] if mu in slacks else "x"
        label = "safeguard off" if guard == "off" else f"λ: {guard}, μ = {mu:g}"
        axes.plot(
            rose.index, rose, color=colour, linestyle=dash, marker=marker, markersize=4, linewidth=1.2, label=label
        )
    if not rows.empty:
        axes.set_xscale("log")
    axes.set_ylim(-0.04, 1.04)
    axes.set_title(title.replace("$", r"\$"), loc="left", fontsize=9.5)
    axes.set_xlabel("learning rate")
    axes.set_ylabel("share of batches that rose")
