"""Colours and dashes of charts: names of the page's own colours, and what they are on paper.

The palette is that of Okabe and Ito (2008), which stays distinct under the common colour-vision deficiencies; dashes
and text carry the same information. On a page a colour is a property of its style, so that dark pages and print need
no chart of their own.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from evals.tables.main_table import row_order

if TYPE_CHECKING:
    from collections.abc import Mapping

    from evals.tables.comparison import Comparison

PAPER = {
    "ink": "#1f2328",
    "soft": "#59636e",
    "line": "#dfe3e8",
    "page": "#ffffff",
    "higher": "#0072b2",
    "lower": "#d55e00",
    "plain-1": "#d55e00",
    "plain-2": "#cc79a7",
    "plain-3": "#e69f00",
    "guarded-1": "#0072b2",
    "guarded-2": "#009e73",
    "guarded-3": "#56b4e9",
}
"""Colours of a figure on white; ``page.css`` has the same names for light and dark pages."""

_KINDS = 3
_DASHES = {False: ([6, 3], [2, 2], [8, 2, 2, 2]), True: ([1, 0], [10, 3], [12, 2, 2, 2])}


@dataclass(frozen=True)
class Palette:
    """Each variant's colour, by its name in :data:`PAPER`, and dash, the same in every chart."""

    variants: tuple[str, ...]
    colours: tuple[str, ...]
    dashes: tuple[tuple[int, ...], ...]

    @classmethod
    def of(cls, comparison: Comparison) -> Palette:
        """Safeguarded variants are cool and solid, the others warm and dashed; what was not trained here is grey.

        Once the colours are used up, the dashes are others.
        """
        seen = {True: 0, False: 0}
        colours: list[str] = []
        dashes: list[tuple[int, ...]] = []
        variants = row_order(comparison)
        for variant in variants:
            first = comparison.of_variant(variant)[0]
            if not first.trained:
                colours.append("ink")
                dashes.append((1, 2))
                continue
            turn, place = divmod(seen[first.safeguard], _KINDS)
            kinds = _DASHES[first.safeguard]
            colours.append(f"{'guarded' if first.safeguard else 'plain'}-{place + 1}")
            dashes.append(tuple(kinds[turn % len(kinds)]))
            seen[first.safeguard] += 1
        return cls(variants, tuple(colours), tuple(dashes))

    def config(self, *, paper: bool) -> dict[str, Any]:
        """What a Vega-Lite specification is drawn with, on white paper or on the page."""

        def colour(name: str) -> str:
            return PAPER[name] if paper else f"var(--{name})"

        axis = {"labelColor": colour("ink"), "titleColor": colour("ink"), "domainColor": colour("line")}
        return {
            "font": "DejaVu Sans"
            if paper
            else "system-ui, -apple-system, 'Segoe UI', Roboto, 'DejaVu Sans', sans-serif",
            "background": colour("page") if paper else "transparent",
            "view": {"stroke": "transparent"},
            "axis": {
                **axis,
                "tickColor": colour("line"),
                "gridColor": colour("line"),
                "titleFontWeight": "normal",
                "labelLimit": 260,
            },
            "legend": {"labelColor": colour("ink"), "titleColor": colour("ink"), "labelLimit": 260},
            "title": {"color": colour("ink"), "anchor": "start", "fontSize": 12},
            "text": {"color": colour("ink")},
            "rule": {"color": colour("ink")},
            "range": {
                "variants": [colour(name) for name in self.colours],
                "verdicts": [colour(name) for name in ("higher", "lower", *["soft"] * 3, "ink")],
                "signs": [colour(name) for name in ("lower", "higher")],
                "stages": [colour(name) for name in ("guarded-1", "plain-3")],
            },
        }

    def channels(self, present: Mapping[str, object]) -> dict[str, Any]:
        """Colour and dash by the field ``variant``; the legend has those that are ``present``."""
        shared = {"field": "variant", "type": "nominal", "title": None}
        legend = {
            "orient": "top",
            "columns": 4,
            "symbolType": "stroke",
            "symbolSize": 300,
            "symbolStrokeWidth": 2,
            # Else the symbols are those of the bands, which have no stroke.
            "encoding": {"symbols": {"update": {"stroke": {"scale": "color", "field": "value"}}}},
            "values": [variant for variant in self.variants if variant in present],
        }
        return {
            "color": {**shared, "scale": {"domain": self.variants, "range": "variants"}, "legend": legend},
            "strokeDash": {**shared, "scale": {"domain": self.variants, "range": self.dashes}},
        }
