"""Building a cache in shards: what is encoded once, how it is cut, and what an interruption or a full disk leaves."""

from __future__ import annotations

import errno
import json
import os
import resource
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from artifacts.atomic import file_sha256
from artifacts.contracts import read_table
from artifacts.errors import InputError
from sdpo import pairs
from sdpo.bases import open_base
from sdpo.bases.sd15 import StableDiffusion
from sdpo.cli import main
from sdpo.pairs import Pair, cache
from sdpo.pairs.cache import building, reading, shard_writing

Spec = Callable[..., dict[str, Any]]


def picture(number: int, size: tuple[int, int] = (32, 32)) -> Image.Image:
    pixels = np.random.default_rng(number).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    return Image.fromarray(pixels)


def some_pairs(count: int = 10, size: tuple[int, int] = (32, 32)) -> list[Pair]:
    """Pairs that share images and prompts: pair i has the images i % 6 and (i + 1) % 6 and the prompt i % 4.

    Pair 2 is a tie, every third pair was won by the second image, the last two are held out.
    """
    return [
        Pair(
            f"prompt {i % 4}" if i < count - 2 else f"held out {i}",
            (picture(i % 6, size), picture((i + 1) % 6, size)),
            0.5 if i == 2 else float(i % 3 != 0),
            "train" if i < count - 2 else "heldout",
        )
        for i in range(count)
    ]


@pytest.fixture
def given(monkeypatch: pytest.MonkeyPatch) -> list[Pair]:
    """What the source gives; a test may change it."""
    found = some_pairs()
    monkeypatch.setattr(pairs, "read", lambda source, options, *, base_path: iter(found))
    return found


@pytest.fixture
def spec(tiny_sd15: Path) -> Spec:
    def make(out: Path, *, processes: int = 1, family: str = "sd15", path: Path = tiny_sd15, **encoding: Any) -> Any:
        return {
            "stage_version": 1,
            "dataset": "set",
            "source": "given",
            "options": {},
            "encoding": encoding,
            "base": {"name": "tiny", "family": family, "path": str(path)},
            "processes": processes,
            "out": str(out),
        }

    return make


def everything(folder: Path) -> dict[str, Any]:
    """All that a reader gets of both splits."""
    found = {}
    for split in ("train", "heldout"):
        loaded = cache.load(folder, split)
        rows = torch.arange(len(loaded))
        for side, read in (("winner", loaded.winners), ("loser", loaded.losers)):
            latents = read(rows).latents
            found[f"{split} {side} mean"] = latents.mean
            found[f"{split} {side} std"] = latents.std
        found[f"{split} text"] = loaded.prompts(rows)["text"]
    return found


