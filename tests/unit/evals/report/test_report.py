from __future__ import annotations

import base64
import hashlib
import json
import re
import shutil
from collections.abc import Callable
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from artifacts import layout
from artifacts.atomic import write_json, write_text
from artifacts.contracts import CONTRACTS, read_table, write_table
from artifacts.errors import InputError
from evals.generation.settings import DrawnApart, SamplingSettings
from evals.report import charts
from evals.report.colours import PAPER, Palette
from evals.report.comparison_table import difference_marks, win_rate_matrix
from evals.report.curves import drift_groups, noise_series, over_seeds, windowed
from evals.report.drawing import png
from evals.report.gaps import gaps
from evals.report.grids import SHOWN, Tile, data_uri, open_image, read_grid, spread
from evals.report.oracle_agreement import read_agreement
from evals.report.page import write_report
from evals.report.results import Compared, Results, groups
from evals.report.score_files import read_score_files
from evals.report.scorer_agreement import correlations
from evals.report.settings import GridSettings
from evals.report.sources import duration, provenance_file
from evals.report.summary import Verdict, compared_scores, drift_summaries, signed, verdict
from evals.tables import write_tables
from evals.tables.comparison import ApartSet, Comparison
from evals.tables.numbers import deciding, decimals, p_value
from evals.tables.rows import DifferenceRow, DriftRow, ScoreRow, WinRateRow, read_rows
from evals.tables.trainings import trainings

GRID = GridSettings(prompt_set="seen", prompts=3, seed=0)
SECTIONS = ["summary", "scores", "comparisons", "training", "drift", "images", "agreement", "cost", "provenance"]
HOSTILE = '<script>alert(1)</script> & "x"'


class Elements(HTMLParser):
    """Every start tag with its attributes, and the texts."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.texts.append(data.strip())


def parsed(page: str) -> Elements:
    elements = Elements()
    elements.feed(page)
    return elements


def page_of(comparison: Comparison, **arguments: object) -> str:
    return write_report(comparison, grid=GRID, **arguments).read_text(encoding="utf-8")  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def page(tiny_benchmark_template: Comparison, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The page of the unchanged tiny benchmark."""
    root = tmp_path_factory.mktemp("page") / "toy"
    shutil.copytree(tiny_benchmark_template.root, root)
    return page_of(replace(tiny_benchmark_template, root=root))


def test_page_is_complete_self_contained_and_escaped(page: str) -> None:
    elements = parsed(page)
    assert [a["id"] for tag, a in elements.tags if tag == "h2"][:-1] == SECTIONS
    links = [a["href"] for tag, a in elements.tags if tag == "a"]
    assert links == [*(f"#{section}" for section in SECTIONS), "browser/index.html"]

    policy = next(str(a["content"]) for tag, a in elements.tags if "http-equiv" in a)
    (allowed,) = re.findall(r"script-src ([^;]*)", policy)
    scripts = re.findall(r"<script>(.*?)</script>", page, re.DOTALL)
    digests = [base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() for text in scripts]
    assert allowed.split() == [f"'sha256-{digest}'" for digest in digests]
    assert policy.startswith("default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src")
    assert "&lt;script&gt;alert(1)&lt;/script&gt; &amp; &#34;x&#34;" in page
    assert HOSTILE in elements.texts
    alts = [a["alt"] for tag, a in elements.tags if tag == "img"]
    assert f"dmpo+sdpo: {HOSTILE}" in alts
    assert all(alts)

    for tag, attributes in elements.tags:
        assert tag not in {"link", "iframe", "object", "base"}
        for name in ("src", "srcset"):
            assert (attributes.get(name) or "data:").startswith("data:")
        assert not [name for name in attributes if name.startswith("on")]
    assert not re.search(r"url\(|@import|https?:", re.sub(r"<script.*?</script>", "", page, flags=re.DOTALL))


def test_page_shows_the_numbers_of_the_tables(page: str, tiny_benchmark: Comparison) -> None:
    texts = parsed(page).texts
    results = Results.read(tiny_benchmark.root)
    row = next(r for r in results.win_rates if (r.a, r.b, r.prompt_set) == ("dmpo+sdpo", "dmpo", "all"))
    assert f"{row.win_rate:.3f}" in texts
    assert f"{row.wins} / {row.ties} / {row.losses}" in texts
    # slope 5e-4 a step, 20 steps, 1 + 0.2 * seed: 0.01 and 0.012.
    assert "+0.01100" in texts
    assert "2 of 2" in texts
    # 5 models: the base, and two variants with two seeds.
    assert "5 models of 3 variants on the same\n5 prompts" in page
    assert "seen 3, held-out 2" in texts
    assert "1 min 05 s" in texts
    assert "0123456789ab with uncommitted changes" in texts
    assert "cores 2, machine x86_64, system Linux" in texts


def test_tables_of_other_benchmarks_stand_below(tiny_benchmark: Comparison, tmp_path: Path) -> None:
    other = tmp_path / "other"
    write_text(other / "tables/main.html", "<table><caption>flow table</caption></table>\n")
    page = page_of(tiny_benchmark, beside=[str(other), "results/<none>"])
    assert page.index("Beside it: ") > page.index('id="scores"')
    assert "<caption>flow table</caption>" in page
    assert "results/&lt;none&gt; has no tables yet; run its config first." in page


