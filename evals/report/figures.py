"""The report's figures: curves of drift and λ, and the win-rate matrix, for a light and a dark page.

Equal data give equal bytes: no dates, no random identifiers, no user's matplotlib style. Colours are from the
palette of Okabe and Ito (2008), which stays distinct under the common colour-vision deficiencies; line style
and text carry the same information.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from evals.report.curves import Curve, Group
    from evals.report.guidance import Panel
    from evals.tables.rows import WinRateRow

_DPI = 160


@dataclass(frozen=True)
class Theme:
    """Colours of a figure on a page; ``background`` is ``none`` where the page shows through."""

    ink: str
    muted: str
    background: str
    page: str
    plain: tuple[str, ...]
    safeguarded: tuple[str, ...]


LIGHT = Theme(
    "#1f2328", "#c9ced6", "none", "#ffffff", ("#d55e00", "#cc79a7", "#e69f00"), ("#0072b2", "#009e73", "#56b4e9")
)
DARK = Theme(
    "#e4e7eb", "#4a525c", "none", "#16191d", ("#e69f00", "#cc79a7", "#d55e00"), ("#56b4e9", "#009e73", "#0072b2")
)
PAPER = replace(LIGHT, background=LIGHT.page)
_NEUTRAL = "#f4f4f2"


@dataclass(frozen=True)
class Drawing:
    """One figure in three forms: SVG for a light and a dark page, and PNG on white for a file.

    ``width`` is its natural width on a page, in CSS pixels (96 an inch).
    """

    light: bytes
    dark: bytes
    png: bytes
    width: int


def draw_drift(groups: Sequence[Group]) -> Drawing:
    """One row a group, three panels: held-out winner drift, held-out loser drift, λ in training.

    The line is the mean over seeds, the band reaches from the least to the greatest seed. Baselines are dashed.
    """
    return _drawing("drift", lambda theme: _curves_figure(groups, theme, by_noise=False))


def draw_noise(groups: Sequence[Group]) -> Drawing:
    """As :func:`draw_drift`, of training batches, by share of noise; empty for logs from before it was noted."""
    return _drawing("noise", lambda theme: _curves_figure(groups, theme, by_noise=True))


def draw_guidance(panels: Sequence[Panel]) -> Drawing:
    """Mean score by guidance scale, a row a scorer and a column a prompt set; lines and bands as in the drift's."""
    return _drawing("guidance", lambda theme: _guidance_figure(panels, theme))


def draw_win_rates(blocks: Mapping[str, Sequence[WinRateRow]], scorers: Sequence[str], significant: float) -> Drawing:
    """A matrix of win rates: rows are compared pairs, columns scorers.

    Args:
        blocks: heading to its rows of ``win_rates.csv``, one a pair and scorer; an empty block is left out.
        scorers: order of the columns.
        significant: the level; a star marks a Holm-adjusted p below it, in brackets where nothing was trained twice.

    A cell shows the share of wins, ties half.
    """
    return _drawing("win_rates", lambda theme: _win_rate_figure(blocks, scorers, significant, theme))


def _curves_figure(groups: Sequence[Group], theme: Theme, *, by_noise: bool) -> Figure:
    from matplotlib.figure import Figure
    from matplotlib.ticker import FuncFormatter, MaxNLocator

    figure = Figure(figsize=(9.6, 0.45 + 1.95 * len(groups)), layout="constrained")
    figure.get_layout_engine().set(h_pad=0.07, w_pad=0.06, hspace=0.04, wspace=0.03)  # type: ignore[union-attr, call-arg]
    panels = figure.subplots(len(groups), 3, squeeze=False, sharex="row")
    names = ("winner drift", "loser drift", "safe scale λ")
    several = len({group.base for group in groups}) > 1
    for row, group in zip(panels, groups, strict=True):
        styles = _line_styles([line.safeguard for line in group.lines], theme)
        for line, (colour, dash) in zip(group.lines, styles, strict=True):
            curves = line.by_noise if by_noise else (line.winner_drift, line.loser_drift, line.safe_scale)
            for axes, curve in zip(row, curves, strict=True):
                _curve(axes, curve, colour, dash, line.variant)
        for axes in row[:2]:
            axes.axhline(0, color=theme.ink, linewidth=0.8, zorder=1)
        for axes, name in zip(row, names, strict=True):
            axes.set_ylabel(name, fontsize=8.5)
            axes.spines[["top", "right"]].set_visible(False)
            axes.grid(axis="y", color=theme.muted, linewidth=0.5, alpha=0.6)
            axes.xaxis.set_major_locator(MaxNLocator(5, integer=not by_noise))
            if by_noise:
                axes.set_xlim(0, 1)
            axes.yaxis.set_major_locator(MaxNLocator(4))
            axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}".replace("-", "−")))
            axes.margins(x=0.01)
        if all(line.safe_scale is None for line in group.lines):
            row[2].text(
                0.5,
                0.5,
                "no loser,\nso no safe scale",
                transform=row[2].transAxes,
                ha="center",
                va="center",
                fontsize=9,
            )
            row[2].set_axis_off()
        else:
            row[2].set_ylim(-0.04, 1.06)
        title = ", ".join(part for part in (group.objective, group.pairs, group.base if several else "") if part)
        row[0].set_title(title, loc="left", fontsize=10, fontweight="bold")
        handles, labels = row[0].get_legend_handles_labels()
        legend = row[2].legend(
            handles, labels, loc="lower right", bbox_to_anchor=(1.0, 1.0), ncols=min(len(labels), 3),
            frameon=False, fontsize=8.5, borderaxespad=0.1, handlelength=2.2, columnspacing=1.2,
        )  # fmt: skip
        # Long names must not narrow the panels.
        legend.set_in_layout(False)
    for axes in panels[-1]:
        axes.set_xlabel("share of noise" if by_noise else "optimizer step", fontsize=8.5)
    return figure