def interrupt_before_shard(monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    write = shard_writing.write

    def dies(folder: Path, at: int, *rest: Any) -> Any:
        if at == number:
            raise KeyboardInterrupt
        return write(folder, at, *rest)

    monkeypatch.setattr(shard_writing, "write", dies)


def test_posterior_is_kept_once_for_every_image(spec: Spec, given: list[Pair], tiny_sd15: Path, tmp_path: Path) -> None:
    cache.build(spec(tmp_path / "cache"))
    (shard,) = sorted((tmp_path / "cache").glob("shard-*"))
    tensors = load_file(shard)
    # 6 images, 4 prompts and 2 held out in 10 pairs; the empty prompt is the first.
    assert {name: tuple(x.shape) for name, x in tensors.items()} == {
        "latents": (6, 2, 4, 16, 16),
        "sizes": (6, 6),
        "prompt.text": (7, 16, 32),
    }
    from diffusers import AutoencoderKL

    vae = AutoencoderKL.from_pretrained(tiny_sd15 / "vae")
    loaded = cache.load(tmp_path / "cache", "train")
    rows = torch.arange(len(loaded))
    for side, read in ((0, loaded.winners), (1, loaded.losers)):
        won = [p for p in given if p.split == "train" and p.label != 0.5]
        images = [p.images[side if p.label == 1 else 1 - side] for p in won]
        pixels = torch.stack([torch.from_numpy(np.array(x)).permute(2, 0, 1) for x in images]).float() / 127.5 - 1
        with torch.no_grad():
            posterior = vae.encode(pixels).latent_dist
        latents = read(rows).latents
        torch.testing.assert_close(latents.mean, posterior.mean * 0.18215, atol=1e-6, rtol=1e-4)
        torch.testing.assert_close(latents.std, posterior.std * 0.18215, atol=1e-6, rtol=1e-4)
    texts = open_base("sd15", tiny_sd15).encode_prompts(
        ["", *(f"prompt {i}" for i in range(4)), "held out 8", "held out 9"]
    )["text"]
    torch.testing.assert_close(tensors["prompt.text"], texts, atol=1e-6, rtol=1e-4)


@pytest.mark.parametrize("shard_pairs", [1, 3, 4])
def test_pairs_do_not_depend_on_where_the_shards_are_cut(
    spec: Spec, given: list[Pair], tmp_path: Path, shard_pairs: int
) -> None:
    cache.build(spec(tmp_path / "one"))
    cache.build(spec(tmp_path / "cut", shard_pairs=shard_pairs))
    shards = json.loads((tmp_path / "cut" / "cache.json").read_text())["shards"]
    assert len(shards) == -(-10 // shard_pairs)
    assert sum(s["images"] for s in shards) == 6
    assert sum(s["prompts"] for s in shards) == 7
    whole, cut = everything(tmp_path / "one"), everything(tmp_path / "cut")
    for name, tensor in whole.items():
        torch.testing.assert_close(cut[name], tensor, atol=1e-6, rtol=1e-4)
    # Numbers in the index are the same too.
    first, second = (read_table(tmp_path / x / "index.parquet", "pairs_index") for x in ("one", "cut"))
    assert first.equals(second)


def test_rows_are_gathered_in_the_order_asked_for(spec: Spec, given: list[Pair], tmp_path: Path) -> None:
    cache.build(spec(tmp_path / "cache", shard_pairs=2, flips=True))
    loaded = cache.load(tmp_path / "cache", "train")
    rows, turned = torch.tensor([5, 0, 3, 0]), torch.tensor([True, False, False, True])
    together = loaded.winners(rows, turned).latents
    for i, (row, mirrored) in enumerate(zip(rows, turned, strict=True)):
        alone = loaded.winners(row[None], mirrored[None]).latents
        assert alone.std is not None
        assert together.std is not None
        assert torch.equal(together.mean[i], alone.mean[0])
        assert torch.equal(together.std[i], alone.std[0])
    assert not torch.allclose(together.mean[1], together.mean[3], atol=1e-3)


def test_only_shards_that_are_asked_for_are_opened(spec: Spec, given: list[Pair], tmp_path: Path) -> None:
    cache.build(spec(tmp_path / "cache", shard_pairs=1))
    loaded = cache.load(tmp_path / "cache", "train")
    assert isinstance(loaded.source, reading.StoredLatents)
    shards = loaded.source.shards
    assert shards._open == {}
    # Pair 0 has the first two images; its prompt comes after the empty one.
    loaded.winners(torch.tensor([0]))
    loaded.prompts(torch.tensor([0]))
    assert set(shards._open) == {0}
    # The fourth pair that is no tie is pair 4: image 4 or 5 and prompt 0.
    loaded.losers(torch.tensor([3]))
    assert len(shards._open) == 2


def test_damaged_shard_is_named_when_the_cache_is_opened(spec: Spec, given: list[Pair], tmp_path: Path) -> None:
    cache.build(spec(tmp_path / "cache", shard_pairs=3))
    cache.load(tmp_path / "cache", "train")
    file = tmp_path / "cache" / "shard-00001.safetensors"
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)
    with pytest.raises(InputError, match=r"shard-00001.safetensors: missing or damaged; delete .*cache"):
        cache.load(tmp_path / "cache", "train")


@pytest.mark.parametrize("died_before", [1, 3])
def test_interrupted_build_goes_on_at_the_shard(
    spec: Spec,
    given: list[Pair],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    died_before: int,
) -> None:
    cache.build(spec(tmp_path / "whole", shard_pairs=3))
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        interrupt_before_shard(patch, died_before)
        cache.build(spec(tmp_path / "broken", shard_pairs=3))
    assert not (tmp_path / "broken").exists()
    assert len(list(tmp_path.glob(".broken.building/*/shard-*.safetensors"))) == died_before
    encoded: list[int] = []
    encode = StableDiffusion.encode_images

    def counting(base: StableDiffusion, images: Any) -> Any:
        encoded.append(len(images))
        return encode(base, images)

    monkeypatch.setattr(StableDiffusion, "encode_images", counting)
    cache.build(spec(tmp_path / "broken", shard_pairs=3))
    plural = "s" * (died_before > 1)
    assert f"goes on after {died_before} finished shard{plural}" in capsys.readouterr().err
    # Images 0 to 3 are in pairs 0 to 2 less the tie's, 4 and 5 in pairs 3 to 5.
    assert sum(encoded) == {1: 3, 3: 0}[died_before]
    for file in sorted((tmp_path / "whole").iterdir()):
        if file.name != "cache.json":
            assert file.read_bytes() == (tmp_path / "broken" / file.name).read_bytes(), file.name
    assert cache.content_sha256(tmp_path / "whole") == cache.content_sha256(tmp_path / "broken")
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        ".broken.checked.json",
        ".whole.checked.json",
        "broken",
        "whole",
    ]