def test_sets_that_are_drawn_apart_are_neither_pooled_nor_counted_twice(tiny_benchmark: Comparison) -> None:
    apart = {"held-out": ApartSet(shows="seen", generation=DrawnApart(guidance_scale=1.0))}
    found = replace(tiny_benchmark, apart=apart)
    write_tables(found)
    page = page_of(found, generation=SamplingSettings(guidance_scale=4.0))
    assert "5 models of 3 variants on the same\n3 prompts" in page
    assert "Prompt set “all”: pooled over seen." in page
    assert "ll prompt sets pooled" not in page


def test_a_scorer_of_sets_that_are_drawn_apart_has_no_pooled_verdict(tiny_benchmark: Comparison) -> None:
    apart = {"held-out": ApartSet(shows="seen", generation=DrawnApart(guidance_scale=1.0))}
    found = replace(tiny_benchmark, apart=apart, rated={"oracle": ("held-out",)})
    write_tables(found)
    page = page_of(found, generation=SamplingSettings(guidance_scale=4.0))
    # Three pairs and one such scorer.
    assert page.count('<span class="undecided">–</span>') == 3


def test_provenance_names_what_made_the_scores(tiny_benchmark: Comparison) -> None:
    """Scores have the fingerprints ``pickscore`` and ``oracle`` here; of one, two environments are known."""
    hashed = {"scorer": "pickscore", "version": 3, "files": {"weights": "ab" * 32}, "dtype": "float32"}
    for device in ("cpu", "NVIDIA H100"):
        record = {"fingerprint": "pickscore", "hashed": hashed, "device": device, "batch_size": 64}
        record |= {"packages": {"torch": "2.14.0", "pillow": "12.0.0"}, "python": "3.11.7"}
        path = layout.scorer_record(tiny_benchmark.root, "pickscore", "pickscore", device[:3])
        write_json(path, record)
    images = layout.images(tiny_benchmark.root, "mini/dmpo/seed1", "seen") / "provenance.json"
    write_json(images, {**json.loads(images.read_text()), "device": "NVIDIA A100"})
    texts = parsed(page_of(tiny_benchmark)).texts
    assert {"abababababab", "dtype float32, version 3", "NVIDIA A100"} <= set(texts)
    assert "NVIDIA H100, 64 images a pass; cpu, 64 images a pass" in texts
    assert any("pillow 12.0.0" in text for text in texts)
    # Nothing is known of the oracle's.
    assert "not recorded" in texts


@pytest.mark.parametrize(
    ("dirty", "changes", "package", "commit"),
    [
        (False, [], "sdpo-bench", "0123456789ab"),
        (True, ["sdpo/objectives/poly.py"], "sdpo-bench", "0123456789ab with uncommitted changes"),
        (True, [], "poly-losses", "0123456789ab with plug-ins that are not in it"),
        (True, ["x.py"], "poly-losses", "0123456789ab with uncommitted changes"),
    ],
)
def test_code_that_is_not_in_the_commit_is_named(
    tiny_benchmark: Comparison, dirty: bool, changes: list[str], package: str, commit: str
) -> None:
    origin = {"module": "poly", "package": package, "version": "0.3", "sha256": "cd" * 32}
    for model in tiny_benchmark.models:
        path = provenance_file(tiny_benchmark, model)
        state = {"git_dirty": dirty, "git_changes": changes, "code": {"objective poly": origin}}
        write_json(path, {**json.loads(path.read_text()), **state})
    texts = parsed(page_of(tiny_benchmark)).texts
    assert commit in texts and not [text for text in texts if text.startswith("0123456789ab") and text != commit]
    assert ("objective poly of poly-losses 0.3 (cdcdcdcdcdcd)" in texts) == (package == "poly-losses")


def test_the_page_names_how_each_variant_was_trained(tiny_benchmark: Comparison) -> None:
    for model in tiny_benchmark.of_variant("dmpo+sdpo"):
        path = layout.model(tiny_benchmark.root, model.name) / "provenance.json"
        found = json.loads(path.read_text())
        objective = {"name": "dmpo", "parameters": {"beta": 2000.0}, "safeguard": {"granularity": "pair", "mu": 0.9}}
        spec = {"objective": objective, "training": {"steps": 700, "batch_size": 16, "learning_rate": 1e-4}}
        write_json(path, {**found, "spec": spec})
    texts = parsed(page_of(tiny_benchmark)).texts
    assert {"beta 2000", "mu 0.9, granularity pair", "700", "0.0001"} <= set(texts)


def test_equal_inputs_give_equal_bytes(tiny_benchmark: Comparison) -> None:
    def outputs() -> dict[str, bytes]:
        write_report(tiny_benchmark, grid=GRID)
        root = tiny_benchmark.root
        return {p.name: p.read_bytes() for p in [*(root / "figures").iterdir(), root / "report" / "index.html"]}

    first = outputs()
    assert sorted(first) == ["differences.png", "drift.png", "grid.png", "index.html", "noise.png", "ranks.png"]
    assert outputs() == first


def test_agreement_of_scorers(page: str, tiny_benchmark: Comparison, tmp_path: Path) -> None:
    assert "report.scorer_agreement names no file" in page
    path = tmp_path / "agreement.json"
    scorers = {
        "oracle": {"agreement": 1.0, "pairs": 400},
        "pickscore": {"agreement": 0.8125, "pairs": 400, "ci_low": 0.77, "ci_high": 0.85},
    }
    path.write_text(json.dumps({"scorers": scorers}))
    texts = [text for text in parsed(page_of(tiny_benchmark, scorer_agreement=path)).texts if text]
    start = texts.index("agreement")
    # In the comparison's order, which is not the file's.
    assert texts[start : start + 11] == [
        *("agreement", "interval", "pairs"),
        *("pickscore", "0.812", "0.770 to 0.850", "400"),
        *("oracle", "1.000", "–", "400"),
    ]
    path.write_text(json.dumps({"scorers": {"pickscore": {"pairs": 400}}}))
    with pytest.raises(InputError, match=r"agreement\.json: expected scorers"):
        read_agreement(path, ["pickscore"])


