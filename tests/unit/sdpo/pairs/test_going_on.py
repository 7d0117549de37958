"""An interrupted build that goes on compares the pairs it has, and opens none of their images."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from artifacts.errors import InputError
from artifacts.plugins import Registry
from sdpo.pairs import cache
from sdpo.pairs.cache import shard_writing
from sdpo.pairs.reading import streaming

HELD_OUT, BROKEN, COUNT = 2, 3, 9
"""Pairs that come first, the one without an image among the others, and all of them."""


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """A folder of pairs, one of which has an image that is no image."""
    folder = tmp_path / "source"
    folder.mkdir()
    lines = []
    for i in range(COUNT):
        for side in "ab":
            pixels = np.random.default_rng([i, ord(side)]).integers(0, 256, (16, 16, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(folder / f"{i}{side}.png")
        split = "heldout" if i < HELD_OUT else "train"
        lines.append({"prompt": f"prompt {i}", "winner": f"{i}a.png", "loser": f"{i}b.png", "split": split})
    (folder / f"{BROKEN}b.png").write_bytes(b"")
    write_lines(folder, lines)
    return folder


def write_lines(folder: Path, lines: list[dict[str, Any]]) -> None:
    (folder / "pairs.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")


def read_lines(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "pairs.jsonl").read_text(encoding="utf-8").splitlines()]


@pytest.fixture
def build(source: Path, tiny_sd15: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[int]]:
    """``build(name, shards)`` builds a cache that dies with that many shards, or not; lengths of the files decoded."""

    def run(name: str, shards: int | None = None) -> list[int]:
        decoded: list[int] = []
        write, decode = shard_writing.write, streaming.decode

        def dies(folder: Path, at: int, *rest: Any) -> Any:
            if at == shards:
                raise KeyboardInterrupt
            return write(folder, at, *rest)

        def counted(content: bytes) -> Any:
            decoded.append(len(content))
            return decode(content)

        with monkeypatch.context() as patch:
            patch.setattr(shard_writing, "write", dies)
            patch.setattr(streaming, "decode", counted)
            cache.build(
                {
                    "stage_version": 1,
                    "dataset": "set",
                    "source": "folder",
                    "options": {"path": str(source), "max_broken": 1},
                    "encoding": {"shard_pairs": 2, "store": "images"},
                    "base": {"name": "tiny", "family": "sd15", "path": str(tiny_sd15)},
                    "processes": 1,
                    "out": str(tmp_path / name),
                }
            )
        return decoded

    return run


def test_images_that_are_cached_are_not_opened_again(
    build: Callable[..., list[int]], source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert len(build("whole")) == 2 * COUNT
    with pytest.raises(KeyboardInterrupt):
        build("cut", shards=2)
    # Were it whole now, the pairs after it would have other places than before.
    Image.new("RGB", (16, 16)).save(source / f"{BROKEN}b.png")
    capsys.readouterr()
    # Two shards of two pairs, and the broken one among them.
    assert len(build("cut")) == 2 * (COUNT - 5)
    said = capsys.readouterr().err
    assert "line 4: could not be opened before the interruption; skipped" in said
    assert "9 rows, 6 pairs to train on, 2 held out; skipped: 1 × broken" in said
    for file in sorted((tmp_path / "whole").iterdir()):
        if file.name != "cache.json":
            assert file.read_bytes() == (tmp_path / "cut" / file.name).read_bytes(), file.name


def longer_prompt(lines: list[dict[str, Any]]) -> None:
    lines[1]["prompt"] += "!"


def tie(lines: list[dict[str, Any]]) -> None:
    lines[2]["label"] = 0.5


def other_split(lines: list[dict[str, Any]]) -> None:
    lines[2]["split"] = "heldout"


def no_prompt(lines: list[dict[str, Any]]) -> None:
    lines[4]["prompt"] = None


def other_winner(lines: list[dict[str, Any]]) -> None:
    lines[2]["label"] = 0


def other_way_round(lines: list[dict[str, Any]]) -> None:
    """The same pair, and who won is spelled otherwise: its images come in another order."""
    lines[2] |= {"winner": lines[2]["loser"], "loser": lines[2]["winner"], "label": 0}


def shorter(lines: list[dict[str, Any]]) -> None:
    del lines[4:]


@pytest.mark.parametrize("change", [longer_prompt, tie, other_winner, other_way_round, other_split, no_prompt, shorter])
def test_another_source_is_refused(
    build: Callable[..., list[int]], source: Path, change: Callable[[list[dict[str, Any]]], None]
) -> None:
    with pytest.raises(KeyboardInterrupt):
        build("cut", shards=2)
    change(lines := read_lines(source))
    write_lines(source, lines)
    with pytest.raises(InputError, match=r"no longer gives the pairs that were cached .*delete .*\.cut\.building and"):
        build("cut")


def test_an_image_that_was_corrected_is_refused(build: Callable[..., list[int]], source: Path) -> None:
    """Winner and loser of a pair that is cached change places on the disk, and nothing does in the list."""
    with pytest.raises(KeyboardInterrupt):
        build("cut", shards=2)
    first, second = ((source / f"2{side}.png").read_bytes() for side in "ab")
    (source / "2a.png").write_bytes(second)
    (source / "2b.png").write_bytes(first)
    with pytest.raises(InputError, match="no longer gives the pairs that were cached"):
        build("cut")


def test_shards_of_another_source_code_are_not_taken_up(
    build: Callable[..., list[int]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(KeyboardInterrupt):
        build("cut", shards=2)
    source = Registry.source
    monkeypatch.setattr(Registry, "source", lambda self, name: "other code" if name == "folder" else source(self, name))
    assert len(build("cut")) == 2 * COUNT
