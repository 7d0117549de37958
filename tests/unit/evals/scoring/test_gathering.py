from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from artifacts import layout
from artifacts.atomic import file_sha256
from artifacts.contracts import read_table, write_table
from artifacts.errors import InputError
from evals.images.numbering import Numbering
from evals.scoring.gathering import gather
from evals.scoring.scores import score

MODEL = "base/dpo/seed0"
IMAGES = 2
SCORERS = ("jpeg_size", "blank")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Seven prompts with two images each."""
    folder = layout.images(tmp_path, MODEL, "set")
    folder.mkdir(parents=True)
    ids = [f"set-{index:05d}" for index in range(7)]
    write_table(
        layout.prompts(tmp_path, "set"),
        pd.DataFrame({"prompt_id": ids, "prompt": ids, "category": "", "source": "test"}),
        "prompts",
    )
    random = np.random.default_rng(0)
    rows = []
    for image in range(IMAGES):
        for prompt_id in ids:
            file = f"{prompt_id}-{image}.png"
            Image.fromarray(random.integers(0, 256, (16, 16, 3), dtype=np.uint8)).save(folder / file)
            rows.append((prompt_id, image, file, 0, file_sha256(folder / file)))
    columns = ["prompt_id", "image", "file", "seed", "sha256"]
    write_table(folder / "manifest.parquet", pd.DataFrame(rows, columns=columns), "manifest")
    return tmp_path


def drawn(root: Path) -> dict[str, Any]:
    return {"root": str(root), "models": [MODEL], "prompt_sets": ["set"], "images_per_prompt": {"set": IMAGES}}


def score_shares(root: Path, shards: int) -> None:
    for index in range(shards):
        shard = {"shard": [index, shards]} if shards > 1 else {}
        score({**drawn(root), **shard, "scorers": {name: {} for name in SCORERS}, "batch_size": 3})


def gathered(root: Path, shards: int) -> None:
    gather({**drawn(root), "rated": {name: ["set"] for name in SCORERS}, "shards": shards})


def contents(root: Path) -> dict[str, bytes]:
    """Score files by scorer."""
    return {name: layout.scores(root, name, MODEL, "set").read_bytes() for name in SCORERS}


def of(root: Path, index: int) -> Path:
    return layout.score_shard(root, "jpeg_size", MODEL, "set", (index, 2))


# 14 images make five batches of three: seven jobs are more than there are batches.
@pytest.mark.parametrize("shards", [2, 3, 7])
def test_scores_are_the_same_bytes_whatever_the_number_of_jobs(root: Path, shards: int) -> None:
    score_shares(root, 1)
    whole = contents(root)
    assert read_table(layout.scores(root, "jpeg_size", MODEL, "set"), "scores")["score"].nunique() > 2
    for name in SCORERS:
        layout.scores(root, name, MODEL, "set").unlink()
    score_shares(root, shards)
    gathered(root, shards)
    assert contents(root) == whole
    assert not any((root / "score_shards").rglob("*.parquet"))


def share(total: int, batch_size: int, shard: tuple[int, int]) -> range:
    return Numbering(total).share(batch_size, shard)


def test_shares_are_whole_batches() -> None:
    assert [share(14, 3, (index, 2)) for index in range(2)] == [range(6), range(6, 14)]
    for total, batch_size, count in ((14, 3, 7), (1, 64, 3), (128, 64, 2), (5, 1, 5)):
        shares = [share(total, batch_size, (index, count)) for index in range(count)]
        assert [place for one in shares for place in one] == list(range(total))
        assert all(one.start % batch_size == 0 for one in shares if len(one))


def test_shares_that_are_not_of_one_whole_are_refused(root: Path) -> None:
    def refused(message: str) -> None:
        with pytest.raises(InputError, match=message):
            gathered(root, 2)
        assert not layout.scores(root, "jpeg_size", MODEL, "set").exists()

    score_shares(root, 2)
    first, second = read_table(of(root, 0), "scores"), read_table(of(root, 1), "scores")

    write_table(of(root, 1), second.assign(fingerprint="other"), "scores")
    refused(r"1-of-2\.parquet: fingerprint 'other', where 0-of-2\.parquet has .* delete .*score_shards.* run snakemake")
    write_table(of(root, 1), second.assign(protocol="other"), "scores")
    refused(r"1-of-2\.parquet: protocol 'other', where 0-of-2\.parquet has ")
    write_table(of(root, 1), second.iloc[1:], "scores")
    refused("its 13 scores are not those of the 7 prompts, 2 of each, in order; delete .*score_shards")
    write_table(of(root, 1), first, "scores")
    refused("its 12 scores are not those")
    of(root, 1).unlink()
    refused(r"1-of-2\.parquet")