def test_benchmark_of_untrained_models(tiny_benchmark: Comparison) -> None:
    untrained = replace(tiny_benchmark, models=tiny_benchmark.models[:1])
    write_tables(untrained)
    page = page_of(untrained)
    assert "No model was trained here" in page
    assert "Nothing to compare" in page
    assert not (untrained.root / "figures" / "drift.png").exists()


@pytest.mark.parametrize("name", ["scores.csv", "win_rates.csv", "differences.csv", "drift.csv", "main.html"])
def test_missing_table_is_named_and_leaves_no_page(tiny_benchmark: Comparison, name: str) -> None:
    (tiny_benchmark.root / "tables" / name).unlink()
    with pytest.raises(InputError, match=re.escape(name)):
        page_of(tiny_benchmark)
    assert not (tiny_benchmark.root / "report").exists()


def test_malformed_rows(tmp_path: Path) -> None:
    path = tmp_path / "drift.csv"
    header = "variant,objective,safeguard,pairs,seed,winner_drift,loser_drift,margin,implicit_accuracy,ci_low,ci_high"
    path.write_text(f"{header}\nNA,none,true,,all,0.5,1,0.5,1.0,,0.25\n")
    # Text stays text, an empty interval end is no number.
    assert read_rows(path, DriftRow) == (DriftRow("NA", "none", True, "", "all", 0.5, 1.0, 0.5, 1.0, None, 0.25),)
    path.write_text(f"{header}\nNA,none,true,,all,0.5\n")
    with pytest.raises(InputError, match=r"drift\.csv: not a table of DriftRow"):
        read_rows(path, DriftRow)
    path.write_text("variant\nx\n")
    with pytest.raises(InputError, match="column 'objective' is missing"):
        read_rows(path, DriftRow)


def test_compared_pairs_come_with_baselines_first(tiny_benchmark: Comparison) -> None:
    found = groups(tiny_benchmark, Results.read(tiny_benchmark.root))
    assert [(group.heading, [(pair.a, pair.b, pair.seeds) for pair in group.pairs]) for group in found] == [
        ("Safeguard against its baseline", [("dmpo+sdpo", "dmpo", 2)]),
        ("Every variant against the base", [("dmpo", "base", 2), ("dmpo+sdpo", "base", 2)]),
    ]


def test_what_was_asked_for_has_its_own_name(tiny_benchmark: Comparison) -> None:
    plain = tuple(m.model_copy(update={"safeguard": False}) for m in tiny_benchmark.models)
    asked = replace(tiny_benchmark, models=plain, comparisons=(("dmpo", "dmpo+sdpo"),))
    write_tables(asked)
    found = groups(asked, Results.read(asked.root))
    # A baseline that is named for a variant without safeguard is no safeguard's.
    assert [group.heading for group in found] == [
        "Variants against their baselines",
        "Every variant against the base",
        "Comparisons asked for",
    ]
    page = page_of(asked)
    assert "Comparisons asked for" in page and "Safeguard against its baseline" not in page


def difference(mean: float, low: float, high: float, seeds: int = 2) -> DifferenceRow:
    return DifferenceRow(
        "mini",
        "a",
        "b",
        "base",
        "all",
        "pickscore",
        mean,
        low,
        high,
        0.01,
        0.02,
        0.02,
        0.3,
        mean - 0.1,
        mean + 0.1,
        4,
        4,
        seeds,
    )


def test_verdicts() -> None:
    words = ("better", "worse")
    assert verdict(0.1, 0.3, 2, words=words) == Verdict("better", of_training=True)
    assert verdict(-0.3, -0.1, 2, words=words) == Verdict("worse", of_training=True)
    assert verdict(0.1, 0.3, 1, words=words) == Verdict("better", of_training=False)
    # An interval that touches zero does not exclude it.
    assert verdict(0.0, 0.3, 2, words=words).word == "undecided"
    assert verdict(-0.3, 0.0, 2, words=words).word == "undecided"
    assert verdict(0.501, 0.6, 2, words=words, null=0.5).word == "better"


def of_scores(
    comparison: Comparison, means: dict[tuple[str, str], float], *, varies: bool = True, **changes: object
) -> str:
    """The page where variant and scorer give every score but for a little."""
    comparison = replace(comparison, **changes)  # type: ignore[arg-type]
    for model in comparison.models:
        for name in comparison.prompt_sets:
            for scorer in comparison.scorers:
                path = layout.scores(comparison.root, scorer, model.name, name)
                table = read_table(path, "scores")
                # Nothing is decided where nothing varies: each variant has a little of its own from prompt to prompt.
                own = 1 + comparison.variants.index(model.variant) * varies
                noise = 1e-3 * (model.seed or 0) + 1e-3 * own * np.arange(len(table))
                write_table(path, table.assign(score=means[model.variant, scorer] + noise), "scores")
    write_tables(comparison)
    return page_of(comparison)


MEANS = {
    (variant, scorer): mean
    for variant, mean in (("base", 1.0), ("dmpo", 2.0), ("dmpo+sdpo", 3.0))
    for scorer in ("pickscore", "oracle")
}


