"""Which pairs of a data set are taken: subsets, held-out prompts, and what options are refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from artifacts.atomic import write_text
from artifacts.errors import InputError
from sdpo import pairs
from sdpo.pairs.reading.options import parse
from sdpo.pairs.sources import folder, pickapic, webdataset

Row = dict[str, Any]


def rows_of(count: int, prompts: int, split: str = "train") -> list[Row]:
    """Pairs that tell themselves apart by the names of their images, which are all the same picture."""
    return [
        {"prompt": f"p{i % prompts}", "winner": "x.png", "loser": f"./{'/' * i}x.png", "split": split}
        for i in range(count)
    ]


def write(path: Path, rows: list[Row]) -> None:
    path.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (8, 8)).save(path / "x.png")
    write_text(path / "pairs.jsonl", "\n".join(map(json.dumps, rows)))


def taken(path: Path, rows: list[Row] | None = None, **options: Any) -> list[tuple[str, str]]:
    """Split and prompt of each pair read."""
    if rows is not None:
        write(path, rows)
    given = {"path": str(path), "heldout_splits": [], **options}
    return [(pair.split, pair.prompt) for pair in pairs.read("folder", given, base_path=Path())]


def chosen(path: Path, rows: list[Row], **options: Any) -> set[str]:
    """Prompts taken, where each pair has its own."""
    return {prompt for _, prompt in taken(path, rows, **options)}


def test_limit_is_exact_stable_and_nested(tmp_path: Path) -> None:
    rows = rows_of(60, 60)
    ten, twenty = chosen(tmp_path, rows, limit=10), chosen(tmp_path, rows, limit=20)
    assert len(ten) == 10
    assert len(twenty) == 20
    assert ten < twenty
    assert ten != {f"p{i}" for i in range(10)}
    # Neither the order of the rows nor how they are spread over files matters.
    assert chosen(tmp_path / "turned", rows[::-1], limit=10) == ten
    write_text(tmp_path / "parts" / "1.jsonl", "\n".join(map(json.dumps, rows[30:])))
    write_text(tmp_path / "parts" / "2.jsonl", "\n".join(map(json.dumps, rows[:30])))
    Image.new("RGB", (8, 8)).save(tmp_path / "parts" / "x.png")
    assert {prompt for _, prompt in taken(tmp_path / "parts", files="*.jsonl", limit=10)} == ten
    assert chosen(tmp_path, rows, limit=10, seed=1) != ten
    assert len(chosen(tmp_path, rows, limit=100)) == 60


def test_limit_counts_pairs_that_can_be_used(tmp_path: Path) -> None:
    rows = rows_of(40, 40)
    for row in rows[::2]:
        row["label"] = 0.5
    assert len(taken(tmp_path, rows, limit=15)) == 15
    # Of equal pairs too, no more are taken than were asked for.
    assert len(taken(tmp_path, [rows[1]] * 9, limit=4)) == 4


def test_ties_that_are_kept_take_nobodys_place(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Of 20 ties and 20 pairs with a winner, 15 are trained on, and the ties among them in the order of the hash."""
    rows = rows_of(40, 40)
    for row in rows[::2]:
        row["label"] = 0.5
    dropped, kept = chosen(tmp_path, rows, limit=15), chosen(tmp_path, rows, limit=15, ties="keep")
    won = {row["prompt"] for row in rows[1::2]}
    assert kept & won == dropped
    assert len(dropped) == 15
    ties = len(kept) - 15
    assert 0 < ties < 20
    assert f"40 rows, 15 pairs to train on, 0 held out, {ties} ties kept; skipped: " in capsys.readouterr().err
    # Where a limit asks for more than there are, nothing is beyond it.
    assert len(chosen(tmp_path, rows, limit=21, ties="keep")) == 40


def test_heldout_share_takes_whole_prompts(tmp_path: Path) -> None:
    rows = rows_of(400, 100)
    found = taken(tmp_path, rows, heldout_share=0.2)
    train, heldout = ({prompt for split, prompt in found if split == part} for part in ("train", "heldout"))
    assert len(found) == 400
    assert train.isdisjoint(heldout)
    assert 10 < len(heldout) < 32
    more = {prompt for split, prompt in taken(tmp_path, rows, heldout_share=0.4) if split == "heldout"}
    assert heldout < more
    limited = taken(tmp_path, rows, heldout_share=0.2, heldout_limit=7, limit=9)
    assert [split for split, _ in limited].count("heldout") == 7
    assert [split for split, _ in limited].count("train") == 9
    assert {prompt for split, prompt in limited if split == "heldout"} <= heldout