def test_interruption_after_the_last_shard_costs_nothing(
    spec: Spec, given: list[Pair], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def dies(*_: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(building._Build, "finish", dies)
        cache.build(spec(tmp_path / "cache", shard_pairs=4))
    monkeypatch.setattr(StableDiffusion, "encode_images", dies)
    cache.build(spec(tmp_path / "cache", shard_pairs=4))
    assert len(cache.load(tmp_path / "cache", "train")) == 7


def test_source_that_changed_meanwhile_is_not_mixed_with_what_is_there(
    spec: Spec, given: list[Pair], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        interrupt_before_shard(patch, 1)
        cache.build(spec(tmp_path / "cache", shard_pairs=3))
    given[1] = Pair("another", given[1].images, given[1].label, given[1].split)
    with pytest.raises(InputError, match=r"no longer gives the pairs that were cached .*delete .*\.cache\.building"):
        cache.build(spec(tmp_path / "cache", shard_pairs=3))


@pytest.mark.parametrize("change", ["label", "order", "image"])
def test_a_source_without_names_is_compared_by_its_images(
    spec: Spec, given: list[Pair], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: str
) -> None:
    """Label 0 of two images is not label 1 of the same two, whatever the noise makes of either."""
    job = {**spec(tmp_path / "cache", shard_pairs=3), "flipped": 0.5}
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        interrupt_before_shard(patch, 1)
        cache.build(job)
    pair = given[1]
    given[1] = {
        "label": replace(pair, label=1 - pair.label),
        "order": replace(pair, images=pair.images[::-1]),
        "image": replace(pair, images=(pair.images[0], picture(99))),
    }[change]
    with pytest.raises(InputError, match="no longer gives the pairs that were cached"):
        cache.build(job)
    given[1] = pair
    cache.build(job)


def test_another_setting_starts_anew(
    spec: Spec, given: list[Pair], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        interrupt_before_shard(patch, 2)
        cache.build(spec(tmp_path / "cache", shard_pairs=3))
    capsys.readouterr()
    cache.build(spec(tmp_path / "cache", shard_pairs=3, dtype="float16"))
    assert "goes on after" not in capsys.readouterr().err
    assert load_file(tmp_path / "cache" / "shard-00000.safetensors")["latents"].dtype == torch.float16
    # Shards that nothing will take up are removed with the rest.
    assert sorted(path.name for path in tmp_path.iterdir()) == [".cache.checked.json", "cache"]


def without_links(*_: Any) -> None:
    raise OSError(errno.EPERM, "Operation not permitted")


def test_without_hard_links_nothing_lies_on_the_disk_twice(
    spec: Spec, given: list[Pair], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An interruption while the cache is put together costs nothing there either."""
    cache.build(spec(tmp_path / "whole", shard_pairs=4))
    monkeypatch.setattr(os, "link", without_links)
    written: list[Path] = []

    def dies(path: Path, *_: Any) -> None:
        written.extend(path.parents[1].rglob("shard-*.safetensors"))
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(building, "write_table", dies)
        cache.build(spec(tmp_path / "cache", shard_pairs=4))
    assert [path.parent.name for path in written] == [shard_writing.READY] * 3
    with monkeypatch.context() as patch:
        patch.setattr(StableDiffusion, "encode_images", dies)
        cache.build(spec(tmp_path / "cache", shard_pairs=4))
    assert cache.content_sha256(tmp_path / "cache") == cache.content_sha256(tmp_path / "whole")
    cache.load(tmp_path / "cache", "train")


def test_shards_of_a_build_that_was_killed_while_it_was_put_together_are_found(
    spec: Spec, given: list[Pair], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        interrupt_before_shard(patch, 2)
        cache.build(spec(tmp_path / "cache", shard_pairs=4))
    (state,) = tmp_path.glob(".cache.building/*")
    shards = shard_writing.written(state)
    (state / shard_writing.READY).mkdir()
    monkeypatch.setattr(os, "link", without_links)
    shard_writing.take(state, shards[:1], state / shard_writing.READY)
    assert shard_writing.written(state) == shards
    assert not (state / shard_writing.READY).exists()


@pytest.mark.slow
def test_processes_make_the_same_files(spec: Spec, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    # Other processes import the package afresh, so the source is replaced in this one only, which reads it.
    monkeypatch.setattr(pairs, "read", lambda source, options, *, base_path: iter(some_pairs()))
    cache.build(spec(tmp_path / "one", shard_pairs=5))
    cache.build(spec(tmp_path / "two", shard_pairs=5, processes=2))
    assert cache.content_sha256(tmp_path / "one") == cache.content_sha256(tmp_path / "two")


def forty(same: int) -> list[Pair]:
    """Pairs, the first ``same`` of which show the same two images."""

    def images(i: int) -> tuple[Image.Image, Image.Image]:
        first = 0 if i < same else 2 * i
        return picture(first), picture(first + 1)

    return [Pair(str(i % 5), images(i), 1.0, "train") for i in range(40)]


@contextmanager
def full_disk(size: int) -> Iterator[None]:
    """No file grows beyond ``size`` bytes; Python ignores the signal that says so, and gets an error as of a disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def assert_no_space(job: dict[str, Any], capsys: pytest.CaptureFixture[str]) -> None:
    capsys.readouterr()
    with full_disk(200_000):
        assert main(["pairs", "--spec", json.dumps(job)]) != 0
    printed = capsys.readouterr().err
    (error,) = [line for line in printed.splitlines() if "no space left for the pair cache" in line]
    assert "GB free" in error
    assert "encoding.dtype" in error
    assert "Traceback" not in printed


def test_full_disk_is_one_line_and_leaves_nothing_half_written(
    spec: Spec, given: list[Pair], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given[:] = forty(same=0)
    assert_no_space(spec(tmp_path / "cache", shard_pairs=20), capsys)
    assert list(tmp_path.rglob("*")) == []


def test_disk_that_fills_up_on_the_way_costs_the_shard_that_was_being_written(
    spec: Spec, given: list[Pair], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The first shard has two images and the second forty, which are too many for the limit."""
    given[:] = forty(same=20)
    job = spec(tmp_path / "cache", shard_pairs=20)
    assert_no_space(job, capsys)
    left = sorted(path.name for path in tmp_path.rglob("*") if path.is_file())
    assert left == ["lock", "shard-00000.json", "shard-00000.safetensors"]
    cache.build(job)
    assert "goes on after" in capsys.readouterr().err
    cache.build(spec(tmp_path / "whole", shard_pairs=20))
    assert cache.content_sha256(tmp_path / "cache") == cache.content_sha256(tmp_path / "whole")


def test_images_of_two_sizes_need_a_resolution(spec: Spec, given: list[Pair], tmp_path: Path) -> None:
    given[3] = Pair("a", (picture(100), picture(101, (48, 32))), 1.0, "train")
    with pytest.raises(InputError, match=r"32 × 32 and of 48 × 32 pixels in one pair set; set its encoding.resolution"):
        cache.build(spec(tmp_path / "cache"))
    assert list(tmp_path.iterdir()) == []
    cache.build(spec(tmp_path / "cache", resolution=32))
    assert cache.load(tmp_path / "cache", "train").latent_shape == (4, 16, 16)


@pytest.mark.parametrize("store", ["latents", "images"])
def test_images_of_another_size_in_a_later_shard_are_refused(
    spec: Spec, given: list[Pair], tmp_path: Path, capsys: pytest.CaptureFixture[str], store: str
) -> None:
    """In one go, and by a build that goes on after the first shard; the size is said as width × height."""
    given[5] = Pair("a", (picture(100, (48, 32)), picture(101, (48, 32))), 1.0, "train")
    job = spec(tmp_path / "cache", shard_pairs=3, store=store)
    for goes_on in (False, True):
        with pytest.raises(InputError, match=r"pairs 'set': images of 32 × 32 and of 48 × 32 pixels .*resolution"):
            cache.build(job)
        assert ("goes on after 1 finished shard" in capsys.readouterr().err) == goes_on


def test_the_size_of_finished_shards_is_width_and_height(
    spec: Spec, given: list[Pair], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given[:] = some_pairs(size=(48, 32))
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        interrupt_before_shard(patch, 1)
        cache.build(spec(tmp_path / "cache", shard_pairs=3))
    cache.build(spec(tmp_path / "cache", shard_pairs=3))
    assert cache.load(tmp_path / "cache", "train").latent_shape == (4, 16, 24)


def test_image_that_is_none_is_one_line(spec: Spec, given: list[Pair], tmp_path: Path) -> None:
    file = tmp_path / "cut.png"
    picture(7).save(file)
    file.write_bytes(file.read_bytes()[:-200])
    given[4] = Pair("a", (Image.open(file), picture(8)), 1.0, "train")
    with pytest.raises(InputError, match=r"an image of 32 × 32 pixels cannot be decoded"):
        cache.build(spec(tmp_path / "cache"))


def test_a_strip_is_refused_before_anything_is_allocated(spec: Spec, given: list[Pair], tmp_path: Path) -> None:
    """At 512 pixels of the short side it would be 47 GB; sources may hand over what they have opened themselves."""
    given[4] = Pair("a", (Image.new("RGB", (1, 60_000)), picture(8)), 1.0, "train")
    with pytest.raises(InputError, match=r"1 x 60000 pixels, one edge is more than 256 times the other"):
        cache.build(spec(tmp_path / "cache", resolution=512))


def test_what_decoding_met_is_counted_once_an_image(
    spec: Spec, given: list[Pair], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Said by the source that decoded, or seen by the cache; also of shards that were taken up."""
    grey = picture(50).convert("L")
    given[0] = Pair("a", (grey, picture(51)), 1.0, "train", ((), ("alpha", "palette")))
    given[5] = Pair("b", (grey, picture(52)), 1.0, "train")
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        interrupt_before_shard(patch, 2)
        cache.build(spec(tmp_path / "cache", shard_pairs=3))
    cache.build(spec(tmp_path / "cache", shard_pairs=3))
    about = json.loads((tmp_path / "cache" / "cache.json").read_text())
    assert about["decoding"] == {"alpha": 1, "grey": 1, "palette": 1}
    assert "images that are not plain RGB: 1 with transparency, laid on white, 1 grey" in capsys.readouterr().err


def test_autoencoder_that_overflows_is_named(spec: Spec, given: list[Pair], tiny_sd15: Path, tmp_path: Path) -> None:
    base = tmp_path / "base"
    shutil.copytree(tiny_sd15, base)
    file = base / "vae" / "diffusion_pytorch_model.safetensors"
    weights = load_file(file)
    # 1e5 is beyond float16, and no matter in float32.
    weights["encoder.conv_in.bias"] += 1e5
    save_file(weights, file, metadata={"format": "pt"})
    with pytest.raises(InputError, match=r"conv_in.bias' has values that are not finite .*encoder_dtype"):
        cache.build(spec(tmp_path / "cache", path=base, encoder_dtype="float16"))
    assert not (tmp_path / ".cache.building").exists()
    cache.build(spec(tmp_path / "cache", path=base))
    assert everything(tmp_path / "cache")["train winner mean"].isfinite().all()


def counting_into(read: list[str]) -> Callable[[Path, int, int], str]:
    def counted(path: Path, size: int, modified_ns: int) -> str:
        read.append(path.name)
        return file_sha256(path)

    return counted


def test_only_what_a_build_took_up_is_read_by_the_first_training(
    spec: Spec, given: list[Pair], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        interrupt_before_shard(patch, 2)
        cache.build(spec(tmp_path / "cache", shard_pairs=3))
    # What became of a shard meanwhile does not show in its size.
    (shard,) = tmp_path.glob(".cache.building/*/shard-00001.safetensors")
    content = bytearray(shard.read_bytes())
    content[-1] ^= 1
    shard.write_bytes(content)
    cache.build(spec(tmp_path / "cache", shard_pairs=3))
    read: list[str] = []
    monkeypatch.setattr(reading, "_file_sha256", counting_into(read))
    with pytest.raises(InputError, match=r"shard-00001.safetensors: missing or damaged; delete .*cache"):
        cache.load(tmp_path / "cache", "train")
    assert sorted(read) == ["shard-00000.safetensors", "shard-00001.safetensors"]


def test_a_stamp_of_a_cache_that_was_there_before_says_nothing_of_the_new_one(
    spec: Spec, given: list[Pair], tmp_path: Path
) -> None:
    cache.build(spec(tmp_path / "cache", shard_pairs=3))
    before = json.loads(reading.stamp(tmp_path / "cache").read_text())
    cache.build(spec(tmp_path / "cache", shard_pairs=3, dtype="float16"))
    after = json.loads(reading.stamp(tmp_path / "cache").read_text())
    digests = json.loads((tmp_path / "cache" / "cache.json").read_text())["files"]
    assert before != after
    assert {name: entry[2] for name, entry in after.items()} == digests


def test_files_are_read_once_and_again_when_they_change(
    spec: Spec, given: list[Pair], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Hashing hundreds of gigabytes at every start would take longer than the start; the build knows the digests."""
    folder = tmp_path / "cache"
    cache.build(spec(folder, shard_pairs=5))
    read: list[str] = []
    monkeypatch.setattr(reading, "_file_sha256", counting_into(read))
    files = sorted(json.loads((folder / "cache.json").read_text())["files"])
    assert len(files) == 3
    cache.load(folder, "train")
    cache.load(folder, "heldout")
    assert read == []
    shard = folder / "shard-00001.safetensors"
    shard.touch()
    cache.load(folder, "train")
    assert read == [shard.name]
    content = bytearray(shard.read_bytes())
    content[-1] ^= 1
    shard.write_bytes(content)
    with pytest.raises(InputError, match=r"shard-00001.safetensors: missing or damaged; delete"):
        cache.load(folder, "train")
    content[-1] ^= 1
    shard.write_bytes(content)
    # Asked for by deleting the note, or where it says nothing.
    for note in (None, "[]", "{"):
        reading.stamp(folder).unlink()
        if note is not None:
            reading.stamp(folder).write_text(note)
        read.clear()
        cache.load(folder, "train")
        assert sorted(read) == files


@pytest.mark.parametrize("asked", [False, True])
def test_encoders_compute_in_tf32_only_if_asked(spec: Spec, given: list[Pair], tmp_path: Path, asked: bool) -> None:
    """Convolutions on a GPU do by default, and float32 is what was asked for."""
    switches = (torch.backends.cudnn, torch.backends.cuda.matmul)
    before = [switch.allow_tf32 for switch in switches]
    try:
        for switch in switches:
            switch.allow_tf32 = not asked
        cache.build(spec(tmp_path / "cache", encoder_tf32=asked))
        assert [switch.allow_tf32 for switch in switches] == [asked, asked]
    finally:
        for switch, value in zip(switches, before, strict=True):
            switch.allow_tf32 = value


def test_embeddings_that_overflow_are_named(spec: Spec, given: list[Pair], tiny_sd15: Path, tmp_path: Path) -> None:
    base = tmp_path / "base"
    shutil.copytree(tiny_sd15, base)
    file = base / "text_encoder" / "model.safetensors"
    weights = load_file(file)
    (name,) = [name for name in weights if name.endswith("final_layer_norm.bias")]
    weights[name] += 1e5
    save_file(weights, file, metadata={"format": "pt"})
    with pytest.raises(InputError, match=r"text of a prompt is not finite: .* encoding.dtype float16; take"):
        cache.build(spec(tmp_path / "cache", path=base, dtype="float16"))
    cache.build(spec(tmp_path / "cache", path=base))


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without a GPU")
@pytest.mark.parametrize("processes", [1, 2])
def test_gpu_that_is_not_there_is_said_at_once(spec: Spec, given: list[Pair], tmp_path: Path, processes: int) -> None:
    with pytest.raises(InputError, match=r"encoding.device is 'cuda', and there is no GPU here; set it to cpu"):
        cache.build(spec(tmp_path / "cache", device="cuda", processes=processes))
    assert list(tmp_path.iterdir()) == []


def test_unknown_setting_is_named(spec: Spec, given: list[Pair], tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"encoding.resolution = 30: expected a multiple of 8"):
        cache.build(spec(tmp_path / "cache", resolution=30))


def test_cache_of_an_older_layout_is_refused(tmp_path: Path) -> None:
    (tmp_path / "cache.json").write_text('{"files": {}}')
    with pytest.raises(InputError, match="written by an older release, in another layout; delete"):
        cache.content_sha256(tmp_path)


def test_processes_come_from_the_command_line(monkeypatch: pytest.MonkeyPatch) -> None:
    from sdpo import cli

    built: list[dict[str, Any]] = []
    monkeypatch.setattr("sdpo.pairs.cache.build", built.append)
    assert cli.main(["pairs", "--processes", "3", "--spec", '{"dataset": "own"}']) == 0
    assert cli.main(["pairs", "--spec", '{"dataset": "own"}']) == 0
    assert built == [{"dataset": "own", "processes": 3}, {"dataset": "own", "processes": 1}]
