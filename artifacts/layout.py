"""Where each file of a benchmark lies: the only place that spells these paths.

``root`` is ``results/<benchmark>``. A model's name is ``<base>/<variant>/seed<k>``, or ``<base>/base`` for the
untrained base, and is used as a path.
"""

from __future__ import annotations

from pathlib import Path


def model_name(base: str, variant: str, seed: int) -> str:
    """Name of a trained model."""
    return f"{base}/{variant}/seed{seed}"


def base_model_name(base: str) -> str:
    """Name of the untrained base as a model of the table."""
    return f"{base}/base"


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


def scores(root: str | Path, scorer: str, name: str, prompt_set: str) -> Path:
    """Scores of one scorer: contract ``scores``."""
    return Path(root) / "scores" / scorer / name / f"{prompt_set}.parquet"
