from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from artifacts.atomic import tree_sha256
from artifacts.contracts import read_table
from artifacts.errors import InputError
from sdpo import pairs
from sdpo.bases import open_base
from sdpo.pairs import Pair, cache

CacheSpec = Callable[..., dict[str, Any]]
COLOURS = ["red", "green", "blue", "white", "black", "orange", "purple", "yellow"]


def plain(colour: str) -> Image.Image:
    return Image.new("RGB", (32, 32), colour)


@pytest.fixture
def plain_pairs(monkeypatch: pytest.MonkeyPatch) -> list[Pair]:
    """First wins, tie, second wins, second wins (held out); three prompts, images that tell themselves apart."""
    rows = [("a", 1.0, "train"), ("b", 0.5, "train"), ("b", 0.0, "train"), ("c", 0.0, "heldout")]
    chosen = [
        Pair(prompt, (plain(COLOURS[2 * i]), plain(COLOURS[2 * i + 1])), label, split)
        for i, (prompt, label, split) in enumerate(rows)
    ]
    monkeypatch.setattr(pairs, "read", lambda source, options, *, base_path: iter(chosen))
    return chosen


def of(loaded: cache.Pairs) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Latents of all winners and losers, embeddings of their prompts."""
    rows = torch.arange(len(loaded))
    return loaded.winners(rows).latents.mean, loaded.losers(rows).latents.mean, loaded.prompts(rows)["text"]


@pytest.mark.parametrize("shard_pairs", [4096, 2])
def test_winner_comes_first_and_ties_are_not_trained_on(
    plain_pairs: list[Pair],
    cache_spec: CacheSpec,
    base_path: Path,
    tmp_path: Path,
    shard_pairs: int,
) -> None:
    cache.build({**cache_spec(tmp_path / "cache"), "encoding": {"shard_pairs": shard_pairs}})
    base = open_base("miniature", base_path)
    latents = base.encode_images([plain(colour) for colour in COLOURS]).mean
    train, heldout = (cache.load(tmp_path / "cache", split) for split in ("train", "heldout"))

    winner, loser, prompts = of(train)
    torch.testing.assert_close(winner, latents[[0, 5]], atol=1e-5, rtol=0)
    torch.testing.assert_close(loser, latents[[1, 4]], atol=1e-5, rtol=0)
    torch.testing.assert_close(of(heldout)[0], latents[[7]], atol=1e-5, rtol=0)
    torch.testing.assert_close(of(heldout)[1], latents[[6]], atol=1e-5, rtol=0)
    assert (latents[0] - latents[1]).abs().max() > 1e-3

    texts = base.encode_prompts(["a", "b", ""])["text"]
    torch.testing.assert_close(prompts, texts[[0, 1]], atol=1e-5, rtol=0)
    some_empty = train.prompts(torch.tensor([1, 0]), torch.tensor([False, True]))["text"]
    torch.testing.assert_close(some_empty, texts[[1, 2]], atol=1e-5, rtol=0)

    index = read_table(tmp_path / "cache" / "index.parquet", "pairs_index")
    assert index["pair_id"].tolist() == [0, 1, 2, 3]
    assert index["label"].tolist() == [1, 0.5, 1, 1]
    assert index["winner_image"].tolist() == [0, -1, 2, 4]
    assert index["loser_image"].tolist() == [1, -1, 3, 5]
    assert len(list((tmp_path / "cache").glob("shard-*"))) == (1 if shard_pairs > 4 else 2)
    counts = json.loads((tmp_path / "cache" / "cache.json").read_text())["counts"]
    assert counts == {"pairs": 4, "ties": 1, "train": 2, "heldout": 1, "images": 6, "prompts": 3}


def test_same_seed_makes_the_same_cache_and_another_seed_another(
    cache_spec: CacheSpec, pair_cache: Path, tmp_path: Path
) -> None:
    cache.build(cache_spec(tmp_path / "again"))
    cache.build(cache_spec(tmp_path / "other", seed=1))
    for name in ("shard-00000.safetensors", "index.parquet"):
        assert (tmp_path / "again" / name).read_bytes() == (pair_cache / name).read_bytes()
        assert (tmp_path / "other" / name).read_bytes() != (pair_cache / name).read_bytes()
    # When it was built does not show in the digest that trainings are kept under.
    assert (tmp_path / "again" / "cache.json").read_bytes() != (pair_cache / "cache.json").read_bytes()
    assert cache.content_sha256(tmp_path / "again") == cache.content_sha256(pair_cache)
    assert cache.content_sha256(tmp_path / "other") != cache.content_sha256(pair_cache)


def test_description_names_the_base_and_the_options(cache_spec: CacheSpec, pair_cache: Path, base_path: Path) -> None:
    described = json.loads((pair_cache / "cache.json").read_text())
    assert described["provenance"]["inputs"] == {str(base_path): tree_sha256(base_path)}
    assert described["provenance"]["spec"]["options"] == cache_spec(Path("x"))["options"]
    assert set(described["files"]) == {"shard-00000.safetensors", "index.parquet"}
    # Every held-out row is one of the last 8 pairs.
    index = read_table(pair_cache / "index.parquet", "pairs_index")
    assert index.loc[index["split"] == "heldout", "pair_id"].tolist() == list(range(32, 40))
    assert 0 < described["counts"]["ties"] < 40


def test_cache_of_ties_alone_is_refused_and_leaves_nothing(cache_spec: CacheSpec, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="pairs 'renders': no pair with a winner in the train split"):
        cache.build(cache_spec(tmp_path / "cache", tie_below=2, pairs=10, heldout=2))
    assert list(tmp_path.iterdir()) == []


def test_empty_split_is_refused(cache_spec: CacheSpec, tmp_path: Path) -> None:
    cache.build(cache_spec(tmp_path / "cache", heldout=0))
    with pytest.raises(InputError, match="split 'heldout' has no pair with a winner"):
        cache.load(tmp_path / "cache", "heldout")


def test_missing_shard_is_named(cache_spec: CacheSpec, tmp_path: Path) -> None:
    cache.build(cache_spec(tmp_path / "cache", pairs=12, heldout=4, tie_below=0))
    (tmp_path / "cache" / "shard-00000.safetensors").unlink()
    with pytest.raises(InputError, match=r"shard-00000.safetensors: missing or damaged; delete .*cache"):
        cache.load(tmp_path / "cache", "train")


@pytest.mark.parametrize("label", [-1, 0.25, 2])
def test_label_must_be_one_of_three(label: float) -> None:
    with pytest.raises(ValueError, match=r"label is .*, expected one of 0, 0.5, 1"):
        Pair("a", (plain("red"), plain("blue")), label, "train")


def test_split_must_be_known() -> None:
    with pytest.raises(ValueError, match="split is 'test', expected train or heldout"):
        Pair("a", (plain("red"), plain("blue")), 1.0, "test")


SOURCE = """
from PIL import Image
from sdpo.pairs import Pair
def read(options, *, base_path):
    images = Image.new("RGB", (32, 32), "red"), Image.new("RGB", (32, 32), "blue")
    yield Pair("a", images, 1, "train")
    yield WHAT
