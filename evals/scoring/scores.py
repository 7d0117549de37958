"""Scores of one model's images on one prompt set: every image is checked and decoded once for all scorers."""

from __future__ import annotations

import hashlib
import sys
from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from artifacts import layout
from artifacts.atomic import json_sha256, write_json
from artifacts.contracts import CONTRACTS, read_table, write_table
from artifacts.device import take_device
from artifacts.errors import InputError
from artifacts.image_decoding import BrokenImageError, DecodedImage, decode, described, inspect
from artifacts.progress import progress
from evals.images.folder import MANIFEST, read_manifest
from evals.images.read_ahead import read_ahead, share_cores
from evals.networks.interface import RefusedImageError, scorer_record, truncated
from evals.scorers import DEFAULT_PROTOCOL, create
from evals.scoring.score_cache import ScoreCache
from evals.scoring.seen_images import SeenBatch, SeenImage, look

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    from numpy.typing import NDArray

    from evals.networks.interface import Scorer

# Images scored at a time; 40 MB of normalised pixels at 224 x 224.
CHUNK = 64


def score(spec: Mapping[str, Any]) -> None:
    """Score models on prompt sets; each scorer is loaded once. Nothing is written unless every score is there.

    Beside its scores stands what a scorer is and where it ran (:func:`artifacts.layout.scorer_record`).

    Args:
        spec: ``root`` (``results/<benchmark>``); ``models`` and ``prompt_sets`` (names); ``scorers`` (name to
            ``protocol``, ``weights``, ``dtype``, ``implementation`` and ``options``); ``batch_size``; ``threads``;
            ``device`` (left out, a free GPU if there is one); ``cache`` (folder of a score cache; left out, none).

    Raises:
        InputError: a scorer cannot be loaded; for the rest see :func:`score_images`.
    """
    share_cores()
    import torch

    threads = int(spec.get("threads", 1))
    torch.set_num_threads(threads)
    device = spec.get("device") or take_device()
    batch_size = int(spec["batch_size"])
    scorers = {
        name: create(name, **block, device=device, batch_size=batch_size) for name, block in spec["scorers"].items()
    }
    tasks = [(model, prompt_set) for model in spec["models"] for prompt_set in spec["prompt_sets"]]
    sizes = {name: len(read_table(layout.prompts(spec["root"], name), "prompts")) for name in spec["prompt_sets"]}
    tables: dict[Path, pd.DataFrame] = {}
    with (
        ScoreCache(spec["cache"]) if spec.get("cache") else nullcontext() as cache,
        progress(total=sum(sizes[s] for _, s in tasks), label=f"score by {', '.join(scorers)}", unit="image") as bar,
    ):
        for model, prompt_set in tasks:
            images, prompts = layout.images(spec["root"], model, prompt_set), layout.prompts(spec["root"], prompt_set)
            for name, table in score_images(
                scorers, images, prompts, chunk=batch_size, workers=threads, cache=cache, scored=bar.update
            ).items():
                protocol = spec["scorers"][name].get("protocol", DEFAULT_PROTOCOL)
                tables[layout.scores(spec["root"], name, model, prompt_set)] = table.assign(protocol=protocol)
    for name, scorer in scorers.items():
        record = scorer_record(scorer, device=device, batch_size=batch_size)
        write_json(layout.scorer_record(spec["root"], name, scorer.fingerprint, json_sha256(record)), record)
    for path, table in tables.items():
        write_table(path, table, "scores")


@dataclass(frozen=True)
class _Listed:
    """An image as the manifest lists it, and the scorers that do not know its score yet."""

    path: Path
    sha256: str
    unscored: dict[str, Scorer]


def score_images(
    scorers: Mapping[str, Scorer],
    images_dir: str | Path,
    prompts_file: str | Path,
    *,
    chunk: int = CHUNK,
    workers: int = 1,
    cache: ScoreCache | None = None,
    scored: Callable[[int], object] = int,
) -> dict[str, pd.DataFrame]:
    """Contract ``scores`` of each scorer for a folder of images, in the prompt set's order.

    Images are read and decoded in threads beside the models. Scorers that see the same squares share them.

    Args:
        scorers: scorer by name.
        images_dir: folder with ``manifest.parquet`` and the PNG files it lists.
        prompts_file: the prompt set; its prompt ids must be the manifest's, each once.
        chunk: images scored at a time; the next so many are decoded meanwhile.
        workers: threads that read and decode.
        cache: where scores are looked up and kept, in whole chunks: with part of a chunk missing all of it is scored
            again, so that the same images meet in a batch, and their scores are the same to the last bit.
        scored: told the number of images after each chunk.

    Raises:
        InputError: manifest and prompt set do not match; a file is missing, truncated or not the one the manifest
            lists; a scorer gave something else than one finite number an image.
    """
    import numpy as np
    import pandas as pd

    folder = Path(images_dir)
    prompts = read_table(prompts_file, "prompts")
    manifest = read_manifest(folder)
    _check_match(manifest, folder / MANIFEST, prompts, Path(prompts_file))
    rows = prompts.merge(manifest, on="prompt_id", how="left", validate="one_to_one")
    files, digests, texts = list(rows["file"]), list(rows["sha256"]), list(rows["prompt"])
    _check_present(folder, files)

    starts = range(0, len(rows), chunk)
    known = {
        (name, start): _known(cache, scorer, digests[start : start + chunk], texts[start : start + chunk])
        for name, scorer in scorers.items()
        for start in starts
    }
    listed = [
        _Listed(
            folder / file,
            sha256,
            {name: s for name, s in scorers.items() if known[name, index - index % chunk] is None},
        )
        for index, (file, sha256) in enumerate(zip(files, digests, strict=True))
    ]
    scores: dict[str, list[NDArray[np.float64]]] = {name: [] for name in scorers}
    met: Counter[str] = Counter()
    for start, images in zip(starts, read_ahead(_seen, listed, size=chunk, workers=workers), strict=True):
        part, batch = slice(start, start + chunk), SeenBatch(images)
        for name, scorer in scorers.items():
            values = known[name, start]
            if values is None:
                try:
                    values = _checked(
                        name, batch.score(name, scorer, dict(enumerate(texts[part]))), list(rows["prompt_id"][part])
                    )
                except RefusedImageError as error:
                    raise InputError(f"{folder / files[start + error.place]}: {error.reason}") from error
                except InputError as error:
                    raise InputError(f"{folder} with the prompts of {prompts_file}: {error}") from error
                if cache is not None:
                    fingerprints = [scorer.fingerprint] * len(images)
                    cache.put(zip(fingerprints, digests[part], texts[part], values.tolist(), strict=True))
            scores[name].append(values)
        met.update(name for image in images for name in image.met)
        scored(len(images))
    if met:
        print(f"{folder}: not plain RGB: {described(met)}", file=sys.stderr)
    return {
        name: pd.DataFrame(
            {
                "prompt_id": rows["prompt_id"],
                "score": np.concatenate(parts) if parts else np.empty(0),
                "truncated": truncated(scorers[name], texts),
                "image_sha256": rows["sha256"],
                "fingerprint": [str(scorers[name].fingerprint)] * len(rows),
            }
        )
        for name, parts in scores.items()
    }


