from __future__ import annotations

import csv
import json
import math
import re
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import scipy.stats

from artifacts import layout
from artifacts.contracts import CONTRACTS, read_table, write_table
from artifacts.errors import InputError
from evals import cli
from evals.scoring.folder_score_files import read_scores
from evals.tables.comparison import Comparison, Statistics
from evals.tables.folder_summary import summary_markdown
from evals.tables.merging import Merged, merge
from evals.tables.pair_table import pair_markdown
from evals.tables.rows import DifferenceRow, WinRateRow, read_rows
from evals.tables.sources import read
from evals.tables.write import Compared, compared

SETTINGS = Statistics()


@dataclass
class Pair:
    """Two score files compared."""

    merged: Merged
    tables: Compared

    def win(self, scorer: str = "clip") -> WinRateRow:
        (row,) = (row for row in self.tables.rows.win_rates if (row.prompt_set, row.scorer) == ("folder", scorer))
        return row

    def difference(self, scorer: str = "clip") -> DifferenceRow:
        (row,) = (row for row in self.tables.rows.differences if (row.prompt_set, row.scorer) == ("folder", scorer))
        return row

    def printed(self) -> str:
        merged, tables = self.merged, self.tables
        return pair_markdown(merged.comparison, tables.rows.win_rates, tables.rows.differences, merged.notes)


def compare(*paths: Path, scorers: Sequence[str] | None = None) -> Pair:
    merged = merge([read(path) for path in paths], SETTINGS, scorers=scorers)
    return Pair(merged, compared(merged.comparison, merged.matrices, remarks=merged.notes))


def rows(
    scores: Sequence[float], scorer: str = "clip", prompts: Sequence[str] | None = None, **changes: Any
) -> pd.DataFrame:
    count = len(scores)
    columns = {
        "file": [f"{i}.png" for i in range(count)],
        "prompt": list(prompts or [f"prompt {i}" for i in range(count)]),
        "scorer": scorer,
        "protocol": "sdpo",
        "score": np.asarray(scores, dtype=np.float64),
        "truncated": False,
        "image_sha256": "0",
        "fingerprint": "f" * 64,
        "problem": None,
        "lower_is_better": None,
        "judges": None,
        **changes,
    }
    return pd.DataFrame(columns)


def write(path: Path, *frames: pd.DataFrame) -> Path:
    write_table(path, pd.concat(frames, ignore_index=True), "folder_scores")
    return path


def test_win_rates_by_hand(tmp_path: Path) -> None:
    """Eight prompts: a wins five, ties two, loses one; the sign test is on 5 against 1."""
    b = np.zeros(8)
    a = np.array([1, 1, 1, 1, 1, 0, 0, -1.0])
    pair = compare(write(tmp_path / "a.parquet", rows(a)), write(tmp_path / "b.parquet", rows(b)))
    win, row = pair.win(), pair.difference()
    assert (win.wins, win.ties, win.losses, row.n_prompts, row.n_texts) == (5, 2, 1, 8, 8)
    assert win.win_rate == 6 / 8
    assert win.p_these_models == pytest.approx(2 * (1 + 6) / 64)
    assert (row.a, row.b, row.mean_difference) == ("a", "b", 0.5)
    # A folder is one model: the Student interval over prompts.
    expected = scipy.stats.ttest_1samp(a, 0.0)
    assert row.p_value == pytest.approx(expected.pvalue, rel=1e-6)
    interval = expected.confidence_interval(0.95)
    assert (row.ci_low, row.ci_high) == pytest.approx((interval.low, interval.high))
    assert 0 < win.ci_low < 6 / 8 < win.ci_high < 1


def test_holm_is_across_scorers(tmp_path: Path) -> None:
    up, mixed = np.ones(6), np.array([1, 1, 1, 1, 1, -1.0])
    a = write(tmp_path / "a.parquet", rows(up), rows(mixed, "hpsv2"))
    b = write(tmp_path / "b.parquet", rows(0 * up), rows(0 * up, "hpsv2"))
    pair = compare(a, b)
    first, second = pair.win(), pair.win("hpsv2")
    assert (first.p_these_models, second.p_these_models) == (2 / 64, 14 / 64)
    assert first.p_value < second.p_value
    assert first.p_holm == pytest.approx(2 * first.p_value)
    assert second.p_holm == max(second.p_value, first.p_holm)
    # All six differ by the same, which says nothing of how others would.
    assert (pair.difference().p_value, pair.difference().p_holm) == (1.0, 1.0)
    assert pair.difference("hpsv2").p_holm == pytest.approx(2 * pair.difference("hpsv2").p_value)


