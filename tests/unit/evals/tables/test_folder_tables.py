from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import scipy.stats

from artifacts.contracts import write_table
from artifacts.errors import InputError
from evals import cli
from evals.tables.comparison import Statistics
from evals.tables.folder_tables import compare, comparison_markdown, read_scores, summarise, summary_markdown
from evals.tables.statistics import clustered_means

SETTINGS = Statistics(resamples=500)


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
        **changes,
    }
    return pd.DataFrame(columns)


def write(path: Path, *frames: pd.DataFrame) -> Path:
    write_table(path, pd.concat(frames, ignore_index=True), "folder_scores")
    return path


def test_clustered_draws_resample_whole_groups() -> None:
    values, groups = np.array([1.0, 3.0, 10.0]), np.array([0, 0, 1])
    draws = clustered_means(values, groups, 4000, np.random.default_rng(0))
    assert sorted({round(float(draw), 9) for draw in draws}) == [2.0, round(14 / 3, 9), 10.0]
    assert np.mean(draws == 10.0) == pytest.approx(0.25, abs=0.03)


def test_win_rates_by_hand(tmp_path: Path) -> None:
    """Eight prompts: a wins five, ties two, loses one; the sign test is on 5 against 1."""
    b = np.zeros(8)
    a = np.array([1, 1, 1, 1, 1, 0, 0, -1.0])
    row = compare(write(tmp_path / "a.parquet", rows(a)), write(tmp_path / "b.parquet", rows(b)), SETTINGS)[0]
    assert (row.wins, row.ties, row.losses, row.n, row.prompts) == (5, 2, 1, 8, 8)
    assert row.win_rate == 6 / 8
    assert row.p_these_images == pytest.approx(2 * (1 + 6) / 64)
    assert row.mean_difference == 0.5
    # A folder is one model: the Student interval over prompts.
    expected = scipy.stats.ttest_1samp(a, 0.0)
    assert row.difference_p_value == pytest.approx(expected.pvalue, rel=1e-6)
    interval = expected.confidence_interval(0.95)
    assert (row.difference_ci_low, row.difference_ci_high) == pytest.approx((interval.low, interval.high))
    assert row.win_rate_ci_low is not None and row.win_rate_ci_high is not None
    assert 0 < row.win_rate_ci_low < 6 / 8 < row.win_rate_ci_high < 1


def test_holm_is_across_scorers(tmp_path: Path) -> None:
    up, mixed = np.ones(6), np.array([1, 1, 1, 1, 1, -1.0])
    a = write(tmp_path / "a.parquet", rows(up), rows(mixed, "hpsv2"))
    b = write(tmp_path / "b.parquet", rows(0 * up), rows(0 * up, "hpsv2"))
    first, second = compare(a, b, SETTINGS)
    assert (first.p_these_images, second.p_these_images) == (2 / 64, 14 / 64)
    assert first.p_value is not None and second.p_value is not None and first.p_value < second.p_value
    assert first.p_holm == pytest.approx(2 * first.p_value)
    assert second.p_holm == max(second.p_value, first.p_holm)
    assert (first.difference_p_value, first.difference_p_holm) == (0.0, 0.0)
    assert second.difference_p_holm == second.difference_p_value


def test_images_of_one_prompt_count_as_one(tmp_path: Path) -> None:
    prompts = ["one"] * 4 + ["two"]
    a = write(tmp_path / "a.parquet", rows([1, 1, 1, -1, 1], prompts=prompts))
    b = write(tmp_path / "b.parquet", rows([0] * 5, prompts=prompts))
    row = compare(a, b, SETTINGS)[0]
    assert (row.n, row.prompts, row.wins) == (5, 2, 4)
    assert row.p_these_images == 0.5  # two prompts won of two
    apart = compare(
        write(tmp_path / "c.parquet", rows([1, 1, 1, -1, 1])), write(tmp_path / "d.parquet", rows([0] * 5)), SETTINGS
    )[0]
    # Two prompts leave one degree of freedom.
    assert row.difference_ci_low < apart.difference_ci_low