def _guidance_figure(panels: Sequence[Panel], theme: Theme) -> Figure:
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    rows = list(dict.fromkeys(panel.scorer for panel in panels))
    columns = list(dict.fromkeys(panel.prompt_set for panel in panels))
    figure = Figure(figsize=(min(9.6, 2.4 + 3.6 * len(columns)), 0.7 + 2.2 * len(rows)), layout="constrained")
    grid = figure.subplots(len(rows), len(columns), squeeze=False, sharex="col")
    for axes in grid.flat:
        axes.set_axis_off()
    for panel in panels:
        axes = grid[rows.index(panel.scorer)][columns.index(panel.prompt_set)]
        axes.set_axis_on()
        trained = [line for line in panel.lines if line.trained]
        for line in panel.lines:
            if not line.trained:
                _curve(axes, line.curve, theme.ink, ":", line.variant)
        for line, (colour, dash) in zip(trained, _line_styles([x.safeguard for x in trained], theme), strict=True):
            _curve(axes, line.curve, colour, dash, line.variant)
        axes.set_ylabel(panel.scorer, fontsize=8.5)
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(axis="y", color=theme.muted, linewidth=0.5, alpha=0.6)
        axes.yaxis.set_major_locator(MaxNLocator(5))
        if panel.scorer == rows[0]:
            axes.set_title(panel.prompt_set, loc="left", fontsize=10, fontweight="bold")
        if panel.scorer == rows[-1]:
            axes.set_xlabel("guidance scale", fontsize=8.5)
    handles, labels = next(axes for axes in grid.flat if axes.lines).get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside right upper", frameon=False, fontsize=8.5, handlelength=2.2)
    return figure


def _line_styles(safeguards: Sequence[bool], theme: Theme) -> Iterator[tuple[str, str]]:
    """Colour and dash of each line: safeguarded ones solid and cool, the others dashed and warm.

    Once the colours are used up, the dashes are others.
    """
    seen = {True: 0, False: 0}
    for safeguard in safeguards:
        palette, dashes = (theme.safeguarded, ("-", "-.")) if safeguard else (theme.plain, ("--", ":"))
        turn, place = divmod(seen[safeguard], len(palette))
        yield palette[place], dashes[turn % len(dashes)]
        seen[safeguard] += 1


def _curve(axes: Axes, curve: Curve | None, colour: str, dash: str, label: str) -> None:
    if curve is None or not curve.steps:
        return
    axes.fill_between(curve.steps, curve.low, curve.high, color=colour, alpha=0.2, linewidth=0)
    # A single point has no line.
    marker = "o" if len(curve.steps) < 12 else ""
    axes.plot(
        curve.steps, curve.mean, color=colour, linestyle=dash, linewidth=1.6, marker=marker, markersize=3, label=label
    )