def test_direction_counts_and_descriptions_are_no_judgements(tiny_benchmark: Comparison) -> None:
    low = of_scores(tiny_benchmark, MEANS, lower_is_better=frozenset({"oracle"}))
    marks = re.findall(r"[▲▼] (?:better|worse)", low)
    # Three pairs: better by one scorer and worse by the other, which likes low scores.
    assert (marks.count("▲ better"), marks.count("▼ worse")) == (3 + 1, 3 + 1)
    described = of_scores(tiny_benchmark, MEANS, no_judges=frozenset({"oracle"}))
    texts = parsed(described).texts
    assert texts.count("more") == 3 and "mean of judges" not in texts
    assert "judged by 1\nscorer." in described
    assert described.count("▲ better") == 3 + 1


def test_one_model_a_side_gives_no_verdict_of_methods(tiny_benchmark: Comparison) -> None:
    one = tuple(model for model in tiny_benchmark.models if model.seed in (None, 0))
    page = of_scores(tiny_benchmark, MEANS, models=one)
    assert "▲" not in page and "▼" not in page
    assert "(better)" in parsed(page).texts
    assert "over prompts, which says nothing of training again" in page
    assert "over prompts and seeds" not in page
    rows = [row for row in Results.read(tiny_benchmark.root).win_rates if row.prompt_set == "all"]
    certain = [replace(row, p_holm=0.001) for row in rows]
    assert all(cell.endswith(" (*)") for cell in matrix_cells(tiny_benchmark, certain, 0.05))


def matrix_cells(comparison: Comparison, rows: list[WinRateRow], significant: float) -> list[str]:
    results = replace(Results.read(comparison.root), win_rates=tuple(rows))
    blocks = win_rate_matrix(results, groups(comparison, results), ["pickscore", "oracle"], significant)
    return [cell.text for block in blocks for row in block.rows for cell in row.cells]


def test_win_rates_are_coloured_by_side_and_size(tiny_benchmark: Comparison) -> None:
    results = Results.read(tiny_benchmark.root)
    (row,) = [r for r in results.win_rates if (r.a, r.b, r.prompt_set, r.scorer) == ("dmpo", "base", "all", "oracle")]
    changed = [replace(row, win_rate=rate) for rate in (1.0, 0.5, 0.25)]
    cells = []
    for one in changed:
        found = replace(results, win_rates=(one,))
        (_, block) = win_rate_matrix(found, groups(tiny_benchmark, found), ["pickscore", "oracle"], 0.05)
        cells.append(block.rows[0].cells)
    assert [(cell.side, cell.share) for _, cell in cells] == [("higher", 60), ("lower", 0), ("lower", 30)]
    # No win rate by the other scorer.
    assert cells[0][0].text == ""


def test_a_limited_scorer_has_dashes_and_no_verdict_of_a_mean(tiny_benchmark: Comparison) -> None:
    page = of_scores(tiny_benchmark, MEANS, rated={"oracle": ("held-out",)})
    # Of what these models took nothing is known.
    texts = parsed(page.partition('id="cost"')[0]).texts
    # Three pairs by both scorers; the mean win rate is no longer one of all prompt sets.
    assert page.count("▲ better") == 2 * 3 + 1
    assert "mean win rate" not in parsed(page.partition('id="scores"')[0]).texts
    # Three variants and, but for the base, their mean win rate; win rate and difference of three pairs.
    assert texts.count("–") == 3 + 2 + 2 * 3
    assert page.count("oracle rates held-out and no other") == 3
    # How often scorers oppose one another is not known where their differences are all equal.
    alike = of_scores(tiny_benchmark, MEANS, varies=False, rated={"oracle": ("held-out",)})
    assert parsed(alike).texts.count("– (pickscore has one difference for all)") == 1
    # The base, and two variants with two seeds; each pooled too.
    scored = read_rows(tiny_benchmark.root / "tables" / "scores.csv", ScoreRow)
    assert [row.prompt_set for row in scored if row.scorer == "oracle"] == ["held-out"] * (2 + 3 + 3)


def test_stars_follow_the_confidence(tiny_benchmark: Comparison) -> None:
    rows = [replace(r, p_holm=0.07) for r in Results.read(tiny_benchmark.root).win_rates if r.prompt_set == "all"]
    assert not any(cell.endswith("*") for cell in matrix_cells(tiny_benchmark, rows, 0.05))
    assert all(cell.endswith(" *") for cell in matrix_cells(tiny_benchmark, rows, 0.1))
    wide = replace(tiny_benchmark, statistics=tiny_benchmark.statistics.model_copy(update={"confidence": 0.9}))
    write_tables(wide)
    assert "A star marks p &lt; 0.1 " in page_of(wide)


def test_comparison_row_as_printed(tiny_benchmark: Comparison) -> None:
    win = WinRateRow(
        "mini", "dmpo", "base", "base", "all", "oracle", 5, 1, 2, 0.6875, 0.4991, 0.9, 0.01, 0.0004, 0.0004, 0.02, 2
    )
    row = replace(difference(-0.0123, -0.02, 0.004), a="dmpo", b="base", scorer="oracle")
    results = Results(scores=(), win_rates=(win,), differences=(row,), drift=(), ranks=(), costs=())
    (pair,) = groups(tiny_benchmark, results)[0].pairs
    (printed,) = compared_scores(tiny_benchmark, results, pair, "all")
    assert (printed.scorer, printed.win_rate, printed.win_interval) == ("oracle", "0.688", "0.499 to 0.900")
    assert (printed.outcomes, printed.win_p, printed.difference_p) == ("5 / 1 / 2", "< 0.001", "0.020")
    # Interval 0.024 wide and mean 0.0123: three decimals show two digits.
    assert (printed.difference, printed.difference_interval) == ("−0.012", "−0.020 to +0.004")
    assert printed.seed_range == "−0.112 to +0.088"