def test_a_file_against_itself_ties(tmp_path: Path) -> None:
    a = write(tmp_path / "a.parquet", rows([1.0, 2.0]))
    row = compare(a, a, SETTINGS)[0]
    assert (row.ties, row.win_rate, row.p_value, row.mean_difference) == (2, 0.5, 1.0, 0.0)


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
        ([rows([1.0, 2.0], "hpsv2")], r"b\.parquet: has no scores of 'clip', .*with the same scorers"),
        (
            [rows([1.0, 2.0]), rows([1.0, 2.0], "hpsv2")],
            r"a\.parquet: has no scores of 'hpsv2', the other file has; name the common ones: --scorers clip",
        ),
        ([rows([1.0, 2.0]), rows([1.0, 2.0])], r"b\.parquet: '0\.png' has two scores of 'clip'"),
    ],
)
def test_what_does_not_pair_is_refused(tmp_path: Path, other: list[pd.DataFrame], message: str) -> None:
    a, b = write(tmp_path / "a.parquet", rows([1.0, 2.0])), write(tmp_path / "b.parquet", *other)
    with pytest.raises(InputError, match=message):
        compare(a, b, SETTINGS)


def test_common_scorers_can_be_named(tmp_path: Path) -> None:
    a = write(tmp_path / "a.parquet", rows([1.0, 2.0]))
    b = write(tmp_path / "b.parquet", rows([1.0, 2.0], "hpsv2", fingerprint="g"), rows([0.0, 2.0]))
    assert [row.scorer for row in compare(a, b, SETTINGS, ["clip"])] == ["clip"]
    with pytest.raises(InputError, match=r"a\.parquet: has no scores of 'hpsv2', only of clip"):
        compare(a, b, SETTINGS, ["hpsv2"])


def test_broken_images_are_left_out_and_counted(tmp_path: Path) -> None:
    broken = rows([1.0, np.nan, 3.0])
    broken.loc[1, ["problem", "image_sha256"]] = ["the file is empty", None]
    a, b = write(tmp_path / "a.parquet", broken), write(tmp_path / "b.parquet", rows([0.0, 0.0, 4.0]))
    row = compare(a, b, SETTINGS)[0]
    assert (row.n, row.left_out, row.wins, row.losses) == (2, 1, 1, 1)
    summary = summarise(read_scores(a), SETTINGS)
    assert (summary[0].mean, summary[0].n, summary[0].broken) == (2.0, 2, 1)
    printed = summary_markdown(summary, 0.95)
    assert "- 1 broken images have no score and are in no mean; column `problem` says why.\n" in printed


def test_names_in_the_notes_are_no_markup(tmp_path: Path) -> None:
    a, b = (write(tmp_path / f"my_model_{x}.parquet", rows([1.0, 2.0])) for x in "ab")
    compared = comparison_markdown(compare(a, b, SETTINGS), "my_a*", "b|", 0.95)
    assert "- a = my\\_a\\*, b = b\\|; 2 images of 2 prompts. Ties count half.\n" in compared