def _win_rate_figure(
    blocks: Mapping[str, Sequence[WinRateRow]], scorers: Sequence[str], significant: float, theme: Theme
) -> Figure:
    from matplotlib.colors import LinearSegmentedColormap
    from matplotlib.figure import Figure

    shown = {heading: rows for heading, rows in blocks.items() if rows}
    pairs = {heading: list(dict.fromkeys((row.a, row.b) for row in rows)) for heading, rows in shown.items()}
    heights = [len(listed) for listed in pairs.values()]
    colours = LinearSegmentedColormap.from_list("loses to wins", [LIGHT.plain[0], _NEUTRAL, LIGHT.safeguarded[0]])
    longest = max(len(f"{a}  vs  {b}") for listed in pairs.values() for a, b in listed)
    # Labels take about 0.085 inch a letter, a column its scorer's name or a number, all together a heading.
    columns = max(sum(max(0.9, 0.1 * len(scorer)) for scorer in scorers), 0.1 * max(map(len, shown)))
    width = min(9.6, 0.3 + 0.085 * longest + columns)
    figure = Figure(figsize=(width, 0.34 * sum(heights) + 0.62 * len(heights) + 0.45), layout="constrained")
    panels = figure.subplots(len(heights), 1, squeeze=False, height_ratios=heights)[:, 0]
    for index, (axes, (heading, rows)) in enumerate(zip(panels, shown.items(), strict=True)):
        cells = {(row.a, row.b, row.scorer): row for row in rows}
        for y, pair in enumerate(pairs[heading]):
            for x, scorer in enumerate(scorers):
                row = cells.get((*pair, scorer))
                if row is None:
                    continue
                red, green, blue, _ = colours(row.win_rate)
                axes.fill([x, x + 1, x + 1, x], [y, y, y + 1, y + 1], color=(red, green, blue), edgecolor="none")
                dark = 0.299 * red + 0.587 * green + 0.114 * blue < 0.55
                star = "" if row.p_holm >= significant else " *" if row.n_seeds > 1 else " (*)"
                axes.text(
                    x + 0.5, y + 0.5, f"{row.win_rate:.3f}{star}", ha="center", va="center", fontsize=9,
                    color="#ffffff" if dark else "#1f2328", fontweight="bold" if star else "normal",
                )  # fmt: skip
        axes.set_xlim(0, len(scorers))
        axes.set_ylim(len(pairs[heading]), 0)
        axes.set_yticks([y + 0.5 for y in range(len(pairs[heading]))], [f"{a}  vs  {b}" for a, b in pairs[heading]])
        axes.set_xticks([x + 0.5 for x in range(len(scorers))], list(scorers) if index == 0 else [""] * len(scorers))
        axes.xaxis.tick_top()
        axes.tick_params(length=0, labelsize=9)
        axes.spines[:].set_visible(False)
        axes.set_xticks(range(len(scorers) + 1), minor=True)
        axes.set_yticks(range(len(pairs[heading]) + 1), minor=True)
        axes.grid(which="minor", color=theme.page, linewidth=2)
        axes.tick_params(which="minor", length=0)
        axes.set_title(heading, loc="left", fontsize=10, fontweight="bold")
    return figure


def _drawing(name: str, draw: Callable[[Theme], Figure]) -> Drawing:
    with _style(LIGHT, name):
        light = _save(draw(LIGHT), "svg")
    with _style(DARK, name):
        dark = _save(draw(DARK), "svg")
    with _style(PAPER, name):
        figure = draw(PAPER)
        png = _save(figure, "png")
    return Drawing(light, dark, png, round(96 * figure.get_figwidth()))


@contextmanager
def _style(theme: Theme, name: str) -> Iterator[None]:
    import matplotlib

    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(
            {
                # Names of variants may hold dollar signs; they are text, not mathematics.
                "text.parse_math": False,
                "svg.hashsalt": name,
                "svg.fonttype": "path",
                "font.family": "DejaVu Sans",
                "font.size": 9,
                "text.color": theme.ink,
                "axes.labelcolor": theme.ink,
                "axes.edgecolor": theme.muted,
                "axes.titlecolor": theme.ink,
                "axes.facecolor": "none",
                "xtick.color": theme.muted,
                "ytick.color": theme.muted,
                "xtick.labelcolor": theme.ink,
                "ytick.labelcolor": theme.ink,
                "figure.facecolor": theme.background,
                "savefig.facecolor": theme.background,
            }
        )
        yield


def _save(figure: Figure, form: str) -> bytes:
    # Agg and SVG only: `Figure` without pyplot never asks for a display.
    file = io.BytesIO()
    metadata = {"Date": None} if form == "svg" else {"Software": None}
    figure.savefig(file, format=form, dpi=_DPI, metadata=metadata)
    return file.getvalue()