def test_what_is_decided_is_printed_as_decided(tiny_benchmark: Comparison) -> None:
    assert deciding(0.0004, 0.2, 2) == 4
    assert deciding(-0.2, -0.0004, 2) == 4
    assert deciding(-0.0004, 0.2, 2) == 2
    assert deciding(0.50041, 0.53, 3, 0.5) == 4
    assert deciding(0.4996, 0.53, 3, 0.5) == 3
    win = WinRateRow(
        "mini", "dmpo", "base", "base", "all", "oracle", 5, 1, 2, 0.52, 0.50004, 0.54, 0.04, 0.04, 0.04, 0.02, 2
    )
    row = replace(difference(0.0123, 0.00004, 0.0246), a="dmpo", b="base", scorer="oracle")
    results = Results(scores=(), win_rates=(win,), differences=(row,), drift=(), ranks=(), costs=())
    (printed,) = compared_scores(tiny_benchmark, results, groups(tiny_benchmark, results)[0].pairs[0], "all")
    assert printed.win_interval == "0.50004 to 0.54000"
    assert printed.difference_interval == "+0.00004 to +0.02460"


def test_drift_summary_counts_seeds_above_zero() -> None:
    def row(seed: str, winner: float, ends: tuple[float, float] | None = None) -> DriftRow:
        low, high = ends or (None, None)
        return DriftRow("dmpo", "dmpo", False, "renders", seed, winner, 0.05, 0.04, 0.7, low, high)

    rows = [row("0", 0.03), row("1", -0.01), row("2", 0.0), row("all", 0.0067, (-0.045, 0.058))]
    (summary,) = drift_summaries(rows, ["base", "dmpo"])
    assert summary.risen == "1 of 3"
    # The sizes 0.0067 and 0.05 have the median 0.028: three decimals, and one more.
    assert summary.winner_drift == "+0.0067"
    assert summary.interval == "−0.0450 to +0.0580"
    (single,) = drift_summaries([row("0", 0.03), row("all", 0.03)], ["dmpo"])
    assert single.interval == "–"


def test_numbers() -> None:
    assert decimals([0.0123]) == 3
    assert decimals([12.0, 0.0, float("nan")]) == 0
    assert decimals([]) == 2
    assert signed(-0.0004, 3) == "0.000"
    assert signed(0.0004, 3) == "0.000"
    assert signed(-1.5, 1) == "−1.5"
    assert (p_value(0.00099), p_value(0.001), p_value(1.0)) == ("< 0.001", "0.001", "1.000")
    assert [duration(s) for s in (0.4, 59.4, 59.6, 3599.6, 7620)] == [
        "0 s", "59 s", "1 min 00 s", "1 h 00 min", "2 h 07 min"
    ]  # fmt: skip


def test_curves_over_seeds() -> None:
    curve = over_seeds([((0, 0.0), (10, 1.0), (20, 4.0)), ((0, 0.0), (20, 2.0))])
    # Step 10 is known for one seed only.
    assert (curve.steps, curve.mean, curve.low, curve.high) == ((0, 20), (0, 3), (0, 2), (0, 4))


def test_windows_average_steps_and_values() -> None:
    series = tuple((float(step), float(step % 2)) for step in range(1, 8))
    assert windowed(series, points=7) == series
    # Windows of two; the last one holds step 7 alone.
    assert windowed(series, points=4) == ((1.5, 0.5), (3.5, 0.5), (5.5, 0.5), (7.0, 1.0))


@given(st.integers(1, 500), st.integers(1, 60))
def test_windowed_length(length: int, points: int) -> None:
    assert len(windowed(tuple((float(i), 1.0) for i in range(length)), points)) <= points


def test_means_by_noise_are_those_of_the_later_pairs() -> None:
    """Three of one step and one of another, the first half left out; a bucket that is always empty has no point."""
    log = pd.DataFrame(
        {
            "step": [30, 10, 20, 40],
            "pairs_noise_1": [3, 9, 9, 1],
            "winner_drift_noise_1": [1.0, 9.0, 9.0, 5.0],
            "pairs_noise_4": [1, 9, 9, 0],
            "winner_drift_noise_4": [7.0, 9.0, 9.0, np.nan],
        }
    )
    log = log.reindex(columns=list(CONTRACTS["training"].columns))
    assert noise_series(log, "winner_drift") == ((0.1, 2.0), (0.7, 7.0))
    assert noise_series(log, "safe_scale") == ()


def test_figure_by_noise_is_drawn_of_logs_with_and_without_it(tiny_benchmark: Comparison) -> None:
    groups = drift_groups(tiny_benchmark)
    assert all(curve.steps == () for line in groups[0].lines for curve in line.by_noise)
    palette = Palette.of(tiny_benchmark)
    assert charts.noise(groups, palette)["data"]["values"] == []
    for model in tiny_benchmark.of_variant("dmpo+sdpo"):
        path = layout.model(tiny_benchmark.root, model.name) / "training.parquet"
        log = read_table(path, "training").assign(pairs_noise_2=4, safe_scale_noise_2=0.3 + 0.1 * (model.seed or 0))
        write_table(path, log, "training")
    (group,) = drift_groups(tiny_benchmark)
    scale = group.lines[1].by_noise[2]
    assert (scale.steps, len(scale.mean), scale.low[0]) == ((pytest.approx(0.3),), 1, pytest.approx(0.3))
    (point,) = charts.noise([group], palette)["data"]["values"]
    assert (point["panel"], point["variant"], point["mean"]) == (2, "dmpo+sdpo", pytest.approx(0.35))