def _known(
    cache: ScoreCache | None, scorer: Scorer, digests: list[str], prompts: list[str]
) -> NDArray[np.float64] | None:
    """Scores of a chunk from the cache, if it has all of them."""
    import numpy as np

    if cache is None:
        return None
    keys = [(scorer.fingerprint, digest, prompt) for digest, prompt in zip(digests, prompts, strict=True)]
    values = [cache.get(*key) for key in keys]
    if None in values:
        return None
    cache.touch(keys)
    return np.array(values, dtype=np.float64)


def _seen(listed: _Listed) -> SeenImage:
    """What the scorers without a score see of an image; its file is read and checked even if there is none."""
    if not listed.unscored:
        return SeenImage(met=inspect(read_content(listed.path, listed.sha256)))
    decoded = read_image(listed.path, listed.sha256)
    return look(decoded.image, listed.unscored, decoded.met)


def read_content(path: Path, sha256: str) -> bytes:
    """Content of a file that has the digest ``sha256``.

    Raises:
        InputError: the file is missing, or its digest is another (truncated or replaced).
    """
    remedy = CONTRACTS["manifest"].remedy
    try:
        content = path.read_bytes()
    except OSError as error:
        raise InputError(f"{path}: listed in the manifest, but cannot be read; {remedy}") from error
    if hashlib.sha256(content).hexdigest() != sha256:
        raise InputError(f"{path}: truncated or changed, its sha256 is not the manifest's; {remedy}")
    return content


def read_image(path: Path, sha256: str) -> DecodedImage:
    """A decoded image whose file has the digest ``sha256``.

    Raises:
        InputError: as :func:`read_content`, or it is no image.
    """
    content = read_content(path, sha256)
    try:
        return decode(content)
    except BrokenImageError as error:
        raise InputError(f"{path}: not a readable image ({error}); {CONTRACTS['manifest'].remedy}") from error


def _check_match(manifest: pd.DataFrame, manifest_file: Path, prompts: pd.DataFrame, prompts_file: Path) -> None:
    for table, file, contract in ((prompts, prompts_file, "prompts"), (manifest, manifest_file, "manifest")):
        repeated = table["prompt_id"][table["prompt_id"].duplicated()]
        if len(repeated):
            raise InputError(f"{file}: prompt_id '{repeated.iloc[0]}' stands there twice; {CONTRACTS[contract].remedy}")
    listed, wanted = set(manifest["prompt_id"]), set(prompts["prompt_id"])
    remedy = CONTRACTS["manifest"].remedy
    if missing := sorted(wanted - listed):
        raise InputError(
            f"{manifest_file}: no image for prompt_id '{missing[0]}' of {prompts_file} "
            f"({len(missing)} in all); {remedy}"
        )
    if extra := sorted(listed - wanted):
        raise InputError(
            f"{manifest_file}: prompt_id '{extra[0]}' is not in {prompts_file} ({len(extra)} in all); {remedy}"
        )


def _check_present(folder: Path, files: list[str]) -> None:
    """Look for all files first, so that a missing one is not found after an hour of scoring."""
    remedy = CONTRACTS["manifest"].remedy
    for file in files:
        if not (folder / file).is_file():
            raise InputError(f"{folder / file}: listed in the manifest, but missing; {remedy}")


def _checked(name: str, values: NDArray[np.float64], prompt_ids: list[str]) -> NDArray[np.float64]:
    import numpy as np

    if len(bad := np.flatnonzero(~np.isfinite(values))):
        raise InputError(
            f"scorer '{name}': the score of prompt_id '{prompt_ids[bad[0]]}' is {values[bad[0]]}; "
            "use dtype 'float32' or check the weights"
        )
    return values
