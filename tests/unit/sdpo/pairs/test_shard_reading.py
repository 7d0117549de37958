"""Rows of several files, in any order and by several threads, are the rows that were written."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from artifacts.errors import InputError
from sdpo.pairs.cache import shard_reading
from sdpo.pairs.cache.encoding import PROMPT
from sdpo.pairs.cache.shard_reading import Shards

IMAGES, PROMPTS = (5, 0, 9, 4, 7, 2), (3, 2, 0, 1, 4, 0)


@pytest.fixture
def stored(tmp_path: Path) -> tuple[Shards, dict[str, torch.Tensor]]:
    """Six shards, two of which lack images or prompts, and what is in them one after the other."""
    torch.manual_seed(0)
    files, parts = [], []
    for number, (images, prompts) in enumerate(zip(IMAGES, PROMPTS, strict=True)):
        lengths, words = torch.randint(0, 6, (images,)), torch.randint(1, 6, (prompts,))
        tensors = {
            "latents": torch.randn(images, 2, 4, 3, 5).half(),
            "mirrored_latents": torch.randn(images, 2, 4, 3, 5).half(),
            "sizes": torch.randint(-9, 9, (images, 6), dtype=torch.int32),
            "mirrored_sizes": torch.randint(-9, 9, (images, 6), dtype=torch.int32),
            f"{PROMPT}text": torch.randn(prompts, 7, 2).bfloat16(),
            f"{PROMPT}pooled": torch.randn(prompts, 3),
            "png": torch.randint(0, 256, (int(lengths.sum()),), dtype=torch.uint8),
            "ends": lengths.cumsum(0),
            "words": torch.randn(int(words.sum()), 3).half(),
            "word_ends": words.cumsum(0),
        }
        files.append(tmp_path / f"{number}.safetensors")
        save_file(tensors, files[-1])
        parts.append(tensors)
    joined = {name: torch.cat([x[name] for x in parts]) for name in parts[0]}
    for name in ("ends", "word_ends"):
        lengths = torch.cat([torch.diff(x[name], prepend=torch.tensor([0])) for x in parts])
        joined[name] = lengths.cumsum(0)
    return Shards(files, IMAGES, PROMPTS), joined


@pytest.mark.parametrize("open_files", [1, 2, 256])
def test_rows_are_those_that_were_written(
    stored: tuple[Shards, dict[str, torch.Tensor]], monkeypatch: pytest.MonkeyPatch, open_files: int
) -> None:
    monkeypatch.setattr(shard_reading, "_OPEN_FILES", open_files)
    shards, written = stored
    rows = torch.randint(0, sum(IMAGES), (200,))
    mirrored = torch.rand(200) < 0.5
    for name, read in (("latents", shards.gathered), ("sizes", shards.kept)):
        assert torch.equal(read(name, rows), written[name][rows])
        turned = written[f"mirrored_{name}"][rows[mirrored]]
        assert torch.equal(read(name, rows, mirrored=mirrored)[mirrored], turned)
        assert torch.equal(read(name, rows, mirrored=mirrored)[~mirrored], written[name][rows[~mirrored]])
    prompts = torch.randint(0, sum(PROMPTS), (50,))
    for name in (f"{PROMPT}text", f"{PROMPT}pooled"):
        found = shards.gathered(name, prompts, PROMPT)
        assert found.dtype == written[name].dtype
        assert torch.equal(found, written[name][prompts])
    assert sorted(shards.conditions()) == ["pooled", "text"]
    assert len(shards._open) <= open_files


def test_pieces_are_cut_where_they_end(stored: tuple[Shards, dict[str, torch.Tensor]]) -> None:
    shards, written = stored
    assert shards.has("words") and not shards.has("pieces")
    for name, ends, count, kind in (("png", "ends", sum(IMAGES), ""), ("words", "word_ends", sum(PROMPTS), PROMPT)):
        starts = [0, *written[ends].tolist()]
        rows = torch.randperm(count)
        expected = [written[name][starts[row] : starts[row + 1]] for row in rows.tolist()]
        found = shards.pieces(name, ends, rows, kind)
        assert [piece.dtype for piece in found] == [written[name].dtype] * count
        assert all(torch.equal(one, other) for one, other in zip(found, expected, strict=True))
        assert any(not len(piece) for piece in expected) == (name == "png")


def test_a_file_that_ends_early_is_named(stored: tuple[Shards, dict[str, torch.Tensor]]) -> None:
    shards, _ = stored
    path = shards.files[2]
    path.write_bytes(path.read_bytes()[:-200])
    with pytest.raises(InputError, match=r"2\.safetensors: damaged; delete .* and run snakemake again"):
        shards.gathered("latents", torch.arange(sum(IMAGES)))
        shards.gathered("mirrored_latents", torch.arange(sum(IMAGES)))
        shards.pieces("png", "ends", torch.arange(sum(IMAGES)))
    path.write_bytes(path.read_bytes()[:20])
    with pytest.raises(InputError, match=r"2\.safetensors: damaged"):
        Shards(shards.files, IMAGES, PROMPTS).gathered("latents", torch.tensor([7]))


def test_a_tensor_that_is_not_there_is_an_error(stored: tuple[Shards, dict[str, torch.Tensor]]) -> None:
    with pytest.raises(InputError, match=r"0\.safetensors: damaged"):
        stored[0].gathered("mean", torch.tensor([0]))


def test_rows_of_two_shapes_are_refused(stored: tuple[Shards, dict[str, torch.Tensor]]) -> None:
    """Of as many bytes, which would be read without complaint."""
    shards, _ = stored
    shards.check_shapes()
    path = shards.files[3]
    tensors = load_file(path)
    save_file({**tensors, "latents": tensors["latents"].reshape(-1, 2, 4, 5, 3)}, path)
    message = (
        r"3\.safetensors: 'latents' has rows float16 \(2, 4, 5, 3\), expected those of 0\.safetensors.*\(2, 4, 3, 5\)"
    )
    with pytest.raises(InputError, match=message):
        Shards(shards.files, IMAGES, PROMPTS).check_shapes()