def test_groups_put_the_safeguard_beside_its_baseline(tiny_benchmark: Comparison) -> None:
    (group,) = drift_groups(tiny_benchmark)
    assert (group.objective, group.pairs) == ("dmpo", "renders")
    assert [(line.variant, line.safeguard) for line in group.lines] == [("dmpo", False), ("dmpo+sdpo", True)]
    plain, guarded = group.lines
    assert plain.winner_drift.steps == (0, 4, 8, 12, 16, 20)
    assert plain.winner_drift.mean[-1] == pytest.approx(0.011)
    assert (plain.winner_drift.low[-1], plain.winner_drift.high[-1]) == pytest.approx((0.010, 0.012))
    assert plain.safe_scale is not None and set(plain.safe_scale.mean) == {1.0}
    assert guarded.safe_scale is not None and max(guarded.safe_scale.high) < 1.0


def test_a_step_on_the_way_has_no_curve_of_its_own(tiny_benchmark: Comparison) -> None:
    """It would be the beginning of its training's, drawn twice. What is said of its training has its own steps."""
    models = tuple(m.model_copy(update={"step": 7}) if m.variant == "dmpo" else m for m in tiny_benchmark.models)
    comparison = replace(tiny_benchmark, models=models)
    (group,) = drift_groups(comparison)
    assert [line.variant for line in group.lines] == ["dmpo+sdpo"]
    found = trainings(comparison)
    assert (found["dmpo"]["steps"], "steps" in found["dmpo+sdpo"]) == (7, False)


def test_objective_without_loser_has_no_safe_scale(tiny_benchmark: Comparison) -> None:
    for model in tiny_benchmark.of_variant("dmpo"):
        path = layout.model(tiny_benchmark.root, model.name) / "training.parquet"
        log = read_table(path, "training").assign(safe_scale_mean=np.nan)
        write_table(path, log, "training")
    groups = drift_groups(tiny_benchmark)
    assert groups[0].lines[0].safe_scale is None
    only_plain = replace(groups[0], lines=groups[0].lines[:1])
    drawn = charts.drift([only_plain], Palette.of(tiny_benchmark))["concat"]
    assert drawn[2]["mark"]["text"] == "no loser, so no safe scale"


def test_grid(tiny_benchmark: Comparison) -> None:
    grid = read_grid(tiny_benchmark, "seen", 2, 1)
    # Indices 0 * 3 // 2 and 1 * 3 // 2.
    assert grid.prompts == ("a red disc", HOSTILE)
    assert [row.label for row in grid.rows] == ["base", "dmpo", "dmpo+sdpo"]
    assert "seed1" in str(grid.rows[1].tiles[0].path)
    assert grid.same_noise
    assert read_grid(tiny_benchmark, "held-out", 99, 0).prompts == ("a green ring", "a $5 note_{x}")
    with pytest.raises(InputError, match=r"grid\.prompt_set is 'sen', expected one of seen, held-out"):
        read_grid(tiny_benchmark, "sen", 2, 0)
    with pytest.raises(InputError, match=r"grid\.prompts is 0"):
        read_grid(tiny_benchmark, "seen", 0, 0)


def test_bases_share_no_start_noise(tiny_benchmark: Comparison) -> None:
    """Equal seeds, but a latent of another size."""
    models = tuple(m.model_copy(update={"base": "large"}) if m.variant == "dmpo" else m for m in tiny_benchmark.models)
    other = replace(tiny_benchmark, models=models)
    grid = read_grid(other, "seen", 2, 0)
    assert grid.same_noise and grid.bases == ("mini", "large")
    write_tables(other)
    page = page_of(other)
    assert "All images of a column and base start from the same noise." in page
    assert "All images of a column start from" not in page


def test_grid_says_when_the_start_noise_differs(tiny_benchmark: Comparison) -> None:
    path = layout.images(tiny_benchmark.root, "mini/base", "seen") / "manifest.parquet"
    manifest = read_table(path, "manifest")
    manifest.loc[1, "seed"] = 7
    write_table(path, manifest, "manifest")
    assert not read_grid(tiny_benchmark, "seen", 3, 0).same_noise
    page = page_of(tiny_benchmark)
    assert "The start noise differs" in page and "start from the same noise" not in page


@given(st.integers(1, 300), st.integers(1, 300))
def test_spread_is_increasing_and_starts_at_the_first(total: int, count: int) -> None:
    indices = spread(total, count)
    assert len(indices) == min(total, count)
    assert indices[0] == 0 and indices[-1] < total
    assert sorted(set(indices)) == indices


def test_broken_images_are_named(tiny_benchmark: Comparison) -> None:
    path = layout.images(tiny_benchmark.root, "mini/base", "seen") / "00001.png"
    whole = path.read_bytes()
    path.write_bytes(whole[:-20])
    with pytest.raises(InputError, match=r"00001\.png: differs from the digest"):
        open_image(read_grid(tiny_benchmark, "seen", 3, 0).rows[0].tiles[1])
    with pytest.raises(InputError, match=r"00001\.png: differs from the digest"):
        write_report(tiny_benchmark, grid=GRID)
    assert not (tiny_benchmark.root / "report").exists() and not (tiny_benchmark.root / "figures").exists()
    path.unlink()
    texts = parsed(page_of(tiny_benchmark)).texts
    assert "00001.png is gone" in texts and f"{path}: gone" in texts