"""


@pytest.mark.parametrize(
    ("what", "message"),
    [
        ("{}['vote']", r"fails: KeyError: 'vote' \(.*plug_in_0_own\.py, line 7\)"),
        ("Pair('a', [Image.open('no.png')] * 2, 1, 'train')", r"fails: FileNotFoundError: .*'no\.png' \(.*line 7\)"),
        ("Pair('a', images, '1', 'train')", r"fails: ValueError: .*label is '1', expected one of 0, 0\.5, 1 .*line 7"),
        ("Pair('a', (*images, images[0]), 1, 'train')", r"images are Image, Image, Image; expected two .*line 7\)"),
        ("Pair('a', ('a.png', 'b.png'), 1, 'train')", r"images are str, str; expected two images of Pillow .*line 7\)"),
        ("Pair(None, images, 1, 'train')", r"pair of prompt None: expected a text .*line 7\)"),
        ("('a', images, 1, 'train')", r"fails: TypeError: pair 1, from 0, is \('a', .*, expected sdpo\.pairs\.Pair"),
    ],
)
def test_where_the_code_of_a_source_of_one_s_own_is_wrong_is_said(
    plug_in: Callable[..., str], cache_spec: CacheSpec, tmp_path: Path, what: str, message: str
) -> None:
    plug_in("sdpo.pair_sources", "own", SOURCE.replace("WHAT", what))
    with pytest.raises(InputError, match=f"pairs 'renders': source 'own' .*{message}"):
        cache.build({**cache_spec(tmp_path / "cache"), "source": "own", "options": {}})
