"""Several images a prompt: the prompt is one unit, its score is their mean."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from artifacts import layout
from artifacts.contracts import read_table, write_table
from artifacts.errors import InputError
from evals import cli
from evals.tables import made_with, write_tables
from evals.tables.comparison import ComparedModel, Comparison, Statistics
from evals.tables.matrices import read_matrices
from evals.tables.merging import merge
from evals.tables.rows import CategoryRow, DifferenceRow, ScoreRow, WinRateRow, read_rows
from evals.tables.sources import read
from evals.tables.table_notes import images_note

CATEGORIES = {"tags": ["one", "one", "two", "two"], "plain": ["", ""]}


def benchmark(root: Path, images: int, scores: dict[tuple[str, str], np.ndarray]) -> Comparison:
    """The base and one model from elsewhere; ``scores`` of a model and set have a row an image of its prompts."""
    models = [ComparedModel(name=f"mini/{name}", base="mini", variant=name) for name in ("base", "mine")]
    comparison = Comparison("toy", root, tuple(models), tuple(CATEGORIES), {"pickscore": "sdpo"}, Statistics())
    comparison = replace(comparison, images_per_prompt={"tags": images} if images > 1 else {})
    for name, categories in CATEGORIES.items():
        ids = [f"{name}-{index:05d}" for index in range(len(categories))]
        prompts = pd.DataFrame({"prompt_id": ids, "prompt": ids, "category": categories, "source": "test"})
        write_table(layout.prompts(root, name), prompts, "prompts")
        for model in models:
            found = scores[model.variant, name]
            rows = [(name, i, value) for i, row in enumerate(found) for name, value in zip(ids, row, strict=True)]
            frame = pd.DataFrame(rows, columns=["prompt_id", "image", "score"])
            frame["truncated"], frame["fingerprint"], frame["protocol"] = False, "f", "sdpo"
            frame["image_sha256"] = [f"{model.name} {key} {image}" for key, image, _ in rows]
            # Pairing goes by prompt and number, and not by the order of a file.
            write_table(layout.scores(root, "pickscore", model.name, name), frame.iloc[::-1], "scores")
    return comparison


def accuracies(images: int = 4) -> dict[tuple[str, str], np.ndarray]:
    """Right or wrong: of the four prompts mine has all, 3, 2 and no images right, the base 1 of each."""
    mine = np.array([[1, 1, 1, 0], [1, 1, 1, 0], [1, 1, 0, 0], [1, 0, 0, 0]], dtype=float)
    base = np.array([[1, 1, 1, 1], [0, 0, 0, 0], [0, 0, 0, 0], [0, 0, 0, 0]], dtype=float)
    plain = {("mine", "plain"): np.array([[1.0, 2.0]]), ("base", "plain"): np.array([[0.0, 3.0]])}
    return {("mine", "tags"): mine[:images], ("base", "tags"): base[:images], **plain}


def row(table, root: Path, prompt_set: str, **key: str):  # type: ignore[no-untyped-def]
    name = {ScoreRow: "scores", WinRateRow: "win_rates", DifferenceRow: "differences"}[table]
    rows = read_rows(root / "tables" / f"{name}.csv", table)
    (found,) = (r for r in rows if r.prompt_set == prompt_set and all(getattr(r, k) == v for k, v in key.items()))
    return found


def test_a_prompt_is_one_unit_and_its_images_are_won_one_by_one(tmp_path: Path) -> None:
    comparison = benchmark(tmp_path, 4, accuracies())
    write_tables(comparison)
    # Means of prompts are 1, 0.75, 0.5 and 0; n counts prompts, not 16 images.
    mine = row(ScoreRow, tmp_path, "tags", variant="mine", seed="all")
    assert (mine.mean, mine.n) == (0.5625, 4)
    difference = row(DifferenceRow, tmp_path, "tags")
    assert (difference.mean_difference, difference.n_prompts, difference.n_texts) == (0.3125, 4, 4)
    # Image against image of the same noise: three, two and one won, one lost, nine equal.
    won = row(WinRateRow, tmp_path, "tags")
    assert (won.wins, won.ties, won.losses) == (6, 9, 1)
    assert won.win_rate == pytest.approx((7 / 8 + 6 / 8 + 5 / 8 + 3 / 8) / 4)
    # Three prompts are ahead and one behind, by the sign test one in... 2 * 5/16 = 0.625.
    assert won.p_these_models == pytest.approx(0.625)
    by_tag = {r.category: (r.mean_a, r.mean_b) for r in read_rows(tmp_path / "tables" / "categories.csv", CategoryRow)}
    assert by_tag == {"one": (0.875, 0.25), "two": (0.25, 0.25)}
    assert made_with(tmp_path).comparison.images_per_prompt == {"tags": 4}
    note = "Images a prompt: tags 4. A prompt is one unit: its score is the mean of its images"
    assert note in (tmp_path / "tables" / "main.md").read_text()


def test_pooled_sets_count_prompts_whatever_their_images(tmp_path: Path) -> None:
    write_tables(benchmark(tmp_path, 4, accuracies()))
    won = row(WinRateRow, tmp_path, "all")
    # Four prompts of `tags` and two of `plain`, of which mine wins one and loses one.
    assert won.win_rate == pytest.approx((7 / 8 + 6 / 8 + 5 / 8 + 3 / 8 + 1 + 0) / 6)
    assert (won.wins, won.ties, won.losses) == (7, 9, 2)
    difference = row(DifferenceRow, tmp_path, "all")
    assert difference.mean_difference == pytest.approx((0.75 + 0.5 + 0.25 - 0.25 + 1 - 1) / 6)
    assert difference.n_prompts == 6


def test_intervals_are_those_of_the_prompts_means(tmp_path: Path) -> None:
    """Sixteen images of four prompts are four draws."""
    write_tables(benchmark(tmp_path / "images", 4, accuracies()))
    means = {key: found.mean(axis=0, keepdims=True) for key, found in accuracies().items()}
    write_tables(benchmark(tmp_path / "means", 1, means))
    found, expected = (row(DifferenceRow, tmp_path / name, "tags") for name in ("images", "means"))
    assert (found.ci_low, found.ci_high, found.p_value) == (expected.ci_low, expected.ci_high, expected.p_value)
    # Where images of a prompt are copies of one another, the win rate is that of one of them.
    copies = {key: np.repeat(found[:1], 4 if key[1] == "tags" else 1, axis=0) for key, found in accuracies().items()}
    write_tables(benchmark(tmp_path / "copies", 4, copies))
    write_tables(benchmark(tmp_path / "one", 1, {key: found[:1] for key, found in copies.items()}))
    four, one = (row(WinRateRow, tmp_path / name, "tags") for name in ("copies", "one"))
    assert (four.win_rate, four.ci_low, four.ci_high) == (one.win_rate, one.ci_low, one.ci_high)
    assert (four.wins, one.wins) == (0, 0) and (four.losses, one.losses) == (4, 1)


def test_score_files_have_as_many_images_as_the_config_says(tmp_path: Path) -> None:
    comparison = benchmark(tmp_path, 4, accuracies())
    with pytest.raises(InputError, match="has image 3 of prompt_id 'tags-00003', expected 1 of each prompt"):
        read_matrices(replace(comparison, images_per_prompt={}))
    with pytest.raises(InputError, match="has 4 of 5 images of each prompt"):
        read_matrices(replace(comparison, images_per_prompt={"tags": 5}))
    path = layout.scores(tmp_path, "pickscore", "mini/mine", "tags")
    frame = read_table(path, "scores")
    write_table(path, frame[(frame["image"] != 2) | (frame["prompt_id"] != "tags-00001")], "scores")
    with pytest.raises(InputError, match=r"prompt_id 'tags-00001' of .* is missing"):
        read_matrices(comparison)


def test_benchmarks_with_several_images_are_compared_image_by_image(tmp_path: Path) -> None:
    for name in ("one", "other"):
        write_tables(benchmark(tmp_path / name, 4, accuracies()))
    merged = merge([read(tmp_path / "one"), read(tmp_path / "other")], Statistics())
    assert merged.comparison.images_per_prompt == {"tags": 4}
    # Nobody knows what the images of another benchmark started from.
    assert images_note(merged.comparison).endswith("pairs of images in their order.")
    assert images_note(read(tmp_path / "one").comparison).endswith("pairs of images from the same start noise.")
    assert {found.shape for found in merged.matrices.images.values()} == {(1, 4, 4)}
    write_tables(benchmark(tmp_path / "fewer", 2, accuracies(2)))
    with pytest.raises(InputError, match=r"fewer: has 2 images a prompt of 'tags', .*one has 4; draw as many"):
        merge([read(tmp_path / "one"), read(tmp_path / "fewer")], Statistics())


def folder_of(path: Path, images: dict[str, int], benchmark: Path) -> Path:
    """Scores of a folder with so many images of each text, as comparable to the benchmark's."""
    names = [(f"{text}_{image}.png", text) for text, count in images.items() for image in range(count)]
    table = pd.DataFrame(names, columns=["file", "prompt"]).assign(
        scorer="pickscore", protocol="sdpo", score=np.arange(len(names), dtype=float), truncated=False
    )
    fingerprint = read(benchmark).matrices.fingerprints["pickscore"]
    table = table.assign(image_sha256="0", fingerprint=fingerprint, problem=None, lower_is_better=False, judges=True)
    write_table(path, table, "folder_scores")
    return path


