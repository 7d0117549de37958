"""Write the report of a benchmark: ``report/index.html`` and the figures it shows, as files."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from markupsafe import Markup

from artifacts.atomic import write_bytes, write_text
from artifacts.errors import InputError
from artifacts.file_names import user_path
from evals.report import charts
from evals.report.browser import write_browser
from evals.report.colours import Palette
from evals.report.comparison_table import compared_rows, difference_marks, prompt_sets, rank_marks, win_rate_matrix
from evals.report.curves import drift_groups
from evals.report.degenerate import degenerate_rows, sentences, to_csv
from evals.report.document import render, resource
from evals.report.drawing import png, scripts
from evals.report.gaps import gaps
from evals.report.grids import Grid, data_uri, draw_grid, read_grid
from evals.report.guidance import guidance_panels
from evals.report.numbers import numbers
from evals.report.oracle_agreement import read_agreement
from evals.report.results import Results, groups
from evals.report.score_files import read_score_files
from evals.report.scorer_agreement import correlations, unlike
from evals.report.settings import DEGENERATE, main_table_of
from evals.report.sources import read_provenance
from evals.report.summary import drift_summaries, verdict_columns, verdicts
from evals.tables.main_table import MEAN_WIN_RATE, row_order
from evals.tables.numbers import percent
from evals.tables.rows import MEAN_OF_JUDGES, POOLED
from evals.tables.table_notes import apart_note, limits_note, over_all
from evals.tables.trainings import in_words, trainings

if TYPE_CHECKING:
    from evals.generation.settings import SamplingSettings
    from evals.report.settings import GridSettings
    from evals.tables.comparison import Comparison
    from evals.tables.rows import CostRow

FIGURES = ("differences", "ranks", "drift", "noise", "guidance")
"""Charts that are files too."""


def write_report(
    comparison: Comparison,
    *,
    grid: GridSettings,
    beside: Sequence[str] = (),
    scorer_agreement: Path | None = None,
    generation: SamplingSettings | None = None,
) -> Path:
    """Write the page, the image browser and ``figures/{differences,ranks,drift,noise,guidance,grid}.png``.

    Equal inputs give equal bytes.

    The page loads nothing: styles, scripts and images are inside it, and a content security policy forbids all else,
    the network too. All text is escaped. A figure without data (no trained model, nothing compared) is not written.
    What is missing of scores, seeds and images is said on the page (:mod:`evals.report.gaps`).

    Args:
        comparison: what is compared with what; its tables must have been written.
        grid: what the image grid shows.
        beside: result folders of other benchmarks, whose main tables are shown too.
        scorer_agreement: JSON ``{"scorers": {name: {"agreement", "pairs", "ci_low", "ci_high"}}}``: the share of
            held-out pairs, 0 to 1, in which the scorer agrees with the oracle; the interval may be left out.
        generation: how prompt sets without settings of their own are drawn; with it, and with sets that show the same
            prompts under another guidance, there are curves by guidance.

    Returns:
        Path of the page.

    Raises:
        InputError: an input is missing, malformed, or does not match the others.
    """
    root = comparison.root
    results = Results.read(root)
    scores = read_score_files(comparison)
    provenance = read_provenance(comparison, scores.fingerprints)
    compared = groups(comparison, results)
    columns = verdict_columns(comparison, results)
    judges = [name for name in columns if name not in comparison.no_judges]
    significant = round(1 - comparison.statistics.confidence, 12)
    image_grid = read_grid(comparison, grid.prompt_set, grid.prompts, grid.seed)
    curves = drift_groups(comparison)
    panels = () if generation is None else guidance_panels(comparison, results.scores, generation)
    correlated = correlations(comparison, scores, [pair for group in compared for pair in group.pairs])
    degenerate = degenerate_rows(comparison, scores)
    palette = Palette.of(comparison)
    marks = list(difference_marks(comparison, results, compared))
    ranked = list(rank_marks(comparison, results.ranks))
    drawn = {
        "differences": charts.intervals(marks, "difference") if marks else None,
        "drift": charts.drift(curves, palette) if curves else None,
        "noise": charts.noise(curves, palette) if curves else None,
        "guidance": charts.guidance(panels, palette) if panels else None,
        "agreement": charts.agreement(correlated) if correlated and len(comparison.judges) > 1 else None,
        "cost": charts.costs(results.costs) if any(map(_known, results.costs)) else None,
        "ranks": charts.intervals(ranked, "rank", null=None) if ranked else None,
    }
    counts = {name: len(table) for name, table in scores.prompts.items()}
    page = render(
        "page.html.j2",
        {
            "comparison": comparison,
            "confidence": percent(comparison.statistics.confidence),
            "prompt_counts": counts,
            # Those that a set shows of another are the same.
            "prompts": sum(n for name, n in counts.items() if name not in comparison.shown),
            "over_sets": _over_sets(comparison),
            "seed_counts": _seed_counts(comparison),
            "over": over_all(results.differences),
            "seeds": {row.n_seeds > 1 for row in results.differences},
            "gaps": (*gaps(comparison, scores), *sentences(degenerate)),
            "verdict_columns": [MEAN_WIN_RATE if name == MEAN_OF_JUDGES else name for name in columns],
            "limits": limits_note(comparison),
            "verdicts": {group.heading: verdicts(comparison, results, group.pairs) for group in compared},
            "trainings": [
                {**found, "variant": variant, **{key: in_words(found[key]) for key in ("parameters", "safeguard")}}
                for variant, found in trainings(comparison).items()
            ],
            # The fragments come with their own markup: the tables stage escapes them.
            "main_table": Markup(_main_table(root / "tables" / "main.html")),
            "beside": {folder: _beside(folder) for folder in beside},
            "compared": compared_rows(comparison, results, compared),
            "prompt_sets": prompt_sets(comparison),
            "pooled": POOLED,
            "significant": significant,
            "judges": judges,
            "matrix": win_rate_matrix(results, compared, judges, significant),
            "guidance_sets": list(dict.fromkeys(panel.prompt_set for panel in panels)),
            "apart": apart_note(comparison, generation.model_dump() if generation else {}),
            "drift": drift_summaries(results.drift, row_order(comparison)),
            "several_pairs": len({row.pairs for row in results.drift}) > 1,
            "drift_rows": [f"{group.objective} on {group.pairs}" for group in curves],
            "grid": image_grid,
            "grid_seed": grid.seed,
            "grid_images": _grid_images(image_grid),
            "correlations": unlike(correlated),
            "agreement": read_agreement(scorer_agreement, tuple(comparison.scorers)) if scorer_agreement else (),
            "costs": results.costs,
            "provenance": provenance,
            "charts": drawn,
            "chart_config": palette.config(paper=False),
            "numbers": numbers(comparison, scores, provenance),
        },
        styles=["page.css"],
        scripts=[scripts(), *map(resource, ("tables.js", "numbers.js", "charts.js"))],
    )
    paper = palette.config(paper=True)
    for name in FIGURES:
        if spec := drawn[name]:
            write_bytes(root / "figures" / f"{name}.png", png(spec, paper))
    write_bytes(root / "figures" / "grid.png", draw_grid(image_grid))
    write_text(root / DEGENERATE, to_csv(degenerate))
    write_browser(comparison, scores, tuple(pair for group in compared for pair in group.pairs))
    path = root / "report" / "index.html"
    write_text(path, page)
    return path


def _known(row: CostRow) -> bool:
    return row.training_hours is not None or row.drawing_hours is not None


def _grid_images(grid: Grid) -> list[dict[str, Any]]:
    rows = []
    for row in grid.rows:
        images: list[dict[str, Any]] = []
        for tile in row.tiles:
            if tile.gone:
                images.append({"prompt": tile.prompt, "gap": f"{tile.path.name} is gone"})
                continue
            uri, width, height = data_uri(tile)
            images.append({"prompt": tile.prompt, "gap": "", "uri": uri, "width": width, "height": height})
        rows.append({"label": row.label, "images": images})
    return rows


def _beside(folder: str) -> Markup | None:
    """The main table of another benchmark; ``None`` where it has none yet."""
    path = user_path(main_table_of(folder))
    return Markup(path.read_text(encoding="utf-8")) if path.is_file() else None


def _main_table(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError as error:
        raise InputError(f"{path}: no such file; run snakemake to make it") from error


def _over_sets(comparison: Comparison) -> str:
    """What the pooled rows are over."""
    return f"pooled over {', '.join(comparison.pooled)}" if comparison.apart else "all prompt sets pooled"


def _seed_counts(comparison: Comparison) -> str:
    """``3`` or ``2 to 3``: training seeds of a trained variant; empty if nothing was trained."""
    counts = {len(comparison.of_variant(model.variant)) for model in comparison.models if model.trained}
    if len(counts) < 2:
        return "".join(map(str, counts))
    return f"{min(counts)} to {max(counts)}"
