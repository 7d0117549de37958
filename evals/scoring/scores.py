"""Stage ``score``: scores of models' images on prompt sets, each image the one that its manifest lists."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

from artifacts import layout
from artifacts.atomic import json_sha256, write_json
from artifacts.block import checked
from artifacts.contracts import CONTRACTS, read_table, write_table
from artifacts.device import take_device
from artifacts.errors import InputError
from artifacts.image_decoding import described
from artifacts.progress import progress
from evals.images.folder import MANIFEST, read_manifest
from evals.images.matching import PromptedImage
from evals.images.numbering import Numbering
from evals.images.read_ahead import share_cores
from evals.networks.interface import scorer_record
from evals.scorers import DEFAULT_PROTOCOL, create
from evals.scoring.items import BATCH, NoScoreError, score_items
from evals.scoring.score_cache import ScoreCache
from evals.scoring.settings import ScoreSpec

if TYPE_CHECKING:
    import pandas as pd

    from evals.networks.interface import Scorer

_WRONG = {
    "absent": "listed in the manifest, but missing",
    "unreadable": "listed in the manifest, but cannot be read",
    "changed": "truncated or changed, its sha256 is not the manifest's",
    "broken": "not a readable image ({})",
}
"""What is wrong with an image that has no score, by :attr:`evals.scoring.items.NoScoreError.kind`."""


def score(spec: Mapping[str, Any]) -> None:
    """Score models on prompt sets; each scorer is loaded once. Nothing is written unless every score is there.

    Beside its scores stands what a scorer is and where it ran (:func:`artifacts.layout.scorer_record`).

    Args:
        spec: a :class:`evals.scoring.settings.ScoreSpec`.

    Raises:
        InputError: a bad setting; a scorer cannot be loaded; for the rest see :func:`score_images`.
    """
    job = checked(ScoreSpec, spec, "evals score")
    share_cores()
    import torch

    torch.set_num_threads(job.threads)
    device, root, batch_size = job.device or take_device(), job.root, job.batch_size
    of_set = {prompt_set: job.raters(prompt_set) for prompt_set in job.prompt_sets}
    scorers = {
        name: create(name, **settings.model_dump(exclude_none=True), device=device, batch_size=batch_size)
        for name, settings in job.scorers.items()
        if any(name in names for names in of_set.values())
    }
    tasks = [(model, prompt_set) for model in job.models for prompt_set, names in of_set.items() if names]
    several = {name: job.images_per_prompt.get(name, 1) for name in job.prompt_sets}
    sizes = {name: len(read_table(layout.prompts(root, name), "prompts")) * several[name] for name in job.prompt_sets}
    own = {name: Numbering(size).share(batch_size, job.shard) for name, size in sizes.items()}
    tables: dict[Path, pd.DataFrame] = {}
    with (
        ScoreCache(job.cache) if job.cache else nullcontext() as cache,
        progress(total=sum(len(own[s]) for _, s in tasks), label=f"score by {', '.join(scorers)}", unit="image") as bar,
    ):
        for model, prompt_set in tasks:
            images, prompts = layout.images(root, model, prompt_set), layout.prompts(root, prompt_set)
            chosen = {name: scorers[name] for name in of_set[prompt_set]}
            for name, table in score_images(
                chosen,
                images,
                prompts,
                several[prompt_set],
                part=own[prompt_set],
                batch_size=batch_size,
                workers=job.threads,
                cache=cache,
                scored=bar.update,
            ).items():
                protocol = job.scorers[name].protocol or DEFAULT_PROTOCOL
                tables[layout.score_shard(root, name, model, prompt_set, job.shard)] = table.assign(protocol=protocol)
    for name, scorer in scorers.items():
        record = scorer_record(scorer, device=device, batch_size=batch_size)
        write_json(layout.scorer_record(root, name, scorer.fingerprint, json_sha256(record)), record)
    for path, table in tables.items():
        write_table(path, table, "scores")


def score_images(
    scorers: Mapping[str, Scorer],
    images_dir: str | Path,
    prompts_file: str | Path,
    images_per_prompt: int = 1,
    *,
    part: range | None = None,
    batch_size: int = BATCH,
    workers: int = 1,
    cache: ScoreCache | None = None,
    scored: Callable[[int], object] = int,
) -> dict[str, pd.DataFrame]:
    """Contract ``scores`` of each scorer but its protocol for a folder of images, the first of every prompt in the
    prompt set's order, then the second, ….

    Args:
        scorers: scorer by name.
        images_dir: folder with ``manifest.parquet`` and the PNG files it lists.
        prompts_file: the prompt set; its prompt ids must be the manifest's.
        images_per_prompt: how many images the manifest must have of each.
        part: places of the images that are wanted, in that order; all by default.
        batch_size, workers, cache, scored: as of :func:`evals.scoring.items.score_items`.

    Raises:
        InputError: manifest and prompt set do not match; a file is missing, truncated or not the one the manifest
            lists; a scorer gave something else than one finite number an image.
    """
    import pandas as pd

    folder = Path(images_dir)
    prompts = read_table(prompts_file, "prompts")
    manifest = read_manifest(folder)
    wanted = pd.concat([prompts.assign(image=image) for image in range(images_per_prompt)], ignore_index=True)
    _check_match(manifest, folder / MANIFEST, wanted, Path(prompts_file))
    rows = wanted.merge(manifest, on=["prompt_id", "image"], how="left", validate="one_to_one")
    if part is not None:
        rows = rows.iloc[part.start : part.stop].reset_index(drop=True)
    columns = (rows[name].tolist() for name in ("file", "prompt", "prompt_id", "sha256", "image"))
    items = [PromptedImage(*row) for row in zip(*columns, strict=True)]
    try:
        found = score_items(scorers, folder, items, batch_size=batch_size, workers=workers, cache=cache, scored=scored)
    except NoScoreError as error:
        if error.kind == "refused":
            raise
        what = _WRONG[error.kind].format(error.reason)
        raise InputError(f"{error.path}: {what}; {CONTRACTS['manifest'].remedy}") from error
    except InputError as error:
        raise InputError(f"{folder} with the prompts of {prompts_file}: {error}") from error
    if found.met:
        print(f"{folder}: not plain RGB: {described(found.met)}", file=sys.stderr)
    texts = [item.prompt for item in items]
    return {
        name: pd.DataFrame(
            {"prompt_id": rows["prompt_id"], "image": rows["image"], **found.columns(name, scorer, texts)}
        )
        for name, scorer in scorers.items()
    }


def _check_match(manifest: pd.DataFrame, manifest_file: Path, wanted: pd.DataFrame, prompts_file: Path) -> None:
    """Each image that is wanted is listed once, and no other."""
    keys = {}
    for table, file, contract in ((wanted, prompts_file, "prompts"), (manifest, manifest_file, "manifest")):
        keys[contract] = list(zip(table["prompt_id"], table["image"], strict=True))
        repeated = table[["prompt_id", "image"]].duplicated()
        if repeated.any():
            what = _called(*keys[contract][int(repeated.argmax())])
            raise InputError(f"{file}: {what} stands there twice; {CONTRACTS[contract].remedy}")
    remedy = CONTRACTS["manifest"].remedy
    if missing := sorted(set(keys["prompts"]) - set(keys["manifest"])):
        number = f"image {missing[0][1]}" if missing[0][1] else "image"
        raise InputError(
            f"{manifest_file}: no {number} for prompt_id '{missing[0][0]}' of {prompts_file} "
            f"({len(missing)} in all); {remedy}"
        )
    if extra := sorted(set(keys["manifest"]) - set(keys["prompts"])):
        what = "is more than the config asks for" if extra[0][1] else f"is not in {prompts_file}"
        raise InputError(f"{manifest_file}: {_called(*extra[0])} {what} ({len(extra)} in all); {remedy}")


def _called(prompt_id: str, image: int) -> str:
    return f"{f'image {image} of ' if image else ''}prompt_id '{prompt_id}'"