def tile(path: Path, image: Image.Image) -> Tile:
    image.save(path)
    return Tile("a disc", path, hashlib.sha256(path.read_bytes()).hexdigest(), 0)


def test_truncated_image_with_a_matching_digest(tmp_path: Path) -> None:
    whole = tile(tmp_path / "a.png", Image.effect_noise((64, 64), 90))
    data = whole.path.read_bytes()[:500]
    whole.path.write_bytes(data)
    with pytest.raises(InputError, match=r"a\.png: not a readable image"):
        open_image(replace(whole, sha256=hashlib.sha256(data).hexdigest()))


def test_grids_show_what_scorers_see_and_open_nothing_else(tiny_benchmark: Comparison, tmp_path: Path) -> None:
    hidden = tile(tmp_path / "hidden.png", Image.new("RGBA", (16, 16), (0, 0, 0, 0)))
    decoded, _ = open_image(hidden)
    assert decoded.image.getpixel((0, 0)) == (255, 255, 255)
    # As it is it would show the page's own background.
    assert data_uri(hidden)[0].startswith("data:image/jpeg;base64,")
    postscript = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\nshowpage\n"
    (tmp_path / "eps.png").write_bytes(postscript)
    with pytest.raises(InputError, match=r"eps\.png: not a readable image \(not an image of a known format"):
        open_image(Tile("a disc", tmp_path / "eps.png", hashlib.sha256(postscript).hexdigest(), 0))
    path = next(tiny_benchmark.root.glob("images/**/seen/manifest.parquet"))
    manifest = read_table(path, "manifest")
    write_table(path, manifest.assign(file=["../x.png", *manifest["file"][1:]]), "manifest")
    with pytest.raises(InputError, match=r"'\.\./x\.png' is not the name of a file beside it"):
        for seed in (0, 1):
            read_grid(tiny_benchmark, "seen", 2, seed)


