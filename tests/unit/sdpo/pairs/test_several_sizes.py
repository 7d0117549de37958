"""A pair set of images of several sizes: which size a pair comes to, and what the cache holds of it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from artifacts.errors import InputError
from artifacts.image_decoding import to_rgb
from sdpo import pairs
from sdpo.bases import open_base
from sdpo.pairs import Pair, cache
from sdpo.pairs.cache import shard_writing
from sdpo.pairs.cache.images import common_size, fitted, mirrored, prepared
from sdpo.pairs.cache.settings import EncodingSettings

SIZES = [[48, 32], [32, 32], [32, 48]]


def picture(width: int, height: int, seed: int = 0) -> Image.Image:
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8))


@pytest.mark.parametrize(
    ("own", "expected"),
    [
        ([(100, 100), (100, 100)], (32, 32)),
        # 1.25 is nearer to 1.5 than to 1, in ratios: 1.5 / 1.25 = 1.2.
        ([(125, 100), (250, 200)], (48, 32)),
        ([(122, 100), (122, 100)], (32, 32)),
        ([(100, 900), (10, 20)], (32, 48)),
        # The mean of 2 and 1/2 is 1, as that of 2.25 and 1 is 1.5.
        ([(200, 100), (100, 200)], (32, 32)),
        ([(225, 100), (100, 100)], (48, 32)),
    ],
)
def test_a_pair_comes_to_the_size_of_the_nearest_ratio(own: list[tuple[int, int]], expected: tuple[int, int]) -> None:
    for sizes in (SIZES, SIZES[::-1]):
        for images in (own, own[::-1]):
            assert common_size(images, EncodingSettings(sizes=sizes)) == expected


def test_of_two_that_are_as_near_the_smaller_ratio_is_taken() -> None:
    for sizes in ([[64, 32], [32, 64]], [[32, 64], [64, 32]]):
        assert common_size([(50, 50), (70, 70)], EncodingSettings(sizes=sizes)) == (32, 64)


@pytest.mark.parametrize(("width", "height"), [(61, 40), (100, 40), (40, 30), (48, 32), (24, 16), (49, 33)])
def test_an_image_is_resized_until_it_covers_its_size(width: int, height: int) -> None:
    found = prepared(picture(width, height), EncodingSettings(sizes=[[48, 32]], time_ids="image"))
    scale = max(48 / width, 32 / height)
    across, down = int(width * scale + 1e-9), int(height * scale + 1e-9)
    left, top = round((across - 48) / 2), round((down - 32) / 2)
    resized = picture(width, height).resize((across, down), Image.Resampling.BILINEAR)
    assert np.array_equal(np.asarray(found.image), np.asarray(resized.crop((left, top, left + 48, top + 32))))
    assert found.sizes == (height, width, top, left, 32, 48)
    assert found.mirrored_sizes == (height, width, top, across - 48 - left, 32, 48)
    plain = prepared(picture(width, height), EncodingSettings(sizes=[[48, 32]]))
    assert plain.sizes == plain.mirrored_sizes == (32, 48, 0, 0, 32, 48)


def test_one_square_among_the_sizes_is_the_resolution() -> None:
    squares: list[dict[str, Any]] = [{"resolution": 32}, {"sizes": [[32, 32]]}]
    for crop in ("center", "random"):
        ways = [EncodingSettings.model_validate({"crop": crop, **square}) for square in squares]
        for size in ((97, 64), (64, 97), (20, 31), (32, 47), (333, 500)):
            first, second = (prepared(picture(*size), way) for way in ways)
            assert np.array_equal(np.asarray(first.image), np.asarray(second.image))


@pytest.fixture
def given(monkeypatch: pytest.MonkeyPatch) -> list[Pair]:
    """Eight pairs of three shapes, two of them held out; picture 0 is in a wide pair and in a square one."""
    shared = picture(54, 40, 0)
    found = [
        Pair("a", (shared, picture(80, 40, 1)), 1.0, "train"),
        Pair("b", (shared, picture(40, 40, 2)), 0.0, "train"),
        Pair("a", (picture(40, 70, 3), picture(40, 60, 4)), 1.0, "train"),
        Pair("b", (picture(40, 40, 5), picture(44, 40, 6)), 0.5, "train"),
        Pair("c", (picture(90, 60, 7), picture(60, 40, 8)), 0.0, "train"),
        Pair("c", (picture(41, 40, 9), picture(40, 41, 10)), 1.0, "train"),
        Pair("held", (picture(30, 50, 11), picture(40, 70, 12)), 1.0, "heldout"),
        Pair("out", (picture(64, 40, 13), shared), 0.0, "heldout"),
    ]
    monkeypatch.setattr(pairs, "read", lambda source, options, *, base_path: iter(found))
    return found


Spec = Callable[..., dict[str, Any]]


@pytest.fixture
def spec(tiny_sd15: Path) -> Spec:
    def make(out: Path, *, family: str = "sd15", path: Path = tiny_sd15, **encoding: Any) -> Any:
        base = {"name": "tiny", "family": family, "path": str(path)}
        encoding = {"sizes": SIZES, "flips": True, **encoding}
        return {"dataset": "set", "source": "given", "encoding": encoding, "base": base, "out": str(out)}

    return make


@pytest.mark.parametrize("store", ["latents", "images"])
@pytest.mark.parametrize("shard_pairs", [3, 4096])
def test_images_come_back_in_the_size_of_their_pair(
    store: str, shard_pairs: int, spec: Spec, given: list[Pair], tiny_sd15: Path, tmp_path: Path
) -> None:
    cache.build(spec(tmp_path / "cache", store=store, shard_pairs=shard_pairs, time_ids="image"))
    base, settings = open_base("sd15", tiny_sd15), cache.settings_of(tmp_path / "cache")
    # Twelve images, one of them in two sizes.
    assert json.loads((tmp_path / "cache" / "cache.json").read_text())["counts"]["images"] == 13
    numbers = set()
    for split in ("train", "heldout"):
        loaded = cache.load(tmp_path / "cache", split, base=base)
        own = [pair for pair in given if pair.split == split and pair.label != 0.5]
        assert len(loaded) == len(own)
        for row, pair in enumerate(own):
            order = slice(None, None, 1 if pair.label else -1)
            ready = fitted([to_rgb(image) for image in pair.images[order]], settings)
            for turned in (None, torch.tensor([False]), torch.tensor([True])):
                for read, image in ((loaded.winners, ready[0]), (loaded.losers, ready[1])):
                    side = read(torch.tensor([row]), turned)
                    flip = turned is not None and bool(turned)
                    expected = base.encode_images([mirrored(image.image) if flip else image.image])
                    torch.testing.assert_close(side.latents.mean, expected.mean, atol=1e-5, rtol=1e-4)
                    assert side.latents.std is not None and expected.std is not None
                    torch.testing.assert_close(side.latents.std, expected.std, atol=1e-5, rtol=1e-4)
                    assert tuple(side.sizes[0].tolist()) == (image.mirrored_sizes if flip else image.sizes)
            numbers.add((int(loaded.shapes[row]), ready[0].image.size))
    # Numbered alike in both splits.
    assert sorted(numbers) == [(0, (32, 32)), (1, (48, 32)), (2, (32, 48))]


def test_pairs_of_one_shape_are_read_at_once_and_others_are_not(spec: Spec, given: list[Pair], tmp_path: Path) -> None:
    cache.build(spec(tmp_path / "cache"))
    loaded = cache.load(tmp_path / "cache", "train")
    found = dict(loaded.by_shape(torch.tensor([4, 0, 1, 2, 3, 3])))
    assert {shape: places.tolist() for shape, places in found.items()} == {0: [0, 2], 1: [1, 4, 5], 2: [3]}
    rows, turned = torch.tensor([3, 0, 3]), torch.tensor([True, False, False])
    together = loaded.winners(rows, turned).latents.mean
    for latents, row, flip in zip(together, rows, turned, strict=True):
        assert torch.equal(latents, loaded.winners(row[None], flip[None]).latents.mean[0])
    with pytest.raises(AssertionError):
        # As many values, in another order.
        loaded.winners(torch.tensor([0, 2]))


def test_an_interrupted_build_ends_in_the_same_cache(
    spec: Spec, given: list[Pair], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second size of an image that is in a finished shard is a new image, the first is not."""
    cache.build(spec(tmp_path / "whole", shard_pairs=1))
    write = shard_writing.write

    def dies(folder: Path, at: int, *rest: Any) -> Any:
        if at == 4:
            raise KeyboardInterrupt
        return write(folder, at, *rest)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(shard_writing, "write", dies)
        cache.build(spec(tmp_path / "cut", shard_pairs=1))
    cache.build(spec(tmp_path / "cut", shard_pairs=1))
    assert cache.content_sha256(tmp_path / "cut") == cache.content_sha256(tmp_path / "whole")
    tensors = load_file(tmp_path / "cut" / "shard-00001.safetensors")
    assert tensors["latent_shapes"].tolist() == [[2, 4, 16, 16]] * 2
    assert tensors["ends"].tolist() == [2048, 4096]


def test_a_size_that_the_base_does_not_take_is_found_before_anything_is_read(
    spec: Spec, tiny_flows: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pairs, "read", lambda *_, **__: pytest.fail("it was read"))
    flux = open_base("flux", tiny_flows["flux"])
    monkeypatch.setattr(type(flux.model), "pixels_a_token", 16)  # type: ignore[attr-defined]
    with pytest.raises(InputError, match=r"images of 40 x 32 pixels: expected multiples of 16, .*encoding.sizes"):
        cache.build(spec(tmp_path / "cache", family="flux", path=tiny_flows["flux"], sizes=[[32, 32], [40, 32]]))
    with pytest.raises(InputError, match=r"images of 32 x 56 pixels: expected at most 48 a side, 12 tokens .*sizes"):
        cache.build(spec(tmp_path / "cache", family="sd3", path=tiny_flows["sd3"], sizes=[[48, 32], [32, 56]]))
    assert list(tmp_path.iterdir()) == []