def test_images_of_one_prompt_count_as_one(tmp_path: Path) -> None:
    prompts = ["one"] * 4 + ["two"]
    a = write(tmp_path / "a.parquet", rows([1, 1, 1, -1, 1], prompts=prompts))
    b = write(tmp_path / "b.parquet", rows([0] * 5, prompts=prompts))
    pair = compare(a, b)
    row = pair.difference()
    assert (row.n_prompts, row.n_texts, pair.win().wins) == (5, 2, 4)
    assert pair.win().p_these_models == 0.5  # two prompts won of two
    apart = compare(write(tmp_path / "c.parquet", rows([1, 1, 1, -1, 1])), write(tmp_path / "d.parquet", rows([0] * 5)))
    # Two prompts leave one degree of freedom.
    assert row.ci_low < apart.difference().ci_low


def test_a_file_against_itself_ties(tmp_path: Path) -> None:
    a = write(tmp_path / "a.parquet", rows([1.0, 2.0]))
    pair = compare(a, a)
    assert (pair.win().ties, pair.win().win_rate, pair.win().p_value) == (2, 0.5, 1.0)
    assert (pair.difference().b, pair.difference().mean_difference) == (f"{tmp_path.name}/a (2)", 0.0)


@pytest.mark.parametrize(
    ("other", "message"),
    [
        ([rows([1.0])], r"b\.parquet: has no image '1\.png'; .*a\.parquet has it with 'prompt 1' \(1 images"),
        ([rows([1.0, 2.0, 3.0])], r"a\.parquet: has no image '2\.png'"),
        ([rows([1.0, 2.0], prompts=["prompt 0", "x"])], r"b\.parquet: has '1\.png' with another prompt"),
        (
            [rows([1.0, 2.0], fingerprint="g")],
            r"scorer 'clip' has fingerprint 'g', .*'ffffffffffff': these are different",
        ),
        ([rows([1.0, 2.0], protocol="author")], r"scorer 'clip' has protocol 'author', .* 'sdpo'"),
        (
            [rows([1.0, 2.0], "hpsv2")],
            r"b\.parquet: has no scores of 'clip', .*a\.parquet has; score all with the same scorers",
        ),
        (
            [rows([1.0, 2.0]), rows([1.0, 2.0], "hpsv2")],
            r"a\.parquet: has no scores of 'hpsv2', .*b\.parquet has; name the common ones: --scorers clip",
        ),
        ([rows([1.0, 2.0]), rows([1.0, 2.0])], r"b\.parquet: '0\.png' has two scores of 'clip'"),
    ],
)
def test_what_does_not_pair_is_refused(tmp_path: Path, other: list[pd.DataFrame], message: str) -> None:
    a, b = write(tmp_path / "a.parquet", rows([1.0, 2.0])), write(tmp_path / "b.parquet", *other)
    with pytest.raises(InputError, match=message):
        compare(a, b)


def test_common_scorers_can_be_named(tmp_path: Path) -> None:
    a = write(tmp_path / "a.parquet", rows([1.0, 2.0]))
    b = write(tmp_path / "b.parquet", rows([1.0, 2.0], "hpsv2", fingerprint="g"), rows([0.0, 2.0]))
    assert {row.scorer for row in compare(a, b, scorers=["clip"]).tables.rows.differences} == {"clip"}
    with pytest.raises(InputError, match=r"a\.parquet: has no scores of 'hpsv2', only of clip"):
        compare(a, b, scorers=["hpsv2"])


