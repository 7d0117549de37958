"""Labels that are turned round on purpose: which, and what becomes of them in a cache."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from artifacts.contracts import read_table
from artifacts.errors import InputError
from sdpo import pairs
from sdpo.pairs import Pair, cache
from sdpo.pairs.cache import shard_writing
from sdpo.pairs.cache.reading import description as description_of
from sdpo.pairs.label_noise import LabelNoise

CacheSpec = Callable[..., dict[str, Any]]
COUNT, HELD_OUT, TIES = 24, 6, (6, 7)


@pytest.fixture
def source(monkeypatch: pytest.MonkeyPatch) -> list[Pair]:
    """The first six held out, then two ties; of the others the first image wins, or in every third pair the second."""

    def picture(number: int) -> Image.Image:
        return Image.fromarray(np.random.default_rng(number).integers(0, 256, (32, 32, 3), dtype=np.uint8))

    made = [
        Pair(
            f"prompt {i}",
            (picture(2 * i), picture(2 * i + 1)),
            0.5 if i in TIES else float(i % 3 > 0),
            "heldout" if i < HELD_OUT else "train",
        )
        for i in range(COUNT)
    ]
    monkeypatch.setattr(pairs, "read", lambda source, options, *, base_path: iter(made))
    return made


def built(cache_spec: CacheSpec, folder: Path, **keys: Any) -> list[tuple[int, int]]:
    """Numbers of winner and loser of each pair, by the order in which the pictures come in the source."""
    cache.build({**cache_spec(folder), **keys})
    index = read_table(folder / "index.parquet", "pairs_index")
    assert index["label"].tolist() == [0.5 if i in TIES else 1.0 for i in range(COUNT)]
    return list(zip(index["winner_image"].tolist(), index["loser_image"].tolist(), strict=True))


def test_the_share_is_that_of_the_draws_and_a_smaller_one_is_part_of_a_larger() -> None:
    found = [{i for i in range(20000) if LabelNoise(share, 3).flips(i)} for share in (0.0, 0.1, 0.3, 0.5)]
    # Four standard deviations of a share of ½.
    assert [len(x) / 20000 for x in found] == pytest.approx([0.0, 0.1, 0.3, 0.5], abs=0.015)
    assert found[0] < found[1] < found[2] < found[3]
    other = {i for i in range(20000) if LabelNoise(0.3, 4).flips(i)}
    assert len(other & found[2]) / 20000 == pytest.approx(0.09, abs=0.01)


def test_only_training_pairs_with_a_winner_are_turned_round(
    source: list[Pair], cache_spec: CacheSpec, tmp_path: Path
) -> None:
    noise = LabelNoise(0.5, 1)
    applied = list(noise.applied(iter([Pair(**{**vars(p), "number": i}) for i, p in enumerate(source)])))
    turned = [i for i, (one, two) in enumerate(zip(source, applied, strict=True)) if one.label != two.label]
    assert turned == [i for i in range(HELD_OUT, COUNT) if i not in TIES and noise.flips(i)]
    assert 0 < len(turned) < COUNT - HELD_OUT - len(TIES)
    assert all(applied[i].label == 1 - source[i].label and applied[i].images == source[i].images for i in turned)

    built(cache_spec, tmp_path / "clean")
    built(cache_spec, tmp_path / "noisy", flipped=0.5, flip_seed=1)
    clean, noisy = (cache.load(tmp_path / name, "train") for name in ("clean", "noisy"))
    held_out = [cache.load(tmp_path / name, "heldout") for name in ("clean", "noisy")]
    every = torch.arange(len(clean))
    won = [side.winners(every).latents.mean for side in (clean, noisy)]
    lost = [side.losers(every).latents.mean for side in (clean, noisy)]
    trained = [i for i in range(HELD_OUT, COUNT) if i not in TIES]
    for row, number in enumerate(trained):
        same, swapped = torch.equal(won[0][row], won[1][row]), torch.equal(won[0][row], lost[1][row])
        assert (same, swapped) == (number not in turned, number in turned)
    few = torch.arange(HELD_OUT)
    assert torch.equal(*(side.winners(few).latents.mean for side in held_out))

    description = description_of(tmp_path / "noisy")
    assert description["counts"]["flipped"] == len(turned)
    assert description["provenance"]["spec"]["flipped"] == 0.5
    assert cache.label_noise(tmp_path / "noisy") == {"flipped": 0.5}
    assert cache.label_noise(tmp_path / "clean") == {}
    assert "flipped" not in description_of(tmp_path / "clean")["counts"]


def test_a_build_that_goes_on_turns_the_same_pairs_round(
    source: list[Pair], cache_spec: CacheSpec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    keys: dict[str, Any] = {"flipped": 0.4, "encoding": {"shard_pairs": 5}}
    whole = built(cache_spec, tmp_path / "whole", **keys)
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        write = shard_writing.write

        def dies(folder: Path, at: int, *rest: Any) -> Any:
            if at == 2:
                raise KeyboardInterrupt
            return write(folder, at, *rest)

        patch.setattr(shard_writing, "write", dies)
        built(cache_spec, tmp_path / "broken", **keys)
    assert built(cache_spec, tmp_path / "broken", **keys) == whole
    one, two = (cache.content_sha256(tmp_path / name) for name in ("whole", "broken"))
    assert one == two
    other = built(cache_spec, tmp_path / "other", **{**keys, "flip_seed": 9})
    assert cache.content_sha256(tmp_path / "other") != one
    assert len(other) == len(whole)


@pytest.mark.parametrize("share", [0.6, -0.1])
def test_more_than_half_is_refused(share: float, cache_spec: CacheSpec, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"flipped = .*expected a number of at (most 0\.5|least 0)"):
        cache.build({**cache_spec(tmp_path / "cache"), "flipped": share})