def test_a_folder_with_more_images_of_a_prompt_is_not_cut_to_the_first(tmp_path: Path) -> None:
    own = tmp_path / "own"
    write_tables(benchmark(own, 1, accuracies(1)))
    prompts = {name: [f"{name}-{i:05d}" for i in range(len(rows))] for name, rows in CATEGORIES.items()}
    more = {**dict.fromkeys(prompts["tags"], 1), "tags-00002": 4, **dict.fromkeys(prompts["plain"], 1)}
    # A text that the benchmark lacks may have as many images as it likes.
    folder = folder_of(tmp_path / "folder.parquet", {**more, "elsewhere": 3}, own)
    for paths in ((own, folder), (folder, own)):
        merged = merge([read(path) for path in paths], Statistics())
        assert merged.comparison.prompt_sets == ("plain",)
        (note,) = merged.notes
        assert note == (
            f"Prompt set tags is left out: {folder} has more images of 'tags-00002' than {own}, and a folder's files "
            "do not say which prompt of the set each is of."
        )
    folder_of(folder, dict.fromkeys([*prompts["tags"], *prompts["plain"]], 4), own)
    with pytest.raises(InputError, match=r"no prompt set in common.*tags is left out: .*has more images of 'tags-0"):
        merge([read(own), read(folder)], Statistics())


def test_a_pair_counts_images_where_wins_are_of_images(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_tables(benchmark(tmp_path, 4, accuracies()))
    assert cli.main(["compare", str(tmp_path)]) == 0
    printed = capsys.readouterr().out
    assert "- 16 images of 4 prompts.\n" in printed
    assert "- 2 images of 2 prompts.\n" in printed