def test_broken_images_are_left_out_and_counted(tmp_path: Path) -> None:
    broken = rows([1.0, np.nan, 3.0])
    broken.loc[1, ["problem", "image_sha256"]] = ["the file is empty", None]
    a, b = write(tmp_path / "a.parquet", broken), write(tmp_path / "b.parquet", rows([0.0, 0.0, 4.0]))
    pair = compare(a, b)
    assert pair.difference().n_prompts == 2
    assert (pair.win().wins, pair.win().losses) == (1, 1)
    assert "- 1 images that are broken on a side are left out.\n" in pair.printed()
    assert "- 1 images that are broken" in pair.tables.texts["main.md"]
    printed = summary_markdown(read_scores(a), SETTINGS)
    assert re.search(r"\| clip +\| sdpo +\| +2 \| .* \| +2 \|", printed)
    assert "- 1 broken images have no score and are in no mean; column `problem` says why.\n" in printed


def test_names_in_the_notes_are_no_markup(tmp_path: Path) -> None:
    a, b = (write(tmp_path / f"{x}.parquet", rows([1.0, 2.0])) for x in ("my_a*", "b|"))
    printed = compare(a, b).printed()
    assert "- a = my\\_a\\*, b = b\\|. Ties count half.\n" in printed
    assert "- 2 images of 2 prompts.\n" in printed


def test_command_prints_markdown_and_writes_csv(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    a = write(tmp_path / "a.parquet", rows([1.0, 2.0, 0.0, 4.0]))
    b = write(tmp_path / "b.parquet", rows([0.0, 1.0, 0.0, 5.0]))
    out = tmp_path / "tables"
    assert cli.main(["compare", str(a), str(b), "--out", str(out), "--confidence", "0.9"]) == 0
    printed = capsys.readouterr().out
    assert "| clip   | sdpo     | 0.625 [" in printed
    assert "a − b [90%] |" in printed and "says nothing of training again" in printed
    with (out / "win_rates.csv").open() as file:
        row = next(csv.DictReader(file))
    assert (row["scorer"], row["wins"], row["ties"], row["win_rate"]) == ("clip", "2", "1", "0.625")
    assert cli.main(["compare", str(a)]) == 2
    assert "1 files or folders given; expected two or more of A.parquet and results/" in capsys.readouterr().err
    assert {path.name for path in out.iterdir()} == {
        *(f"{name}.csv" for name in ("scores", "win_rates", "differences", "categories", "ranks")),
        *("main.md", "main.tex", "main.html", "categories.md", "sources.json"),
    }


def test_where_low_is_good_the_lower_score_wins_also_where_the_scorer_is_not_installed(tmp_path: Path) -> None:
    told = {"lower_is_better": True, "judges": True}
    a, b = (write(tmp_path / f"{x}.parquet", rows([x == "b", x == "b", 0.0], "defects", **told)) for x in "ab")
    pair = compare(a, b)
    won = pair.win("defects")
    assert (won.wins, won.ties, won.losses) == (2, 1, 0)
    assert pair.difference("defects").mean_difference == pytest.approx(-2 / 3)
    assert "Lower is better for defects" in pair.printed()


def test_a_scorer_that_describes_stays_one_where_it_is_not_installed(tmp_path: Path) -> None:
    told = {"lower_is_better": False, "judges": False}
    pair = compare(*(write(tmp_path / f"{x}.parquet", rows([x == "a", 0.5], "size", **told)) for x in "ab"))
    assert pair.tables.rows.win_rates == []


def test_scores_from_before_of_a_scorer_that_is_not_here_are_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "a.parquet", rows([1.0, 2.0], "defects"))
    with pytest.raises(InputError, match="does not say whether low scores of 'defects' are good"):
        compare(path, path)


def test_scores_that_are_infinite_are_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "a.parquet", rows([1.0, math.inf]))
    with pytest.raises(InputError, match=r"'1\.png' has the score inf by 'clip'"):
        compare(path, path)


def test_summary_says_how_many_prompts_were_cut() -> None:
    table = rows([1.0, 2.0, 3.0, 4.0], "imagereward", ["a", "a", "b", "c"], truncated=[True, True, False, True])
    assert "only the beginning: imagereward 2 of 3." in summary_markdown(table, SETTINGS)