def test_large_images_are_scaled_and_small_ones_kept(tmp_path: Path) -> None:
    small = tile(tmp_path / "small.png", Image.new("RGB", (32, 16), "red"))
    uri, *size = data_uri(small)
    assert uri.startswith("data:image/png;base64,") and size == [32, 16]
    large = tile(tmp_path / "large.png", Image.new("RGB", (1024, 512), "red"))
    uri, *size = data_uri(large)
    assert uri.startswith("data:image/jpeg;base64,") and size == [SHOWN, SHOWN // 2]


def test_colours_are_the_page_s_own_and_those_of_paper_are_colours(tiny_benchmark: Comparison) -> None:
    palette = Palette.of(tiny_benchmark)
    assert palette.variants == ("base", "dmpo", "dmpo+sdpo")
    assert palette.colours == ("ink", "plain-1", "guarded-1")
    assert palette.config(paper=False)["range"]["variants"][1] == "var(--plain-1)"
    assert palette.config(paper=True)["range"]["variants"][1] == PAPER["plain-1"]
    style = (Path(charts.__file__).parent / "page.css").read_text(encoding="utf-8")
    assert not [name for name in PAPER if f"--{name}:" not in style]


def test_many_variants_differ_by_dash_where_colours_are_used_up(tiny_benchmark: Comparison) -> None:
    base, plain, *_ = tiny_benchmark.models
    more = [plain.model_copy(update={"variant": f"v{i}", "name": f"mini/v{i}/seed0"}) for i in range(7)]
    palette = Palette.of(replace(tiny_benchmark, models=(base, *more)))
    assert len(set(zip(palette.colours, palette.dashes, strict=True))) == 8


def test_forest_plot_has_a_mark_for_each_difference(tiny_benchmark: Comparison) -> None:
    results = Results.read(tiny_benchmark.root)
    marks = list(difference_marks(tiny_benchmark, results, groups(tiny_benchmark, results)))
    assert len(marks) == len(results.differences) == 3 * 2 * 3
    by_place = {(mark.panel, mark.label, mark.choice): mark for mark in marks}
    for row in results.differences:
        kind = "Safeguard against its baseline" if row.kind == "baseline" else "Every variant against the base"
        mark = by_place[f"{kind}: {row.scorer}", f"{row.a} vs {row.b}", row.prompt_set]
        assert (mark.mean, mark.low, mark.high) == (row.mean_difference, row.ci_low, row.ci_high)
    drawn = charts.intervals(marks, "difference")
    assert drawn["params"][0]["bind"]["options"] == ["all", "seen", "held-out"]
    config = Palette.of(tiny_benchmark).config(paper=True)
    assert png(drawn, config).startswith(b"\x89PNG") and png(drawn, config) == png(drawn, config)


def test_a_panel_of_a_prompt_set_that_was_not_rated_says_so() -> None:
    """Vega has no axis of nothing, nor of intervals without ends, and warns in every reader's console."""
    marks = [
        charts.IntervalMark("oracle", "a vs b", "all", 0.3, 0.1, 0.5, "better"),
        charts.IntervalMark("oracle", "c vs b", "all", 0.2, None, None, "undecided"),
        charts.IntervalMark("judge", "a vs b", "seen", 0.4, 0.2, 0.6, "better"),
    ]
    drawn = charts.intervals(marks, "difference")
    rows = {(row["panel"], row["choice"], row["label"]): (row["from"], row["to"]) for row in drawn["data"]["values"]}
    assert rows == {
        ("oracle", "all", "a vs b"): (0.1, 0.5),
        ("oracle", "all", "c vs b"): (0.2, 0.2),
        ("judge", "seen", "a vs b"): (0.2, 0.6),
        ("oracle", "seen", "not rated"): (0.0, 0.0),
        ("judge", "all", "not rated"): (0.0, 0.0),
    }


def test_gaps_are_named(tiny_benchmark: Comparison) -> None:
    def found(comparison: Comparison = tiny_benchmark) -> list[str]:
        return list(gaps(comparison, read_score_files(comparison)))

    def scores(model: str, change: Callable[[pd.DataFrame], pd.DataFrame]) -> None:
        path = layout.scores(tiny_benchmark.root, "oracle", model, "seen")
        write_table(path, change(read_table(path, "scores")), "scores")

    assert found() == []
    models = tiny_benchmark.models
    one = replace(tiny_benchmark, models=tuple(m for m in models if m.name != "mini/dmpo/seed1"))
    assert [text.partition(":")[0] for text in found(one)] == ["dmpo"] and "one training seed" in found(one)[0]
    third = models[1].model_copy(update={"seed": 2})
    fewer = found(replace(tiny_benchmark, models=(*models, third)))
    assert "dmpo+sdpo: without training seed 2, which others have" in fewer

    scores("mini/base", lambda table: table.assign(score=0.5))
    assert found() == ["oracle on seen: one score for all images of mini/base"]
    for model in models:
        scores(model.name, lambda table: table.assign(score=0.5))
    assert found() == ["oracle on seen: one score for all images of each model, so that prompts make no difference"]
    # A score that is none, and a prompt without one; both are gaps, and neither is in a difference.
    scores("mini/base", lambda table: table.assign(score=[np.inf, 1.0, 2.0]).iloc[:2])
    path = layout.scores(tiny_benchmark.root, "oracle", "mini/base", "seen")
    assert f"{path}: no score for 2 of 3 prompts of seen" in found()
    difference = read_score_files(tiny_benchmark).difference(tiny_benchmark, "dmpo", "base", "seen", "oracle")
    assert difference.tolist() == [[pytest.approx(np.nan, nan_ok=True), -0.5, pytest.approx(np.nan, nan_ok=True)]] * 2
    path.unlink()
    (gone,) = [text for text in found() if str(path) in text]
    assert "no scores of mini/base by oracle on seen" in gone

    folder = layout.images(tiny_benchmark.root, "mini/dmpo/seed0", "seen")
    for name in ("00000.png", "00002.png"):
        (folder / name).unlink()
    assert f"{folder / '00000.png'}: gone, and 1 more there" in found()
    (folder / "manifest.parquet").unlink()
    assert any(text.startswith(f"{folder / 'manifest.parquet'}: gone") for text in found())


def test_a_scorer_of_one_score_is_shown_and_decides_nothing(tiny_benchmark: Comparison) -> None:
    for model in tiny_benchmark.models:
        for name in tiny_benchmark.prompt_sets:
            path = layout.scores(tiny_benchmark.root, "oracle", model.name, name)
            write_table(path, read_table(path, "scores").assign(score=1.0), "scores")
    write_tables(tiny_benchmark)
    page = page_of(tiny_benchmark)
    assert "oracle on seen: one score for all images of each model" in page
    assert "– (oracle has one difference for all)" in page


def test_correlations_of_scorers(tiny_benchmark: Comparison) -> None:
    """Of dmpo minus base, five prompts by two seeds: one scorer likes what the other does not, but for one image."""
    for model in tiny_benchmark.models:
        for name in tiny_benchmark.prompt_sets:
            place = np.arange(3 if name == "seen" else 2) + (0 if name == "seen" else 3)
            value = 0.0 * place if model.variant == "base" else 1.0 + place + 10.0 * (model.seed or 0)
            for scorer in tiny_benchmark.scorers:
                path = layout.scores(tiny_benchmark.root, scorer, model.name, name)
                score = value if scorer == "pickscore" else np.where(value == 1.0, 99.0, -value)
                write_table(path, read_table(path, "scores").assign(score=score), "scores")
    scores = read_score_files(tiny_benchmark)
    pair = Compared("dmpo", "base", 2)
    (row,) = [r for r in correlations(tiny_benchmark, scores, [pair]) if (r.first, r.second) == ("pickscore", "oracle")]
    # The least is ranked first by both: of ten ranks 1..10 against 10, 9..1 shifted.
    x, y = np.arange(1, 11), np.array([10, 9, 8, 7, 6, 5, 4, 3, 2, 1])
    assert row.r == pytest.approx(np.corrcoef(x, y)[0, 1])
    assert (row.n, row.opposed) == (10, pytest.approx(0.9))
    turned = replace(tiny_benchmark, lower_is_better=frozenset({"oracle"}))
    (row,) = [r for r in correlations(turned, scores, [pair]) if (r.first, r.second) == ("pickscore", "oracle")]
    assert (row.r, row.opposed) == (pytest.approx(1.0), pytest.approx(0.1))


def test_prompt_without_image_is_named(tiny_benchmark: Comparison) -> None:
    path = layout.images(tiny_benchmark.root, "mini/dmpo/seed0", "seen") / "manifest.parquet"
    write_table(path, read_table(path, "manifest").iloc[:1], "manifest")
    with pytest.raises(InputError, match="prompt 'seen-00001' has no image"):
        read_grid(tiny_benchmark, "seen", 3, 0)
