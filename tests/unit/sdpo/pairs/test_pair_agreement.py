"""Pairs that say nothing or contradict others: what the cache lists of them, whatever the source."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from artifacts.atomic import write_text
from artifacts.contracts import read_table
from artifacts.errors import InputError
from sdpo import pairs
from sdpo.pairs import Pair, cache
from sdpo.pairs.cache.agreement import listed
from sdpo.pairs.cache.shard_writing import Row

TEXTS = ["", "h", " H\t", "other"]


def won(winner: int, loser: int, prompt: int = 1, split: str = "train") -> Row:
    return Row(prompt, winner, loser, 1.0, split, number=0)


def tied(prompt: int = 1, split: str = "train") -> Row:
    return Row(prompt, -1, -1, 0.5, split, number=0)


def test_the_majority_stays_and_a_draw_is_a_tie() -> None:
    rows = [won(0, 1), won(1, 0, prompt=2), won(0, 1), won(2, 3), won(3, 2), won(4, 5), won(4, 5), won(3, 2, prompt=3)]
    found = listed(rows, TEXTS)
    # Pictures 0 and 1: two against one, where `h` and ` H` are one prompt. 2 and 3: a draw, but not for another prompt.
    assert found.rows == [rows[0], rows[2], tied(), tied(), rows[5], rows[6], rows[7]]
    assert found.counts == {"outvoted": 1, "undecided": 2}
    assert found.lines[0] == ("1 × left out, since most judged the same two pictures the other way: ' H\\t' (pair 1)")
    assert "2 × listed as ties" in found.lines[1]


def test_order_of_the_pairs_does_not_matter() -> None:
    rows = [won(5, 2), won(2, 5), won(2, 5), won(7, 1), won(1, 7)]
    kept = listed(rows, TEXTS).rows
    for seed in range(5):
        order = np.random.default_rng(seed).permutation(len(rows))
        again = listed([rows[i] for i in order], TEXTS).rows
        assert sorted(map(str, again)) == sorted(map(str, kept))


def test_ties_and_other_splits_do_not_vote() -> None:
    rows = [won(0, 1), tied(), won(1, 0, prompt=3, split="heldout")]
    assert listed(rows, TEXTS).rows == rows
    assert listed(rows, TEXTS).counts == {}


def test_same_pictures_are_left_out() -> None:
    rows = [won(-1, -1), won(0, 1), tied()]
    found = listed(rows, TEXTS)
    assert (found.rows, found.counts) == (rows[1:], {"same_picture": 1})


def test_prompts_that_are_held_out_are_not_trained_on() -> None:
    rows = [won(0, 1, prompt=1), won(2, 3, prompt=2, split="heldout"), won(4, 5, prompt=3), tied(prompt=1)]
    found = listed(rows, TEXTS)
    assert (found.rows, found.counts) == ([rows[1], rows[2]], {"prompt_also_held_out": 2})
    # Where all pairs have one prompt it tells nothing apart.
    assert listed(rows[:2], TEXTS).rows == rows[:2]


def test_many_are_said_by_their_first() -> None:
    (line,) = listed([won(-1, -1)] * 5 + [won(0, 1)], TEXTS).lines
    assert line == (
        "5 × left out, since winner and loser are the same picture: 'h' (pair 0), 'h' (pair 1), 'h' (pair 2), …"
    )


def picture(number: int) -> Image.Image:
    return Image.fromarray(np.random.default_rng(number).integers(0, 256, (32, 32, 3), dtype=np.uint8))


def own_spec(folder: Path, base_path: Path, **encoding: Any) -> dict[str, Any]:
    return {
        "stage_version": 1,
        "dataset": "own",
        "source": "folder",
        "options": {"path": str(folder), "ties": "keep"},
        "encoding": encoding,
        "base": {"name": "mini", "family": "miniature", "path": str(base_path)},
        "out": str(folder / "cache"),
    }


@pytest.mark.parametrize("shard_pairs", [1, 4096])
def test_a_folder_of_ones_own(
    tmp_path: Path, base_path: Path, shard_pairs: int, capsys: pytest.CaptureFixture[str]
) -> None:
    """The same picture in two files, of which one is RGBA in another format; and votes over files of other names."""
    for number in range(1, 5):
        picture(number).save(tmp_path / f"{number}.png")
    copy = picture(1)
    copy.putalpha(255)
    copy.save(tmp_path / "one.tiff")
    rows = [
        {"prompt": "a cat", "winner": "1.png", "loser": "one.tiff"},
        {"prompt": "a cat", "winner": "1.png", "loser": "2.png"},
        {"prompt": "A  cat ", "winner": "2.png", "loser": "one.tiff"},
        {"prompt": "a cat", "winner": "3.png", "loser": "4.png"},
        {"prompt": "a dog", "winner": "2.png", "loser": "1.png", "split": "heldout"},
        {"prompt": "A dog", "winner": "3.png", "loser": "1.png"},
    ]
    write_text(tmp_path / "pairs.jsonl", "\n".join(map(json.dumps, rows)))
    cache.build(own_spec(tmp_path, base_path, shard_pairs=shard_pairs))
    index = read_table(tmp_path / "cache" / "index.parquet", "pairs_index")
    kept = list(zip(index["prompt"], index["label"], index["split"], strict=True))
    assert kept == [
        ("a dog", 1.0, "heldout"),
        ("a cat", 0.5, "train"),
        ("A  cat ", 0.5, "train"),
        ("a cat", 1.0, "train"),
    ]
    about = json.loads((tmp_path / "cache" / "cache.json").read_text())
    assert about["left_out"] == {"same_picture": 1, "undecided": 2}
    assert about["counts"] == {"pairs": 4, "ties": 2, "train": 1, "heldout": 1, "images": 4, "prompts": 3}
    err = capsys.readouterr().err
    assert "skipped: 1 × prompt also held out" in err
    assert "warning: pairs 'own': 1 × left out, since winner and loser are the same picture: 'a cat' (pair 1)" in err
    assert len(cache.load(tmp_path / "cache", "train")) == 1


def test_pictures_that_differ_only_outside_the_crop_are_the_same(tmp_path: Path, base_path: Path) -> None:
    wide = Image.new("RGB", (64, 32), "red")
    other = wide.copy()
    other.paste("blue", (0, 0, 8, 32))
    for name, image in (("1", wide), ("2", other), ("3", picture(3))):
        image.save(tmp_path / f"{name}.png")
    rows = [{"prompt": "a", "winner": "1.png", "loser": n} for n in ("2.png", "3.png")]
    rows.append({"prompt": "b", "winner": "1.png", "loser": "3.png", "split": "heldout"})
    write_text(tmp_path / "pairs.jsonl", "\n".join(map(json.dumps, rows)))
    cache.build(own_spec(tmp_path, base_path, resolution=32))
    assert json.loads((tmp_path / "cache" / "cache.json").read_text())["left_out"] == {"same_picture": 1}


def test_nothing_left_to_train_on_says_why(tmp_path: Path, base_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where a source of one's own makes the splits."""
    given = [Pair(text, (picture(1), picture(2)), 1.0, split) for text, split in (("x", "train"), ("X", "heldout"))]
    given.append(Pair("y", (picture(1), picture(2)), 1.0, "heldout"))
    monkeypatch.setattr(pairs, "read", lambda source, options, *, base_path: iter(given))
    with pytest.raises(InputError, match=r"no pair with a winner in the train split \(1 × left out of training, since"):
        cache.build(own_spec(tmp_path, base_path))


def test_stored_images_do_without_prompts_of_pairs_that_are_left_out(
    tmp_path: Path, base_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch

    from sdpo.bases import open_base

    given = [
        Pair("alone", (picture(1), picture(1)), 1.0, "train"),
        Pair("a red square", (picture(1), picture(2)), 1.0, "train"),
    ]
    monkeypatch.setattr(pairs, "read", lambda source, options, *, base_path: iter(given))
    cache.build(own_spec(tmp_path, base_path, store="images"))
    base = open_base("miniature", base_path)
    loaded = cache.load(tmp_path / "cache", "train", base=base)
    expected = base.encode_prompts(["a red square"])["text"]
    torch.testing.assert_close(loaded.prompts(torch.tensor([0]))["text"], expected)