def test_scorers_that_describe_are_no_tests_to_correct_for(tmp_path: Path) -> None:
    scores = {"clip": [1.0] * 6, "hpsv2": [1.0] * 5 + [-1.0], "jpeg_size": [1.0] * 6, "blank": [0.0] * 6}
    a = write(tmp_path / "a.parquet", *(rows(values, name) for name, values in scores.items()))
    b = write(tmp_path / "b.parquet", *(rows([0.0] * 6, name) for name in scores))
    pair = compare(a, b)
    assert pair.win().p_holm == pytest.approx(2 * pair.win().p_value)
    assert {row.scorer for row in pair.tables.rows.win_rates} == {"clip", "hpsv2", "mean of judges"}
    assert [pair.difference(name).p_holm for name in ("jpeg_size", "blank")] == [None, None]
    assert pair.difference("jpeg_size").mean_difference == 1.0
    assert "jpeg\\_size, blank: no judgement, so nothing wins or is tested." in pair.printed()


def test_prompts_are_equal_whatever_unicode_makes_of_them(tmp_path: Path) -> None:
    prompts = ["caf\u00e9", "cafe\u0301 ", "a disc"]
    a, b = (write(tmp_path / f"{x}.parquet", rows([x == "a", 0.0, 0.5], prompts=prompts)) for x in "ab")
    assert compare(a, b).difference().n_texts == 2
    assert "3 images of 2 prompts" in summary_markdown(read_scores(a), SETTINGS)


def test_many_images_of_one_prompt_say_nothing_of_other_prompts(tmp_path: Path) -> None:
    a, b = (write(tmp_path / f"{x}.parquet", rows([x == "a", 0.7, 0.8], prompts=["one"] * 3)) for x in "ab")
    pair = compare(a, b)
    row = pair.difference()
    assert (row.ci_low, row.ci_high, row.p_value) == (-np.inf, np.inf, 1.0)
    assert "[" not in pair.printed().splitlines()[2].split("|")[8]
    assert "inf" not in summary_markdown(read_scores(a), SETTINGS)


def test_a_win_rate_that_is_decided_is_printed_as_decided(tmp_path: Path) -> None:
    """2070 of 4000 prompts won: the interval ends above one half by less than a thousandth."""
    scores = np.concatenate([np.ones(2063), -np.ones(1937)])
    a, b = write(tmp_path / "a.parquet", rows(scores)), write(tmp_path / "b.parquet", rows(0 * scores))
    pair = compare(a, b)
    assert 0.5 < pair.win().ci_low < 0.5005
    printed = pair.printed()
    assert float(printed.split(" [")[3].split(",")[0]) > 0.5


def test_names_and_prompts_in_another_unicode_form_pair(tmp_path: Path) -> None:
    """One folder from a disk of macOS; prompts that differ in case and white space are one unit besides."""
    composed, decomposed = "caf\u00e9", "cafe\u0301"
    names, prompts = [f"{composed}.png", "1.png", "2.png", "3.png"], [composed, f"{composed} ", composed.upper(), "b"]
    a = rows([1.0, 2.0, 3.0, 4.0], prompts=prompts, file=names)
    b = a.assign(
        file=[name.replace(composed, decomposed) for name in names],
        prompt=[text.replace(composed, decomposed) for text in prompts],
        score=0.0,
    )
    row = compare(write(tmp_path / "a.parquet", a), write(tmp_path / "b.parquet", b)).difference()
    assert (row.n_prompts, row.n_texts, row.mean_difference) == (4, 2, 2.5)


def test_a_row_a_file_and_all_against_the_last_or_the_one_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    scores = {"a": [3.0, 4.0, 5.0], "b": [1.0, 2.0, 4.0], "c": [0.0, 0.0, 0.0]}
    files = [write(tmp_path / f"{name}.parquet", rows(values)) for name, values in scores.items()]
    found = compare(*files)
    assert found.merged.comparison.reference == "c"
    pooled = [row for row in found.tables.rows.differences if row.prompt_set == "all"]
    assert {(row.a, row.b, row.kind): row.mean_difference for row in pooled} == {
        ("a", "c", "asked"): 4.0,
        ("b", "c", "asked"): pytest.approx(7 / 3),
    }
    assert cli.main(["compare", *map(str, files), "--against", "a"]) == 0
    printed = capsys.readouterr().out
    assert "minus a" in printed and "minus base" not in printed
    assert "the difference to a, on the same prompts, ±" in printed
    assert cli.main(["compare", *map(str, files), "--against", "d"]) == 2
    assert "--against d: expected one of a, b, c" in capsys.readouterr().err


