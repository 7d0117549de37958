"""The pair cache: latents of winners and losers, text embeddings of unique prompts, and an index.

A folder of ``shard-00000.safetensors`` … (``winner_latents``, ``loser_latents``: (N, C, H, W)),
``text.safetensors`` (``embeddings`` (U, T, D), ``empty`` (1, T, D)), ``index.parquet`` and ``cache.json``.
Ties are kept in the index with label 0.5, in the order of the source, and not trained on.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from artifacts.atomic import file_sha256, json_sha256, replaced_directory, tree_sha256, write_json
from artifacts.contracts import read_table, write_table
from artifacts.errors import InputError
from artifacts.progress import progress
from artifacts.provenance import describe

if TYPE_CHECKING:
    import pandas as pd
    import torch

SHARD_PAIRS = 4096


def build(spec: Mapping[str, Any]) -> None:
    """Read a source, encode its images and prompts with the base, and write the cache.

    Args:
        spec: ``dataset``, ``source``, ``options``, ``base`` (``family``, ``path``), ``out``.

    Raises:
        InputError: the source has no pair that can be trained on.
    """
    import pandas as pd
    from safetensors.torch import save_file

    from sdpo import pairs as sources
    from sdpo.bases import open_base

    started = time.time()
    base_path = Path(spec["base"]["path"])
    base = open_base(spec["base"]["family"], base_path)
    read = sources.read(spec["source"], spec["options"], base_path=base_path)
    pairs = iter(progress(read, label=f"pair set {spec['dataset']}", unit="pair"))
    rows: list[dict[str, Any]] = []
    prompts: dict[str, int] = {}
    digests: dict[str, str] = {}
    with replaced_directory(spec["out"]) as folder:
        while block := list(islice(pairs, SHARD_PAIRS)):
            shard = f"shard-{len(digests):05d}.safetensors"
            # A lost pair is turned round, so that the first image of every row is the winner or the first of a tie.
            winners = [pair.images[1 if pair.label == 0 else 0] for pair in block]
            losers = [pair.images[0 if pair.label == 0 else 1] for pair in block]
            latents = {
                "winner_latents": base.encode_images(winners).cpu().contiguous(),
                "loser_latents": base.encode_images(losers).cpu().contiguous(),
            }
            save_file(latents, folder / shard)
            digests[shard] = file_sha256(folder / shard)
            for i, pair in enumerate(block):
                rows.append(
                    {
                        "pair_id": len(rows),
                        "prompt": pair.prompt,
                        "prompt_index": prompts.setdefault(pair.prompt, len(prompts)),
                        "split": pair.split,
                        "label": max(pair.label, 1 - pair.label),
                        "shard": shard,
                        "row": i,
                    }
                )
        index = pd.DataFrame(rows)
        if index.empty or not ((index["label"] == 1) & (index["split"] == "train")).any():
            raise InputError(f"pairs '{spec['dataset']}': no pair with a winner in the train split; check its options")
        embeddings = base.encode_prompts(["", *prompts]).cpu()
        save_file(
            {"empty": embeddings[:1].contiguous(), "embeddings": embeddings[1:].contiguous()},
            folder / "text.safetensors",
        )
        digests["text.safetensors"] = file_sha256(folder / "text.safetensors")
        write_table(folder / "index.parquet", index, "pairs_index")
        digests["index.parquet"] = file_sha256(folder / "index.parquet")
        shaping = {k: spec[k] for k in ("dataset", "source", "options", "base", "stage_version")}
        provenance = describe(
            stage="pairs", spec=shaping, inputs={str(base_path): tree_sha256(base_path)}, started=started
        )
        counts = {
            "pairs": len(index),
            "ties": int((index["label"] == 0.5).sum()),
            "train": int(((index["label"] == 1) & (index["split"] == "train")).sum()),
            "heldout": int(((index["label"] == 1) & (index["split"] == "heldout")).sum()),
            "prompts": len(prompts),
        }
        write_json(folder / "cache.json", {"files": digests, "counts": counts, "provenance": provenance})


@dataclass(frozen=True)
class PairTensors:
    """Pairs of one split in memory, ties dropped; all tensors float32 on the CPU.

    Attributes:
        winner, loser: scaled latents (N, C, H, W).
        prompt_index: row of ``embeddings`` for each pair, (N,).
        embeddings: (U, T, D) text embeddings.
        empty: (1, T, D) embedding of the empty prompt.
    """

    winner: torch.Tensor
    loser: torch.Tensor
    prompt_index: torch.Tensor
    embeddings: torch.Tensor
    empty: torch.Tensor

    def __len__(self) -> int:
        return len(self.winner)


def content_sha256(folder: Path) -> str:
    """Digest of what a cache holds; that it was built again, at another time, does not show in it.

    Raises:
        InputError: ``cache.json`` is missing or damaged.
    """
    return json_sha256(_digests(folder))


def _digests(folder: Path) -> dict[str, str]:
    """SHA-256 of each file of a cache."""
    try:
        digests: dict[str, str] = json.loads((folder / "cache.json").read_text())["files"]
    except (OSError, ValueError, KeyError) as error:
        raise InputError(
            f"{folder / 'cache.json'}: missing or damaged; delete {folder} and run snakemake again"
        ) from error
    return digests


def load(folder: Path, split: str) -> PairTensors:
    """Read a cache.

    Args:
        folder: the cache.
        split: ``train`` or ``heldout``.

    Raises:
        InputError: a file is missing or is not the one that was written, or the split is empty.
    """
    import torch
    from safetensors.torch import load_file

    # First, since it can say what is wrong with the table.
    index: pd.DataFrame = read_table(folder / "index.parquet", "pairs_index")
    for name, digest in _digests(folder).items():
        if not (folder / name).is_file() or file_sha256(folder / name) != digest:
            raise InputError(f"{folder / name}: missing or damaged; delete {folder} and run snakemake again")
    chosen = index[(index["split"] == split) & (index["label"] == 1)]
    if chosen.empty:
        raise InputError(f"{folder}: split '{split}' has no pair with a winner; raise the number of pairs")
    text = load_file(folder / "text.safetensors")
    winners, losers = [], []
    for shard, rows in chosen.groupby("shard", sort=True):
        tensors = load_file(folder / str(shard))
        picked = torch.from_numpy(rows["row"].to_numpy().copy())
        winners.append(tensors["winner_latents"][picked].float())
        losers.append(tensors["loser_latents"][picked].float())
    return PairTensors(
        winner=torch.cat(winners),
        loser=torch.cat(losers),
        prompt_index=torch.from_numpy(chosen["prompt_index"].to_numpy().copy()),
        embeddings=text["embeddings"].float(),
        empty=text["empty"].float(),
    )
