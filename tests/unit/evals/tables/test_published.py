from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest

from artifacts.errors import InputError
from evals.generation.settings import DrawnApart
from evals.tables.comparison import ApartSet, ComparedModel, Comparison, Statistics
from evals.tables.matrices import ScoreMatrices
from evals.tables.published import Figure, compared, published_rows, read_figures, to_markdown

HEAD = "variant,prompt_set,scorer,value,source\n"


def file(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "published.csv"
    path.write_text(HEAD + text, encoding="utf-8")
    return path


def test_intervals_of_three_seeds_worked_out_by_hand() -> None:
    # Mean 0.5, standard deviation 0.1, t(2; 97.5 %) = 4.302653: half widths t·s/√3 and t·s·√(4/3).
    row = compared(Figure("dpo", "all", "oracle", 0.8, 0.1, "here"), [0.4, 0.5, 0.6], 0.95)
    assert (row.ours, row.difference) == (pytest.approx(0.5), pytest.approx(-0.3))
    assert row.ci_high == pytest.approx(0.5 + 4.302653 * 0.1 / math.sqrt(3), abs=1e-6)
    assert row.seed_low == pytest.approx(0.5 - 4.302653 * 0.1 * math.sqrt(4 / 3), abs=1e-6)
    # 0.8 with a last digit of 0.1 stands for 0.75 to 0.85, and the mean's interval ends at 0.748.
    assert (row.inside_interval, row.inside_seed_interval) == (False, True)


def test_a_figure_is_inside_up_to_its_own_rounding() -> None:
    seeds = [0.70, 0.70, 0.70]
    assert compared(Figure("dpo", "all", "oracle", 0.7, 0.1, "x"), seeds, 0.95).inside_interval
    assert compared(Figure("dpo", "all", "oracle", 0.75, 0.1, "x"), seeds, 0.95).inside_interval
    assert not compared(Figure("dpo", "all", "oracle", 0.75, 0.01, "x"), seeds, 0.95).inside_interval


def test_one_seed_has_no_interval() -> None:
    row = compared(Figure("dpo", "all", "oracle", 0.8, 0.1, "here"), [0.4], 0.95)
    assert (row.ci_low, row.seed_high, row.inside_interval, row.inside_seed_interval) == (None, None, None, None)


def test_rows_pool_prompt_sets_and_leave_out_what_is_not_compared(tmp_path: Path) -> None:
    models = tuple(ComparedModel(name=f"b/dpo/seed{s}", base="b", variant="dpo", seed=s) for s in range(2))
    comparison = Comparison("x", tmp_path, models, ("one", "two"), {"oracle": "exact"}, Statistics())
    values = {
        ("dpo", "one", "oracle"): np.array([[0.0], [1.0]]),
        ("dpo", "two", "oracle"): np.array([[1, 1], [1, 1.0]]),
    }
    matrices = ScoreMatrices({"dpo": models}, {"one": 1, "two": 2}, values, {})
    figures = read_figures(
        file(tmp_path, "dpo,,oracle,0.80,a\ndpo,one,oracle,0.5,b\nother,,oracle,1,c\ndpo,,clip,1,d\n")
    )
    rows = published_rows(comparison, matrices, figures)
    assert [(r.prompt_set, r.source, r.ours) for r in rows] == [
        ("all", "a", pytest.approx((2 / 3 + 1) / 2)),
        ("one", "b", pytest.approx(0.5)),
    ]
    assert "| dpo     | 0.833 |" in to_markdown(rows, "95%")
    with pytest.raises(InputError, match=r"unknown prompt set 'ona'.*did you mean 'one'"):
        published_rows(comparison, matrices, read_figures(file(tmp_path, "dpo,ona,oracle,0.5,b\n")))
    with pytest.raises(InputError, match="none of its figures"):
        published_rows(comparison, matrices, read_figures(file(tmp_path, "other,,oracle,0.5,b\n")))


def test_blanks_around_a_cell_are_no_part_of_a_name(tmp_path: Path) -> None:
    (figure,) = read_figures(file(tmp_path, " dpo , ,oracle\u00a0, 0.80 , a\n"))
    assert (figure.variant, figure.prompt_set, figure.scorer, figure.source) == ("dpo", "all", "oracle", "a")
    with pytest.raises(InputError, match="dpo, all, oracle stands there twice"):
        read_figures(file(tmp_path, "dpo,,oracle,0.8,a\ndpo ,,oracle,0.8,a\n"))


def test_figures_of_prompt_sets_that_our_scorer_does_not_rate_are_left_out(tmp_path: Path) -> None:
    models = tuple(
        ComparedModel(name=f"b/dpo/seed{s}", base="b", variant="dpo", objective="dmpo", seed=s, pairs="p")
        for s in range(2)
    )
    rated = {"oracle": ("one",)}
    comparison = Comparison("x", tmp_path, models, ("one", "two"), {"oracle": "e"}, Statistics(), rated=rated)
    values = {("dpo", "one", "oracle"): np.array([[0.0], [1.0]])}
    figures = read_figures(file(tmp_path, "dpo,,oracle,0.80,a\ndpo,one,oracle,0.5,b\ndpo,two,oracle,0.5,c\n"))
    rows = published_rows(comparison, ScoreMatrices({"dpo": models}, {}, values, {}), figures)
    assert [(row.prompt_set, row.ours) for row in rows] == [("one", 0.5)]


def test_a_figure_of_all_sets_is_held_against_those_that_are_drawn_alike(tmp_path: Path) -> None:
    models = tuple(
        ComparedModel(name=f"b/dpo/seed{s}", base="b", variant="dpo", objective="dmpo", seed=s, pairs="p")
        for s in range(2)
    )
    apart = {"one-unguided": ApartSet(shows="one", generation=DrawnApart(guidance_scale=1.0))}
    comparison = Comparison("x", tmp_path, models, ("one", "one-unguided"), {"oracle": "e"}, Statistics(), apart=apart)
    values = {("dpo", name, "oracle"): np.array([[x], [x]]) for name, x in (("one", 0.8), ("one-unguided", 0.2))}
    figures = read_figures(file(tmp_path, "dpo,,oracle,0.80,a\n"))
    (row,) = published_rows(comparison, ScoreMatrices({"dpo": models}, {}, values, {}), figures)
    assert (row.ours, row.difference) == (pytest.approx(0.8), pytest.approx(0.0))


def test_what_was_measured_otherwise_agrees_with_nothing(tmp_path: Path) -> None:
    path = tmp_path / "published.csv"
    head = "variant,prompt_set,scorer,value,source,trust,protocol\n"
    twice = "dpo,,pickscore,21.0,A,paper,times 100\ndpo,,pickscore,21.0,B,second-hand,times 100\n"
    path.write_text(head + twice + "dpo,,pickscore,0.21,C,paper,\n", encoding="utf-8")
    figures = read_figures(path)
    seeds = [0.2, 0.21, 0.22]
    other, _, alike = (compared(figure, seeds, 0.95) for figure in figures)
    assert (other.difference, other.inside_interval, other.inside_seed_interval) == (None, None, None)
    assert (other.published, other.ours, other.trust) == (21.0, pytest.approx(0.21), "paper")
    assert alike.inside_interval and alike.difference == pytest.approx(0.0)
    # Even a figure that would lie inside is not said to agree.
    near = compared(Figure("dpo", "all", "pickscore", 0.21, 0.01, "D", "paper", "other prompts"), seeds, 0.95)
    assert (near.difference, near.inside_interval) == (None, None)
    printed = to_markdown([other, alike, near], "95%")
    assert "Of 1 published figures that were measured as here, 1 lie in" in printed
    assert "without such intervals" not in printed
    # One model has no interval over seeds, so that a figure beside it is no miss.
    printed_single = to_markdown([alike, compared(figures[2], [0.3], 0.95)], "95%")
    assert "Of 1 published figures that were measured as here, 1 lie in" in printed_single
    assert "Ours of 1 more is of one model, without such intervals." in printed_single
    assert printed.count("| measured otherwise |") == 2 and printed.count("yes") == 2
    assert "- A (paper; measured otherwise: times 100)\n" in printed and "- C (paper)\n" in printed
    path.write_text(head + "dpo,,pickscore,21.0,A,paper,x\n" * 2, encoding="utf-8")
    with pytest.raises(InputError, match="line 3: dpo, all, pickscore stands there twice"):
        read_figures(path)


@pytest.mark.parametrize("name", ["images", "toy_surface", "toy_surface_other"])
def test_every_shipped_figure_has_a_source_and_says_how_it_was_read(name: str) -> None:
    figures = read_figures(Path(__file__).parents[4] / f"results/published/{name}.csv")
    assert {figure.trust for figure in figures} <= {"paper", "repository", "second-hand", "read off a figure"}
    # No image was drawn and scored as here, so none of its figures may ever be said to agree.
    assert all(figure.protocol for figure in figures) or name == "toy_surface"
    second_hand = {figure.trust for figure in figures if "quote" in figure.source or "copied" in figure.source}
    assert second_hand <= {"second-hand"}


def test_figures_that_are_quoted_twice_agree() -> None:
    """The LPO paper copied one row from the SPO paper."""
    figures = read_figures(Path(__file__).parents[4] / "results/published/images.csv")
    spo = {f.scorer: f.value for f in figures if f.variant == "sdxl-spo" and f.source == "SPO, arXiv 2406.04314"}
    copied = {f.scorer: f.value for f in figures if f.variant == "sdxl-spo" and "copied" in f.source}
    assert spo.keys() <= copied.keys() and spo == {scorer: copied[scorer] for scorer in spo}


@pytest.mark.parametrize(
    ("text", "unit"), [("0.35", 0.01), ("0.35 ", 0.01), ("2e-1", 0.1), ("2.0e-1", 0.01), ("12", 1.0), ("1e2", 100.0)]
)
def test_the_unit_of_the_last_digit(tmp_path: Path, text: str, unit: float) -> None:
    (figure,) = read_figures(file(tmp_path, f"dpo,,oracle,{text},a\n"))
    assert figure.unit == pytest.approx(unit)
    assert figure.value == float(text)
    # Half a unit beyond the last digit is another figure.
    assert not compared(figure, [figure.value + 0.6 * unit] * 3, 0.95).inside_interval
    assert compared(figure, [figure.value + 0.4 * unit] * 3, 0.95).inside_interval


def test_cosines_are_printed_with_the_decimals_that_tell_them_apart() -> None:
    figure = Figure("dpo", "all", "pickscore", 0.2147, 0.0001, "here")
    row = compared(figure, [0.21508, 0.2151, 0.21512], 0.95)
    assert not row.inside_interval
    printed = to_markdown([row], "95%", {"pickscore": 5})
    assert "| dpo     | 0.21510 | [0.21505, 0.21515] |" in printed
    assert " +0.00040 |" in printed
    # Fewer decimals would print an interval that holds the figure.
    low, high = to_markdown([row], "95%", {"pickscore": 2}).split("| [")[1].split("]")[0].split(", ")
    assert float(low) > 0.2147 and float(high) > 0.2147


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("dpo,,oracle,high,a\n", "line 2: could not convert"),
        ("dpo,,oracle,nan,a\n", "line 2: value is 'nan'"),
        ("dpo,,oracle,0.5,\n", "line 2 has no source"),
        ("dpo,,oracle,0.5,a\ndpo,all,oracle,0.6,a\n", "line 3: dpo, all, oracle stands there twice"),
        ("dpo,,oracle,0,5,a\n", "row 1 has not the 5 cells of the header; quote cells that hold the delimiter"),
        ("dpo,,oracle,0.5\n", "row 1 has not the 5 cells"),
    ],
)
def test_a_bad_file_is_refused(tmp_path: Path, text: str, words: str) -> None:
    with pytest.raises(InputError, match=words):
        read_figures(file(tmp_path, text))