def as_folder(benchmark: Comparison, model: str, path: Path, *, order: int = 1, **changes: Any) -> Path:
    """The scores of one model of a benchmark, as if its images lay in a folder."""
    frames = []
    for prompt_set in benchmark.prompt_sets:
        prompts = read_table(layout.prompts(benchmark.root, prompt_set), "prompts")
        for scorer in benchmark.scorers:
            frame = read_table(layout.scores(benchmark.root, scorer, model, prompt_set), "scores")
            texts = dict(zip(prompts["prompt_id"], prompts["prompt"], strict=True))
            frame = frame.assign(
                file=frame["prompt_id"] + ".png",
                prompt=frame["prompt_id"].map(texts),
                scorer=scorer,
                problem=None,
                lower_is_better=None,
                judges=None,
            )
            frames.append(frame.drop(columns="prompt_id"))
    table = pd.concat(frames[::order], ignore_index=True)[list(CONTRACTS["folder_scores"].columns)]
    write_table(path, table.sort_values("scorer", kind="stable").assign(**changes), "folder_scores")
    return path


def test_a_folder_beside_a_benchmark_is_paired_by_prompt(tiny_benchmark: Comparison, tmp_path: Path) -> None:
    """The base's scores as a folder, in another order: by each scorer it is the base again."""
    benchmark = tiny_benchmark
    folder = as_folder(benchmark, "mini/base", tmp_path / "mine.parquet", order=-1)
    found = compare(Path(benchmark.root), folder)
    comparison = found.merged.comparison
    assert comparison.variants == (*benchmark.variants, "mine")
    assert (comparison.reference, comparison.prompt_sets) == ("base", benchmark.prompt_sets)
    for row in found.tables.rows.differences:
        if row.a == "mine":
            assert (row.mean_difference, row.ci_low, row.ci_high) == (0.0, -math.inf, math.inf)
    # What the benchmark's own tables say of its variants stays.
    own = {
        (row.a, row.b, row.prompt_set, row.scorer): row.mean_difference
        for row in read_rows(benchmark.root / "tables/differences.csv", DifferenceRow)
    }
    ours = {(row.a, row.b, row.prompt_set, row.scorer): row.mean_difference for row in found.tables.rows.differences}
    assert own.items() <= {key: pytest.approx(value) for key, value in ours.items()}.items()


def test_what_benchmarks_that_were_drawn_differently_share_is_said(tiny_benchmark: Comparison, tmp_path: Path) -> None:
    """One of them has other steps; that both start every prompt from one noise must not be lost over it."""
    folders = [Path(tiny_benchmark.root), tmp_path / "elsewhere"]
    shutil.copytree(*folders)
    for folder, steps in zip(folders, (20, 50), strict=True):
        spec = json.loads((folder / "tables/comparison.json").read_text())
        drawn = {"protocol": "sdpo", "guidance_scale": 7.5, "steps": steps}
        (folder / "tables/comparison.json").write_text(json.dumps({**spec, "generation": drawn}))
    assert cli.main(["compare", *map(str, folders), "--out", str(tmp_path / "board")]) == 0
    notes = (tmp_path / "board/main.md").read_text().replace("\\_", "_")
    assert "drew under different settings (steps), so a difference" in notes
    assert "draws every prompt from one start noise" in notes
    assert "Generation: protocol sdpo, guidance_scale 7.5, effective_guidance 8.5.\n" in notes


def test_benchmarks_are_told_apart_and_what_is_one_is_shown_once(tiny_benchmark: Comparison, tmp_path: Path) -> None:
    other = tmp_path / "elsewhere"
    shutil.copytree(tiny_benchmark.root, other)
    spec = json.loads((other / "tables/comparison.json").read_text())
    (other / "tables/comparison.json").write_text(json.dumps({**spec, "benchmark": "again"}))
    found = compare(Path(tiny_benchmark.root), other)
    trained = [variant for variant in tiny_benchmark.variants if variant != "base"]
    assert found.merged.comparison.variants == ("toy:base", *(f"{b}:{v}" for b in ("toy", "again") for v in trained))
    assert found.merged.notes == ("again:base has every score of toy:base, and is shown once.",)
    assert ("again:dmpo+sdpo", "again:dmpo", "baseline") in {(r.a, r.b, r.kind) for r in found.tables.rows.differences}
    # Seeds are paired by their number across benchmarks too, so copies tie.
    ranks = list(csv.DictReader(found.tables.texts["ranks.csv"].splitlines()))
    for scorer in tiny_benchmark.scorers:
        twins = [row for row in ranks if row["variant"].endswith(":dmpo") and row["scorer"] == scorer]
        places = {name: {row["rank"] for row in twins if row["prompt_set"] == name} for name in ("seen", "all")}
        assert [len(place) for place in places.values()] == [1, 1]