def test_prompts_of_a_heldout_split_are_not_trained_on(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = rows_of(20, 10) + rows_of(3, 3, split="test")
    found = taken(tmp_path, rows, heldout_splits=["test"], heldout_limit=1)
    assert [split for split, _ in found] == ["heldout"] + ["train"] * 14
    assert {prompt for split, prompt in found if split == "train"} == {f"p{i}" for i in range(3, 10)}
    err = capsys.readouterr().err
    assert "23 rows, 14 pairs to train on, 1 held out; skipped: 2 × beyond the limit, 6 × prompt also" in err


SPELLINGS = ["h\u00e9", "H\u00e9", " h\u00e9\t", "he\u0301", "HE\u0301 "]


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_one_prompt_in_several_spellings_is_in_one_split(tmp_path: Path, spelling: str) -> None:
    rows = [{**row, "prompt": text} for row, text in zip(rows_of(6, 6), [*SPELLINGS, "he"], strict=True)]
    held = [{**row, "prompt": spelling} for row in rows_of(1, 1, split="test")]
    assert taken(tmp_path, rows + held, heldout_splits=["test"]) == [("heldout", spelling), ("train", "he")]
    several = [{**row, "prompt": f"{text} {i}"} for i in range(20) for row, text in zip(rows, SPELLINGS, strict=False)]
    split = taken(tmp_path, several, heldout_share=0.5)
    parts = {part: {text.split()[-1] for name, text in split if name == part} for part in ("train", "heldout")}
    assert len(split) == 100
    assert not parts["train"] & parts["heldout"]
    assert all(parts.values())


def test_several_train_splits(tmp_path: Path) -> None:
    rows = rows_of(2, 2, "one") + rows_of(3, 3, "two") + rows_of(4, 4, "three")
    assert len(taken(tmp_path, rows, train_splits=["one", "two"], left_out_splits=["three"])) == 5


def test_a_split_that_no_list_names_is_refused(tmp_path: Path) -> None:
    rows = rows_of(2, 2) + rows_of(1, 1, "Train")
    with pytest.raises(InputError, match=r"pairs\.jsonl, line 3: split is 'Train', expected one of train, .*'train'\?"):
        taken(tmp_path, rows, heldout_splits=[], left_out_splits=["other"])


def test_nothing_held_out_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no pair with a winner to hold out: 3 rows, 3 pairs to train on, 0 held out"):
        taken(tmp_path, rows_of(3, 3), heldout_splits=["heldout"])
    with pytest.raises(InputError, match="no pair with a winner to hold out"):
        taken(tmp_path, rows_of(3, 3), heldout_share=1e-9)


@pytest.mark.parametrize(
    ("source", "model", "options", "message"),
    [
        ("folder", folder, {}, "path is missing; expected the folder"),
        ("folder", folder, {"path": "x", "limt": 3}, "limt: unknown key: .*did you mean 'limit'"),
        ("folder", folder, {"path": "x", "limit": 0}, "limit = 0: expected a number of at least 1"),
        ("folder", folder, {"path": "x", "limit": "5"}, 'limit = "5": expected an integer'),
        ("folder", folder, {"path": "x", "repo": "a/b"}, "repo: unknown key"),
        ("folder", folder, {"path": "x", "ties": "half"}, 'ties = "half": expected one of drop, keep'),
        (
            "folder",
            folder,
            {"path": "x", "heldout_splits": ["train"]},
            "split 'train' is in train_splits and in heldout",
        ),
        ("pickapic", pickapic, {"path": "x", "train_splits": ["train", "train"]}, "train_splits has 'train' twice"),
        (
            "folder",
            folder,
            {"path": "x", "left_out_splits": ["heldout"]},
            "split 'heldout' is in left_out_splits and would",
        ),
        ("pickapic", pickapic, {}, "expected either path, a folder, or repo"),
        ("pickapic", pickapic, {"path": "x", "repo": "a/b", "revision": "0" * 40}, "expected either path"),
        ("pickapic", pickapic, {"repo": "a/b"}, "expected repo and revision together"),
        ("pickapic", pickapic, {"repo": "a/b", "revision": "main"}, 'revision = "main": expected a commit, 40 hex'),
        ("webdataset", webdataset, {"path": "x", "heldout_splits": ["test"]}, "split 'test': files has no {split}"),
    ],
)
def test_wrong_options(source: str, model: Any, options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=f"pair source '{source}': .*{message}"):
        parse(source, model.Options, options)
