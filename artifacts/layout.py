"""Where each file of a benchmark lies: the only place that spells these paths.

``root`` is ``results/<benchmark>``. A model's name is ``<base>/<variant>/seed<k>``, or ``<base>/base`` for the
untrained base, or ``<base>/<name>`` for one from elsewhere, and is used as a path. A variant at a step of its training,
``<variant>@<step>``, stands in the place of a variant.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

PAIR_FILES = ("cache.json", "index.parquet")
"""Files of a pair cache beside its shards."""
MODEL_FILES = ("provenance.json", "training.parquet", "drift.parquet")
"""Files of a trained model beside its weights."""


def model_name(base: str, variant: str, seed: int) -> str:
    """Name of a trained model."""
    return f"{base}/{variant}/seed{seed}"


def at_step(variant: str, step: int) -> str:
    """A variant after so many steps of its training, in models' names and in tables; no variant's name has an ``@``."""
    return f"{variant}@{step}"


def base_model_name(base: str) -> str:
    """Name of the untrained base as a model of the table."""
    return f"{base}/base"


def external_model_name(base: str, name: str) -> str:
    """Name of a model from elsewhere as a model of the table."""
    return f"{base}/{name}"


def job_manifest(root: str | Path, stage: str, job: str) -> Path:
    """What a job has written: :mod:`artifacts.job_manifest`."""
    return Path(root) / "jobs" / stage / f"{job}.json"


def prompts(root: str | Path, prompt_set: str) -> Path:
    """Prompt set: contract ``prompts``."""
    return Path(root) / "prompts" / f"{prompt_set}.parquet"


def pairs(root: str | Path, dataset: str, base: str) -> Path:
    """Folder of a pair cache: shards, ``index.parquet``, ``cache.json``."""
    return Path(root) / "pairs" / dataset / base


def model(root: str | Path, name: str) -> Path:
    """Folder of a trained model: ``unet/``, ``training.parquet``, ``drift.parquet``, ``provenance.json``."""
    return Path(root) / "models" / name


def checkpoints(root: str | Path, name: str, digest: str) -> Path:
    """Folder of resumable training state; its name holds the digest of everything that shaped it."""
    return Path(root) / "checkpoints" / name / digest[:16]


def images(root: str | Path, name: str, prompt_set: str) -> Path:
    """Folder of one model's images on one prompt set, with ``manifest.parquet``."""
    return Path(root) / "images" / name / prompt_set


def image_shard(root: str | Path, name: str, prompt_set: str, shard: Sequence[int]) -> Path:
    """Folder of one job's share of the images, job ``shard[0]``, from 0, of ``shard[1]``; as :func:`images`."""
    return Path(root) / "image_shards" / name / prompt_set / f"{shard[0]}-of-{shard[1]}"


def unfinished_images(root: str | Path, name: str, prompt_set: str, digest: str) -> Path:
    """Folder of images that an interrupted job has drawn; its name holds the digest of everything that shapes them."""
    return Path(root) / "unfinished_images" / name / prompt_set / digest[:16]


def prompt_embeddings(root: str | Path, base: str, prompt_set: str, digest: str) -> Path:
    """Text embeddings of a prompt set by a base; the name holds the digest of everything that shapes them."""
    return Path(root) / "prompt_embeddings" / base / f"{prompt_set}-{digest[:16]}.safetensors"


def scorer_record(root: str | Path, scorer: str, fingerprint: str, environment: str) -> Path:
    """What scores were made by, by the scorer's fingerprint and the digest of the environment; beside its scores."""
    return Path(root) / "scores" / scorer / f"{fingerprint[:16]}-{environment[:8]}.json"


def scores(root: str | Path, scorer: str, name: str, prompt_set: str) -> Path:
    """Scores of one scorer: contract ``scores``."""
    return Path(root) / "scores" / scorer / name / f"{prompt_set}.parquet"


def score_shard(root: str | Path, scorer: str, name: str, prompt_set: str, shard: Sequence[int]) -> Path:
    """One job's share of these scores, as in :func:`image_shard`; job 0 of 1 has all of them."""
    if shard[1] == 1:
        return scores(root, scorer, name, prompt_set)
    return Path(root) / "score_shards" / scorer / name / prompt_set / f"{shard[0]}-of-{shard[1]}.parquet"