def renamed(benchmark: Comparison, folder: Path, **changes: Any) -> Path:
    """A copy of a benchmark whose comparison says otherwise."""
    shutil.copytree(benchmark.root, folder)
    spec = json.loads((folder / "tables/comparison.json").read_text())
    (folder / "tables/comparison.json").write_text(json.dumps({**spec, "benchmark": folder.name, **changes}))
    return folder


def test_sets_that_only_one_benchmark_has_are_named_whatever_the_order(
    tiny_benchmark: Comparison, tmp_path: Path
) -> None:
    fewer = renamed(tiny_benchmark, tmp_path / "fewer", prompt_sets=["seen"])
    for paths in ((Path(tiny_benchmark.root), fewer), (fewer, Path(tiny_benchmark.root))):
        found = compare(*paths)
        assert found.merged.comparison.prompt_sets == ("seen",)
        assert [note for note in found.merged.notes if note.startswith("Prompt set held-out is left out: ")]


def test_sets_that_no_named_scorer_rates_everywhere_are_left_out(tiny_benchmark: Comparison, tmp_path: Path) -> None:
    limited = renamed(tiny_benchmark, tmp_path / "limited", rated={"oracle": ["seen"]})
    found = compare(limited, Path(tiny_benchmark.root), scorers=["oracle"])
    assert found.merged.comparison.prompt_sets == ("seen",)
    assert "Prompt set held-out is left out: not rated everywhere by any of oracle." in found.merged.notes


def test_a_prompt_set_may_be_called_folder(tiny_benchmark: Comparison, tmp_path: Path) -> None:
    paths = []
    for name in ("one", "other"):
        folder = renamed(tiny_benchmark, tmp_path / name, prompt_sets=["folder", "held-out"])
        for kind in ("prompts", "scores"):
            for path in sorted((folder / kind).rglob("seen.parquet")):
                path.rename(path.with_name("folder.parquet"))
        paths.append(folder)
    assert compare(*paths).merged.comparison.prompt_sets == ("folder", "held-out")


def test_benchmarks_of_other_prompts_scorers_or_protocols_are_refused(
    tiny_benchmark: Comparison, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = Path(tiny_benchmark.root)
    folder = as_folder(tiny_benchmark, "mini/base", tmp_path / "x.parquet")
    for changes, words in (
        ({"fingerprint": "0" * 64}, "x.parquet: scorer 'pickscore' has fingerprint '000000000000', "),
        ({"protocol": "other"}, "x.parquet: scorer 'pickscore' has protocol 'other', "),
    ):
        as_folder(tiny_benchmark, "mini/base", folder, **changes)
        assert cli.main(["compare", str(root), str(folder)]) == 2
        message = capsys.readouterr().err
        assert words in message and str(root) in message and message.count("\n") == 1
    as_folder(tiny_benchmark, "mini/base", folder)
    table = read_table(folder, "folder_scores")
    some = tiny_benchmark.prompt_sets[0]
    gone = table["file"] == f"{some}-00000.png"
    write_table(folder, table[~gone], "folder_scores")
    with pytest.raises(InputError, match=rf"x\.parquet: lacks 1 prompts of '{some}' that .* has, e\.g\. '"):
        compare(root, folder)
    write_table(folder, table[~table["file"].str.startswith(some)], "folder_scores")
    found = compare(root, folder)
    assert found.merged.comparison.prompt_sets == tiny_benchmark.prompt_sets[1:]
    assert f"Prompt set {some} is left out: {folder} does not have it" in found.merged.notes[0]
    own = layout.scores(root, "oracle", "mini/base", some)
    with pytest.raises(InputError, match=r"is one of the score files of a benchmark; give its folder"):
        read(own)