def test_a_file_as_spreadsheets_write_it(tmp_path: Path) -> None:
    path = file(tmp_path, "dpo,,oracle,0.5,a\n")
    expected = read_figures(path)
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes().replace(b"\n", b"\r\n") + b"\r\n")
    assert read_figures(path) == expected
    path.write_text("variant,prompt_set,scorer,value,source,value\ndpo,,oracle,0.5,a,0.6\n")
    with pytest.raises(InputError, match="two columns are named 'value'"):
        read_figures(path)


def test_the_shipped_table_obeys_its_own_definitions() -> None:
    """Strict = ½(StrictWin + OnManifold) and WinQ = StrictWin / Win, up to rounding."""
    path = Path(__file__).parents[4] / "results/published/toy_surface.csv"
    table: dict[str, dict[str, float]] = {}
    for figure in read_figures(path):
        table.setdefault(figure.variant, {})[figure.scorer.removeprefix("surface_")] = figure.value
    assert len(table) == 33
    for row in table.values():
        assert row["strict"] == pytest.approx((row["strict_win"] + row["on_manifold"]) / 2, abs=0.0015)
        # A quotient of shares of three digits is good to two units of the third.
        assert row["win_quality"] == pytest.approx(row["strict_win"] / row["win"], abs=0.0025)
