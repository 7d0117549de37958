"""Diversity of a prompt's several images: the Vendi score of their CLIP embeddings (``evals diversity``).

Friedman and Dieng, The Vendi Score (TMLR 2023, arXiv:2210.02410). Of n unit vectors with cosines K it is the
exponential of the entropy of the eigenvalues of K / n: the number of different images that they amount to, 1 to n. It
describes, and says nothing of quality: noise is diverse.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from artifacts import layout
from artifacts.atomic import file_sha256, write_json
from artifacts.contracts import read_table, write_table
from artifacts.errors import InputError
from artifacts.image_decoding import decode
from artifacts.progress import progress
from evals.images.folder import read_manifest
from evals.judges.imported import Judge, check_shared, checked_image, record

if TYPE_CHECKING:
    from PIL.Image import Image

    from evals.networks.open_clip_model import Convention

NAME = "vendi"


def vendi(embeddings: NDArray[np.floating[Any]]) -> float:
    """Vendi score of n embeddings (n, D), of any length but zero; 1 to n."""
    vectors = np.asarray(embeddings, dtype=np.float64)
    vectors = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    values = np.linalg.eigvalsh(vectors @ vectors.T / len(vectors))
    values = values[values > 0.0]
    return float(np.exp(-(values * np.log(values)).sum()))


@dataclass(frozen=True)
class Tower:
    """An image tower: pictures to embeddings (N, D), and the digest of its weights."""

    embed: Callable[[Sequence[Image]], NDArray[np.float32]]
    sha256: str


def clip_tower(weights: str | Path, *, device: str = "cpu", batch_size: int = 64) -> Tower:
    """The image tower of the scorer ``clip``.

    Args:
        weights: as for that scorer.
        device: as torch spells it.
        batch_size: images a forward pass.

    Raises:
        InputError: the weights are missing or not those of their configuration.
    """
    import torch

    from artifacts.weight_files import read_state_dict
    from evals.networks import open_clip_model
    from evals.networks.interface import exact_float32, torch_device
    from evals.networks.weights import load_strictly
    from evals.scorers.clip import CONVENTIONS, WEIGHTS

    convention: Convention = CONVENTIONS["sdpo"]
    patterns = (open_clip_model.WEIGHT_FILE, "open_clip_pytorch_model.bin")
    file, config = open_clip_model.find(weights, "clip", WEIGHTS, patterns)
    model_cfg, preprocessing = open_clip_model.read_config(config, convention)
    where = torch_device(device)
    with torch.device(where):
        model = open_clip_model.build(model_cfg)
    load_strictly(model, read_state_dict(file), file)
    model.eval()

    def embed(images: Sequence[Image]) -> NDArray[np.float32]:
        found = []
        with torch.inference_mode(), exact_float32():
            for start in range(0, len(images), batch_size):
                squares = preprocessing.squares(images[start : start + batch_size])
                pixels = preprocessing.normalise(squares.to(where)).float()
                found.append(open_clip_model.image_embedding(model, pixels).cpu().numpy())
        return np.concatenate(found)

    return Tower(embed, file_sha256(file))


def diversity(root: str | Path, model: str, prompt_set: str, tower: Tower) -> Path:
    """Write the Vendi score of each prompt of a set with several images a prompt, as a score of each of its images.

    Returns:
        The score file, as of a judge: ``evals compare`` shows it.

    Raises:
        InputError: there are no such images, one a prompt, or one of them has changed.
    """
    import pandas as pd

    root = Path(root)
    folder, out = layout.images(root, model, prompt_set), layout.scores(root, NAME, model, prompt_set)
    manifest, prompts = read_manifest(folder), read_table(layout.prompts(root, prompt_set), "prompts")
    counts = manifest.groupby("prompt_id").size()
    if counts.min() < 2 or set(counts.index) != set(prompts["prompt_id"]):
        raise InputError(
            f"{folder}: has prompts with fewer than two images, which have no diversity; see images_per_prompt"
        )
    found = {}
    with progress(total=len(manifest), label=f"diversity of {model} on {prompt_set}", unit="image") as bar:
        for prompt_id, rows in manifest.groupby("prompt_id", sort=False):
            contents = [
                checked_image(folder / f, sha256) for f, sha256 in zip(rows["file"], rows["sha256"], strict=True)
            ]
            found[prompt_id] = vendi(tower.embed([decode(content).image for content in contents]))
            bar.update(len(rows))
    judge = Judge(NAME, f"clip image embeddings, weights {tower.sha256[:12]}", "vendi", NAME, judges=False)
    table = manifest[["prompt_id", "image"]].assign(score=manifest["prompt_id"].map(found), truncated=False)
    table = table.assign(image_sha256=manifest["sha256"], fingerprint=judge.fingerprint, protocol=judge.protocol)
    check_shared(root, judge)
    write_json(out.with_suffix(".import.json"), {**record(judge), "weights_sha256": tower.sha256})
    write_table(out, pd.DataFrame(table), "scores")
    return out
