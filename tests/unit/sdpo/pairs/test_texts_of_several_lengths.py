"""A pair cache of prompts that are not all equally long, as of a base that takes no mask."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from artifacts.contracts import read_table
from artifacts.errors import InputError
from sdpo.bases import open_described
from sdpo.pairs import cache


@pytest.mark.slow
@pytest.mark.parametrize("store", ["latents", "images"])
def test_prompts_come_back_as_they_were_encoded(
    store: str, tiny_flows: dict[str, Path], tiny_pipelines: Any, build_tiny_cache: Callable[..., None], tmp_path: Path
) -> None:
    language = tiny_pipelines.ovis_u1_language()
    described: Any = {"name": "tiny", "family": "ovis_u1", "path": str(tiny_flows["ovis_u1"]), "language": language}
    build_tiny_cache(described, tmp_path / "pairs", shard_pairs=5, store=store)
    base = open_described(described)
    pairs = cache.load(tmp_path / "pairs", "train", base=base)
    rows = torch.arange(len(pairs)).flip(0)
    empty = rows == 3
    told = pairs.prompts(rows, empty)
    texts = read_table(tmp_path / "pairs/index.parquet", "pairs_index")
    split = texts[(texts["split"] == "train") & (texts["label"] == 1)]["prompt"].tolist()
    expected = base.encode_prompts(["" if row == 3 else split[row] for row in rows.tolist()])
    assert len(expected["text_lengths"].unique()) > 2
    assert told.keys() == expected.keys()
    assert torch.equal(told["text_lengths"], expected["text_lengths"])
    torch.testing.assert_close(told["text"], expected["text"], rtol=1e-5, atol=1e-6)
    cache.check_fits(tmp_path / "pairs", base)
    other = open_described({**described, "language": {**language, "revision": "1" * 40}})
    if store == "latents":
        with pytest.raises(InputError, match=r"was encoded with another 'revision' than this base has"):
            cache.check_fits(tmp_path / "pairs", other)