def test_command_prints_markdown_and_writes_csv(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    a = write(tmp_path / "a.parquet", rows([1.0, 2.0, 0.0, 4.0]))
    b = write(tmp_path / "b.parquet", rows([0.0, 1.0, 0.0, 5.0]))
    out = tmp_path / "c.csv"
    assert cli.main(["compare", str(a), str(b), "--out", str(out), "--confidence", "0.9"]) == 0
    printed = capsys.readouterr().out
    assert "| clip   | sdpo     | 0.625 [" in printed
    assert "a − b [90%] |" in printed and "say nothing of training again" in printed
    with out.open() as file:
        row = next(csv.DictReader(file))
    assert (row["scorer"], row["wins"], row["ties"], row["win_rate"]) == ("clip", "2", "1", "0.625")
    assert cli.main(["compare", str(a)]) == 2
    assert "1 files given; expected A.parquet B.parquet, or --spec" in capsys.readouterr().err


def test_where_low_is_good_the_lower_score_wins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("evals.tables.folder_tables.lower_is_better", lambda name: name == "clip")
    a, b = (write(tmp_path / f"{x}.parquet", rows([x == "b", x == "b", 0.0])) for x in "ab")
    (row,) = compare(a, b, SETTINGS)
    assert (row.wins, row.ties, row.losses) == (2, 1, 0)
    assert row.mean_difference == pytest.approx(-2 / 3)
    assert "Lower is better for clip" in comparison_markdown([row], "a", "b", 0.95)


def test_summary_says_how_many_prompts_were_cut() -> None:
    table = rows([1.0, 2.0, 3.0, 4.0], "imagereward", ["a", "a", "b", "c"], truncated=[True, True, False, True])
    (row,) = summarise(table, SETTINGS)
    assert row.truncated == 2
    assert "only the beginning: imagereward 2 of 3." in summary_markdown([row], 0.95)


def test_scorers_that_describe_are_no_tests_to_correct_for(tmp_path: Path) -> None:
    scores = {"clip": [1.0] * 6, "hpsv2": [1.0] * 5 + [-1.0], "jpeg_size": [1.0] * 6, "blank": [0.0] * 6}
    a = write(tmp_path / "a.parquet", *(rows(values, name) for name, values in scores.items()))
    b = write(tmp_path / "b.parquet", *(rows([0.0] * 6, name) for name in scores))
    compared = compare(a, b, SETTINGS)
    found = {row.scorer: row for row in compared}
    assert found["clip"].p_value is not None
    assert found["clip"].p_holm == pytest.approx(2 * found["clip"].p_value)
    for name in ("jpeg_size", "blank"):
        assert (found[name].win_rate, found[name].p_holm, found[name].difference_p_holm) == (None, None, None)
    assert found["jpeg_size"].mean_difference == 1.0
    printed = comparison_markdown(compared, "a", "b", 0.95)
    assert "jpeg\\_size, blank: no judgement, so nothing wins or is tested." in printed


def test_prompts_are_equal_whatever_unicode_makes_of_them(tmp_path: Path) -> None:
    prompts = ["caf\u00e9", "cafe\u0301 ", "a disc"]
    a, b = (write(tmp_path / f"{x}.parquet", rows([x == "a", 0.0, 0.5], prompts=prompts)) for x in "ab")
    assert compare(a, b, SETTINGS)[0].prompts == 2
    assert summarise(read_scores(a), SETTINGS)[0].prompts == 2


def test_many_images_of_one_prompt_say_nothing_of_other_prompts(tmp_path: Path) -> None:
    a, b = (write(tmp_path / f"{x}.parquet", rows([x == "a", 0.7, 0.8], prompts=["one"] * 3)) for x in "ab")
    (row,) = compare(a, b, SETTINGS)
    assert (row.difference_ci_low, row.difference_ci_high, row.difference_p_value) == (-np.inf, np.inf, 1.0)
    assert "[" not in comparison_markdown([row], "a", "b", 0.95).splitlines()[2].split("|")[8]
    assert "inf" not in summary_markdown(summarise(read_scores(a), SETTINGS), 0.95)


def test_a_win_rate_that_is_decided_is_printed_as_decided(tmp_path: Path) -> None:
    """2070 of 4000 prompts won: the interval ends above one half by less than a thousandth."""
    scores = np.concatenate([np.ones(2063), -np.ones(1937)])
    a, b = write(tmp_path / "a.parquet", rows(scores)), write(tmp_path / "b.parquet", rows(0 * scores))
    (row,) = compare(a, b, SETTINGS)
    assert row.win_rate_ci_low is not None and 0.5 < row.win_rate_ci_low < 0.5005
    printed = comparison_markdown([row], "a", "b", 0.95)
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
    (row,) = compare(write(tmp_path / "a.parquet", a), write(tmp_path / "b.parquet", b), SETTINGS)
    assert (row.n, row.prompts, row.mean_difference) == (4, 2, 2.5)
