"""Write the report of a benchmark: ``report/index.html`` and the figures it shows, as files."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

from artifacts import layout
from artifacts.atomic import write_bytes, write_text
from artifacts.contracts import read_table
from artifacts.errors import InputError
from artifacts.file_names import user_path
from evals.report.curves import drift_groups
from evals.report.figures import Drawing, draw_drift, draw_guidance, draw_noise, draw_win_rates
from evals.report.grids import Grid, data_uri, draw_grid, read_grid
from evals.report.guidance import guidance_panels
from evals.report.results import Group, Results, groups
from evals.report.sources import read_json, read_provenance
from evals.report.summary import compared_scores, drift_summaries, interval, number, verdict_columns, verdicts
from evals.tables.comparison import ASKED
from evals.tables.main_table import MEAN_WIN_RATE, row_order
from evals.tables.numbers import percent
from evals.tables.rows import MEAN_OF_JUDGES, POOLED
from evals.tables.table_notes import apart_note, limits_note, over_all
from evals.tables.trainings import in_words, trainings

if TYPE_CHECKING:
    from markupsafe import Markup

    from evals.report.settings import GridSettings
    from evals.tables.comparison import Comparison


@dataclass(frozen=True)
class Agreement:
    """How often a scorer prefers the image that the oracle prefers, on held-out pairs, as printed."""

    scorer: str
    share: str
    interval: str
    pairs: str
    percent: float


def write_report(
    comparison: Comparison,
    *,
    grid: GridSettings,
    beside: Sequence[str] = (),
    scorer_agreement: Path | None = None,
    guidance_scale: float | None = None,
) -> Path:
    """Write the page and ``figures/{drift,noise,win_rates,guidance,grid}.png``; equal inputs give equal bytes.

    The page loads nothing: styles and images are inside it, there is no script, and a content security policy
    forbids the network. All text is escaped. A figure without data (no trained model, nothing compared) is not
    written.

    Args:
        comparison: what is compared with what; its tables must have been written.
        grid: what the image grid shows.
        beside: result folders of other benchmarks, whose main tables are shown too.
        scorer_agreement: JSON ``{"scorers": {name: {"agreement", "pairs", "ci_low", "ci_high"}}}``: the share of
            held-out pairs, 0 to 1, in which the scorer agrees with the oracle; the interval may be left out.
        guidance_scale: of the images of prompt sets without settings of their own; with it, and with sets that show
            the same prompts under others, there are curves by guidance.

    Returns:
        Path of the page.

    Raises:
        InputError: an input is missing, malformed, or does not match the others.
    """
    root = comparison.root
    results = Results.read(root)
    compared = groups(comparison, results)
    image_grid = read_grid(comparison, grid.prompt_set, grid.prompts, grid.seed)
    curves = drift_groups(comparison)
    drift = draw_drift(curves) if curves else None
    noise = draw_noise(curves) if curves else None
    significant = round(1 - comparison.statistics.confidence, 12)
    columns = verdict_columns(comparison, results)
    judges = [name for name in columns if name not in comparison.no_judges]
    matrix = draw_win_rates(_matrix(results, compared), judges, significant) if compared and judges else None
    panels = () if guidance_scale is None else guidance_panels(comparison, results.scores, guidance_scale)
    guidance = draw_guidance(panels) if panels else None
    contact_sheet = draw_grid(image_grid)
    counts = _prompt_counts(comparison)
    page = _render(
        {
            "comparison": comparison,
            "confidence": percent(comparison.statistics.confidence),
            "prompt_counts": counts,
            # Those that a set shows of another are the same.
            "prompts": sum(n for name, n in counts.items() if name not in comparison.shown),
            "over_sets": f"pooled over {', '.join(comparison.pooled)}"
            if comparison.apart
            else "all prompt sets pooled",
            "seed_counts": _seed_counts(comparison),
            "over": over_all(results.differences),
            "seeds": {row.n_seeds > 1 for row in results.differences},
            "verdict_columns": [MEAN_WIN_RATE if name == MEAN_OF_JUDGES else name for name in columns],
            "limits": limits_note(comparison),
            "verdicts": {group.heading: verdicts(comparison, results, group.pairs) for group in compared},
            "trainings": [
                {**found, "variant": variant, **{key: in_words(found[key]) for key in ("parameters", "safeguard")}}
                for variant, found in trainings(comparison).items()
            ],
            "main_table": _main_table(root / "tables" / "main.html"),
            "beside": {folder: _beside(folder) for folder in beside},
            "blocks": _blocks(comparison, results, compared),
            "prompt_sets": (POOLED, *comparison.prompt_sets) if len(comparison.prompt_sets) > 1 else (POOLED,),
            "pooled": POOLED,
            "significant": significant,
            "matrix": _pictures(matrix),
            "guidance_curves": _pictures(guidance),
            "guidance_sets": list(dict.fromkeys(panel.prompt_set for panel in panels)),
            "apart": apart_note(comparison),
            "drift": drift_summaries(results.drift, row_order(comparison)),
            "several_pairs": len({row.pairs for row in results.drift}) > 1,
            "drift_curves": _pictures(drift),
            "noise_curves": _pictures(noise),
            "drift_rows": [f"{group.objective} on {group.pairs}" for group in curves],
            "grid": image_grid,
            "grid_seed": grid.seed,
            "grid_images": _grid_images(image_grid),
            "agreement": read_agreement(scorer_agreement, tuple(comparison.scorers)) if scorer_agreement else (),
            "provenance": read_provenance(comparison),
        }
    )
    drawn = {
        "drift.png": drift and drift.png,
        "noise.png": noise and noise.png,
        "win_rates.png": matrix and matrix.png,
        "guidance.png": guidance and guidance.png,
        "grid.png": contact_sheet,
    }
    for name, png in drawn.items():
        if png:
            write_bytes(root / "figures" / name, png)
    path = root / "report" / "index.html"
    write_text(path, page)
    return path


def _render(content: Mapping[str, Any]) -> str:
    import jinja2
    from markupsafe import Markup

    resources = files("evals.report")
    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True, auto_reload=False
    )
    environment.filters["breakable"] = _breakable
    template = environment.from_string((resources / "page.html.j2").read_text(encoding="utf-8"))
    style = Markup((resources / "page.css").read_text(encoding="utf-8"))
    # The fragments that come with their own markup: the tables stage escapes them.
    fragment = Markup(content["main_table"])
    beside = {folder: text and Markup(text) for folder, text in content["beside"].items()}
    return template.render({**content, "style": style, "main_table": fragment, "beside": beside}) + "\n"


def _breakable(name: str) -> Markup:
    """A name that may wrap after its separators."""
    from markupsafe import Markup, escape

    text = escape(name)
    for separator in "_+/":
        text = text.replace(separator, Markup(f"{separator}<wbr>"))
    return text


def _matrix(results: Results, compared: Sequence[Group]) -> dict[str, list[Any]]:
    pooled: dict[tuple[str, str], list[Any]] = {}
    for row in results.win_rates:
        if row.prompt_set == POOLED:
            pooled.setdefault((row.a, row.b), []).append(row)
    return {group.heading: [row for p in group.pairs for row in pooled[p.a, p.b]] for group in compared}


def _blocks(comparison: Comparison, results: Results, compared: Sequence[Group]) -> list[dict[str, Any]]:
    names = (POOLED, *comparison.prompt_sets)
    return [
        {
            "heading": group.heading,
            "tables": {
                name: [(pair, compared_scores(comparison, results, pair, name)) for pair in group.pairs]
                for name in names
            },
            "open": index == 0 or group.kind == ASKED,
        }
        for index, group in enumerate(compared)
    ]


def _pictures(drawing: Drawing | None) -> dict[str, Any] | None:
    if drawing is None:
        return None
    shown = {"light": drawing.light, "dark": drawing.dark}
    uris = {k: "data:image/svg+xml;base64," + base64.b64encode(svg).decode("ascii") for k, svg in shown.items()}
    return {**uris, "width": drawing.width}


def _grid_images(grid: Grid) -> list[dict[str, Any]]:
    rows = []
    for row in grid.rows:
        images = []
        for tile in row.tiles:
            uri, width, height = data_uri(tile)
            images.append({"prompt": tile.prompt, "uri": uri, "width": width, "height": height})
        rows.append({"label": row.label, "images": images})
    return rows


def main_table_of(folder: str) -> str:
    """The main table of a benchmark by its result folder."""
    return (Path(folder) / "tables" / "main.html").as_posix()


def _beside(folder: str) -> str | None:
    """The main table of another benchmark; ``None`` where it has none yet."""
    path = user_path(main_table_of(folder))
    return path.read_text(encoding="utf-8") if path.is_file() else None


def _main_table(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError as error:
        raise InputError(f"{path}: no such file; run snakemake to make it") from error


def _over_sets(comparison: Comparison) -> str:
    """What the pooled rows are over."""
    return f"pooled over {', '.join(comparison.pooled)}" if comparison.apart else "all prompt sets pooled"


def _prompt_counts(comparison: Comparison) -> dict[str, int]:
    return {name: len(read_table(layout.prompts(comparison.root, name), "prompts")) for name in comparison.prompt_sets}


def _seed_counts(comparison: Comparison) -> str:
    """``3`` or ``2 to 3``: training seeds of a trained variant; empty if nothing was trained."""
    counts = {len(comparison.of_variant(model.variant)) for model in comparison.models if model.trained}
    if len(counts) < 2:
        return "".join(map(str, counts))
    return f"{min(counts)} to {max(counts)}"


def read_agreement(path: Path, order: Sequence[str]) -> tuple[Agreement, ...]:
    """Read the scorers' agreement with the oracle, in the given order of scorers, unknown ones last.

    Raises:
        InputError: the file is missing or has another shape.
    """
    scorers = read_json(path).get("scorers")
    try:
        rows = []
        known_first = sorted(dict(scorers or {}).items(), key=lambda item: (*order, item[0]).index(item[0]))
        for name, found in known_first:
            low, high = found.get("ci_low"), found.get("ci_high")
            share = float(found["agreement"])
            known = low is not None and high is not None
            rows.append(
                Agreement(
                    scorer=str(name),
                    share=number(share, 3),
                    interval=interval(float(low), float(high), 3) if known else "–",
                    pairs=str(int(found["pairs"])),
                    percent=min(max(100 * share, 0.0), 100.0),
                )
            )
        return tuple(rows)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise InputError(
            f"{path}: expected scorers, each with agreement and pairs ({error!r}); delete it and run snakemake again"
        ) from error
