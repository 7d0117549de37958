"""The report's charts as Vega-Lite specifications: one for the page, where it answers to hover, and for a PNG file.

Each is panels side by side (``concat``), which the page lays out by its width. Data that are no panel's are not in it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from evals.tables.rows import significant

if TYPE_CHECKING:
    from evals.report.colours import Palette
    from evals.report.curves import Curve, Group
    from evals.report.guidance import Panel
    from evals.report.scorer_agreement import Correlation
    from evals.tables.rows import CostRow

Spec = dict[str, Any]
SCHEMA = "https://vega.github.io/schema/vega-lite/v6.json"
_WIDTH, _HEIGHT = 250, 150
_COLUMNS = 3
_VERDICTS = {
    "better": "triangle-up",
    "worse": "triangle-down",
    "undecided": "circle",
    "more": "triangle-up",
    "less": "triangle-down",
    "": "circle",
}
"""Shapes of verdicts; their colours are in :mod:`evals.report.colours`."""


_NOTHING = "not rated"


@dataclass(frozen=True)
class IntervalMark:
    """One line of a forest plot.

    Attributes:
        panel: title of its panel.
        label: what it is of.
        choice: a reader sees the lines of one choice at a time: the prompt set.
        verdict: ``better``, ``worse`` or ``undecided``; of scorers that describe, ``more`` or ``less``; empty where
            nothing is decided.
        says: further text for who points at it.
    """

    panel: str
    label: str
    choice: str
    mean: float
    low: float | None
    high: float | None
    verdict: str
    says: str = ""


def intervals(marks: Sequence[IntervalMark], axis: str, null: float | None = 0.0) -> Spec:
    """A forest plot: means with intervals, by a choice of prompt set; ``null`` is the line of no effect.

    A panel without lines of a choice says so: of nothing there is no axis, and Vega would warn of one without ends.
    """
    choices = list(dict.fromkeys(mark.choice for mark in marks))
    known = {(mark.panel, mark.choice) for mark in marks}
    panels = list(dict.fromkeys(mark.panel for mark in marks))
    empty = [(panel, choice) for panel in panels for choice in choices if (panel, choice) not in known]
    somewhere = 1.0 if null is None else null
    rows = [_interval_row(mark) for mark in marks]
    rows += [
        {**_interval_row(IntervalMark(panel, _NOTHING, choice, somewhere, None, None, "")), "nothing": True}
        for panel, choice in empty
    ]
    words = [word for word in _VERDICTS if word and word in {mark.verdict for mark in marks}]
    # Ranks are whole numbers.
    numbers = _NUMBERS if null is not None else {**_NUMBERS, "tickMinStep": 1, "format": "d"}
    units = []
    for panel in panels:
        labels = [*dict.fromkeys(mark.label for mark in marks if mark.panel == panel), _NOTHING]
        y = {"field": "label", "type": "nominal", "title": None, "sort": labels, "axis": {"grid": True, "ticks": False}}
        colour = {
            "field": "verdict",
            "type": "nominal",
            "scale": {"domain": list(_VERDICTS), "range": "verdicts"},
            "legend": {"orient": "top", "title": None, "values": words} if words else None,
        }
        x = {"type": "quantitative", "scale": {"zero": False, "nice": False, "padding": 8}, "axis": numbers}
        told = _told(("label", ""), ("mean", axis), ("low", "from"), ("high", "to"), ("verdict", ""), ("says", ""))
        line: Spec = {"mark": {"type": "rule", "strokeWidth": 2}, "encoding": {
            "x": {"field": "from", **x, "title": axis}, "x2": {"field": "to"}, "y": y, "color": colour,
            "tooltip": told,
        }}  # fmt: skip
        point: Spec = {"mark": {"type": "point", "filled": True, "opacity": 1}, "encoding": {
            "size": {"condition": {"test": "datum.nothing", "value": 0}, "value": 45},
            "x": {"field": "mean", **x}, "y": y, "color": colour, "shape": {**colour, "scale": {
                "domain": list(_VERDICTS), "range": list(_VERDICTS.values())}},
            "tooltip": told,
        }}  # fmt: skip
        zero: list[Spec] = [] if null is None else [_rule("x", null)]
        units.append(
            {
                "title": panel,
                "width": _WIDTH,
                "height": {"step": 20},
                "transform": [{"filter": {"field": "panel", "equal": panel}}, {"filter": "datum.choice == prompt_set"}],
                "layer": [*zero, line, point],
            }
        )
    chosen = {
        "name": "prompt_set",
        "value": choices[0],
        "bind": {"input": "select", "options": choices, "name": "prompt set "},
    }
    return _panels(units, rows, 2, params=[chosen])


def _interval_row(mark: IntervalMark) -> Spec:
    """Its values, and where its line is drawn from and to, which is a point where the interval has no ends."""
    low, high = (mark.mean if end is None else end for end in (mark.low, mark.high))
    return {**asdict(mark), "from": low, "to": high}


def drift(groups: Sequence[Group], palette: Palette) -> Spec:
    """Three panels a group: held-out winner drift, held-out loser drift, λ in training, over optimizer steps.

    The line is the mean over seeds, the band reaches from the least to the greatest seed.
    """
    return _by_group(groups, palette, by_noise=False)


def noise(groups: Sequence[Group], palette: Palette) -> Spec:
    """As :func:`drift`, of training batches, by share of noise; empty for logs from before it was noted."""
    return _by_group(groups, palette, by_noise=True)


def guidance(panels: Sequence[Panel], palette: Palette) -> Spec:
    """Mean score by guidance in effect, a panel a prompt set and scorer; lines and bands as those of :func:`drift`."""
    rows: list[Spec] = []
    units = []
    present: dict[str, object] = {line.variant: None for panel in panels for line in panel.lines}
    for number, panel in enumerate(panels):
        for line in panel.lines:
            rows += _points(number, line.variant, line.curve)
        title = f"{panel.prompt_set}: {panel.scorer}"
        units.append(_curves(number, title, "guidance in effect", panel.scorer, palette.channels(present)))
    return _panels(units, rows, _COLUMNS)


def agreement(correlations: Sequence[Correlation]) -> Spec:
    """How alike the scorers judge one comparison, which is chosen: a square matrix."""
    scorers = list(dict.fromkeys(row.first for row in correlations))
    pairs = list(dict.fromkeys(row.pair for row in correlations))
    place = {"type": "nominal", "sort": scorers, "title": None}
    rows = [
        {**asdict(row), "size": None if row.r is None else abs(row.r), "sign": (row.r or 0) > 0} for row in correlations
    ]
    told = _told(("first", "scorer"), ("second", "and"), ("r", "rank correlation"), ("n", "differences"), ("gap", ""))
    at = {
        "y": {"field": "first", **place},
        "x": {"field": "second", **place, "axis": {"orient": "top", "labelAngle": -30}},
    }
    unit: Spec = {
        "width": {"step": 74},
        "height": {"step": 32},
        "transform": [{"filter": "datum.pair == comparison"}],
        "encoding": at,
        "layer": [
            {"mark": "rect", "encoding": {
                "color": {"field": "sign", "type": "nominal", "legend": None,
                          "scale": {"domain": [False, True], "range": "signs"}},
                "opacity": {"field": "size", "type": "quantitative", "legend": None,
                            "scale": {"domain": [0, 1], "range": [0, 0.5]}},
                "tooltip": told,
            }},
            {"mark": {"type": "text"}, "encoding": {"text": {
                "condition": {"test": "datum.r === null", "value": "–"},
                "field": "r", "type": "quantitative", "format": "+.2f"}}},
        ],
    }  # fmt: skip
    chosen = {
        "name": "comparison",
        "value": pairs[0],
        "bind": {"input": "select", "options": pairs, "name": "comparison "},
    }
    return _panels([unit], rows, 1, params=[chosen])


def costs(found: Sequence[CostRow]) -> Spec:
    """Hours of each variant, all its models together, by stage; what is not known has no bar."""
    rows = [
        {"variant": row.variant, "stage": stage, "hours": hours, "device": device, "models": row.models}
        for row in found
        for stage, hours, device in (
            ("training", row.training_hours, row.training_device),
            ("drawing", row.drawing_hours, row.drawing_device),
        )
        if hours is not None
    ]
    panel: Spec = {
        "width": 2 * _WIDTH,
        "height": {"step": 20},
        "mark": {"type": "bar", "height": {"band": 0.7}},
        "encoding": {
            "y": {"field": "variant", "type": "nominal", "sort": [row.variant for row in found], "title": None},
            "x": {"field": "hours", "type": "quantitative", "title": "hours", "axis": _NUMBERS},
            "color": {"field": "stage", "type": "nominal", "title": None,
                      "scale": {"domain": ["training", "drawing"], "range": "stages"}, "legend": {"orient": "top"}},
            "order": {"field": "stage", "sort": "descending"},
            "tooltip": _told(("variant", ""), ("stage", ""), ("hours", ""), ("models", ""), ("device", "on")),
        },
    }  # fmt: skip
    return _panels([panel], rows, 1)


def _by_group(groups: Sequence[Group], palette: Palette, *, by_noise: bool) -> Spec:
    rows: list[Spec] = []
    units: list[Spec] = []
    present: dict[str, object] = {line.variant: None for group in groups for line in group.lines}
    several = len({group.base for group in groups}) > 1
    axis = "share of noise" if by_noise else "optimizer step"
    for group in groups:
        title = ", ".join(part for part in (group.objective, group.pairs, group.base if several else "") if part)
        for place, name in enumerate(("winner drift", "loser drift", "safe scale λ")):
            number, drawn = len(units), 0
            for line in group.lines:
                found = line.by_noise if by_noise else (line.winner_drift, line.loser_drift, line.safe_scale)
                points = _points(number, line.variant, found[place])
                drawn += len(points)
                rows += points
            if drawn:
                unit = _curves(number, f"{title}: {name}", axis, name, palette.channels(present))
                if place < 2:
                    unit["layer"].insert(0, _rule("y", 0.0))
                else:
                    unit["layer"][1]["encoding"]["y"]["scale"] = {"domain": [0, 1.05]}
            else:
                why = "no loser, so no safe scale" if place == 2 and not by_noise else "not in the log"
                text = {"type": "text", "text": why}
                unit = {
                    "title": f"{title}: {name}",
                    "width": _WIDTH,
                    "height": _HEIGHT,
                    "data": {"values": [{}]},
                    "mark": text,
                }
            units.append(unit)
    return _panels(units, rows, _COLUMNS)


def _points(panel: int, variant: str, curve: Curve | None) -> list[Spec]:
    if curve is None:
        return []
    # Few points are drawn as such: a single one has no line.
    few = len(curve.steps) < 12
    return [
        {"panel": panel, "variant": variant, "x": x, "mean": mean, "low": low, "high": high, "few": few}
        # More digits than a chart shows, and than these need.
        for x, mean, low, high in (
            tuple(significant(value, 6) for value in point)
            for point in zip(curve.steps, curve.mean, curve.low, curve.high, strict=True)
        )
    ]


def _curves(panel: int, title: str, axis: str, value: str, channels: Spec) -> Spec:
    x = {
        "field": "x",
        "type": "quantitative",
        "title": axis,
        "axis": {**_NUMBERS, "grid": False},
        "scale": {"nice": False},
    }
    y = {"type": "quantitative", "title": None, "axis": _NUMBERS, "scale": {"zero": False}}
    told = _told(("variant", ""), ("x", axis), ("mean", value), ("low", "least seed"), ("high", "greatest seed"))
    colour = {"color": channels["color"]}
    return {
        "title": title,
        "width": _WIDTH,
        "height": _HEIGHT,
        "transform": [{"filter": {"field": "panel", "equal": panel}}],
        "layer": [
            {"mark": {"type": "area", "opacity": 1, "fillOpacity": 0.2}, "encoding": {
                "x": x, "y": {"field": "low", **y}, "y2": {"field": "high"}, **colour}},
            {"mark": {"type": "line", "strokeWidth": 2}, "encoding": {"x": x, "y": {"field": "mean", **y}, **channels}},
            {"mark": {"type": "point", "filled": True, "size": 30}, "encoding": {
                "x": x, "y": {"field": "mean", **y}, **colour, "tooltip": told,
                "opacity": {"condition": {"test": "datum.few", "value": 1}, "value": 0}}},
        ],
    }  # fmt: skip


_NUMBERS = {"tickCount": 5}


def _rule(channel: str, value: float) -> Spec:
    return {"data": {"values": [{}]}, "mark": {"type": "rule", "opacity": 0.6}, "encoding": {channel: {"datum": value}}}


_MEASURED = {"mean", "low", "high", "r", "hours"}


def _told(*fields: tuple[str, str]) -> list[Spec]:
    """What is shown of a mark that is pointed at, by field and title."""
    return [
        {
            "field": field,
            "title": title or field,
            **({"type": "quantitative", "format": ".4~g"} if field in _MEASURED else {}),
        }
        for field, title in fields
    ]


def _panels(units: Sequence[Spec], rows: Iterable[Spec], columns: int, **more: Any) -> Spec:
    return {
        "$schema": SCHEMA,
        "data": {"values": list(rows)},
        "concat": list(units),
        "columns": columns,
        "spacing": 24,
        "resolve": {"scale": {"x": "independent", "y": "independent"}},
        **more,
    }
