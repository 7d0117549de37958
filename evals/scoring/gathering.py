"""Stage ``gather``: scores that several jobs have given to a share of the images each, put together."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from artifacts import layout
from artifacts.block import checked
from artifacts.contracts import read_table, write_table
from artifacts.errors import InputError
from evals.images.shares import joined
from evals.scoring.settings import GatherSpec

if TYPE_CHECKING:
    import pandas as pd


def gather(spec: Mapping[str, Any]) -> None:
    """Put the scores together as if one job had given them all, and remove the shares.

    Args:
        spec: a :class:`evals.scoring.settings.GatherSpec`.

    Raises:
        InputError: a bad setting; a share is missing or of another scorer; the shares do not make up the prompt set.
    """
    job = checked(GatherSpec, spec, "evals gather")
    tables: dict[Path, pd.DataFrame] = {}
    folders = []
    for scorer, names in job.rated.items():
        for model in job.models:
            for name in names:
                places = [(index, job.shards) for index in range(job.shards)]
                shares = [layout.score_shard(job.root, scorer, model, name, place) for place in places]
                prompts, images = layout.prompts(job.root, name), job.images_per_prompt.get(name, 1)
                tables[layout.scores(job.root, scorer, model, name)] = _whole(shares, prompts, images)
                folders.append(shares[0].parent)
    for path, table in tables.items():
        write_table(path, table, "scores")
    # Not before: a job that is killed starts again, and needs them all.
    for folder in folders:
        shutil.rmtree(folder)


def _whole(shares: list[Path], prompts: Path, images: int) -> pd.DataFrame:
    tables = [read_table(share, "scores") for share in shares]
    ids = list(read_table(prompts, "prompts")["prompt_id"])
    whole = joined(tables, ids, images, where=shares[0].parent, what="scores")
    for share, table in zip(shares, tables, strict=True):
        for column in ("protocol", "fingerprint"):
            if len(table) and (found := table[column].iloc[0]) != (first := whole[column].iloc[0]):
                raise InputError(
                    f"{share}: {column} '{str(found)[:16]}', where {shares[0].name} has '{str(first)[:16]}': scored by "
                    f"another scorer or other weights; delete {share.parent} and run snakemake again"
                )
    return whole
