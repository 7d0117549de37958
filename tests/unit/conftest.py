"""A finished benchmark on disk, tiny but with every file, for the tests of what reads one."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from artifacts import layout
from artifacts.atomic import write_json
from artifacts.contracts import CONTRACTS, write_table
from evals.tables import write_tables
from evals.tables.comparison import ComparedModel, Comparison, Statistics

HOSTILE = '<script>alert(1)</script> & "x"'


def finished_benchmark(
    root: Path,
    *,
    variants: Mapping[str, tuple[str, str, str | None]],
    prompts: Mapping[str, tuple[str, ...]],
    scorers: Mapping[str, str],
    seeds: int,
    steps: int = 20,
    size: int = 8,
) -> Comparison:
    """Write every input of report and tracking below ``root``.

    ``variants`` maps a trained variant to its objective, pair set and baseline; ``prompts`` a set to its texts.
    """
    models = [ComparedModel(name="mini/base", base="mini", variant="base")]
    for variant, (objective, pairs, baseline) in variants.items():
        for seed in range(seeds):
            name = layout.model_name("mini", variant, seed)
            models.append(
                ComparedModel(
                    name=name,
                    base="mini",
                    variant=variant,
                    objective=objective,
                    safeguard=baseline is not None,
                    seed=seed,
                    pairs=pairs,
                    baseline=baseline,
                )
            )
    comparison = Comparison("toy", root, tuple(models), tuple(prompts), dict(scorers), Statistics())
    generator = np.random.default_rng(0)
    for prompt_set, texts in prompts.items():
        ids = [f"{prompt_set}-{index:05d}" for index in range(len(texts))]
        frame = pd.DataFrame({"prompt_id": ids, "prompt": texts, "category": "", "source": "test"})
        write_table(layout.prompts(root, prompt_set), frame, "prompts")
        for model in models:
            folder = layout.images(root, model.name, prompt_set)
            manifest = _write_images(folder, ids, size, generator)
            _write_provenance(folder, "generate", {"model": model.name, "generation": {"steps": 10}}, wall_seconds=7.0)
            for scorer in scorers:
                frame = pd.DataFrame(
                    {
                        "prompt_id": ids,
                        "protocol": scorers[scorer],
                        "score": generator.normal(0.5 + 0.1 * model.safeguard, 0.1, len(ids)),
                        "truncated": False,
                        "image_sha256": manifest["sha256"],
                        "fingerprint": scorer,
                    }
                )
                write_table(layout.scores(root, scorer, model.name, prompt_set), frame, "scores")
    for model in models:
        if model.seed is not None:
            _write_training(layout.model(root, model.name), model, steps, generator)
    write_tables(comparison)
    return comparison


def _write_images(folder: Path, ids: list[str], size: int, generator: np.random.Generator) -> pd.DataFrame:
    folder.mkdir(parents=True)
    rows = []
    for index, prompt_id in enumerate(ids):
        pixels = np.full((size, size, 3), generator.integers(0, 256, 3), dtype=np.uint8)
        pixels[size // 4 : size // 2, size // 4 : -2] = generator.integers(0, 256, 3)
        path = folder / f"{index:05d}.png"
        Image.fromarray(pixels).save(path)
        rows.append((prompt_id, path.name, 100 + index, hashlib.sha256(path.read_bytes()).hexdigest()))
    manifest = pd.DataFrame(rows, columns=["prompt_id", "file", "seed", "sha256"])
    write_table(folder / "manifest.parquet", manifest, "manifest")
    return manifest


def _write_training(folder: Path, model: ComparedModel, steps: int, generator: np.random.Generator) -> None:
    step = np.arange(1, steps + 1)
    noise = generator.normal(0, 0.02, steps)
    slope = -1e-4 if model.safeguard else 5e-4
    written = [name for name, column in CONTRACTS["training"].columns.items() if not column.optional]
    training = pd.DataFrame(dict.fromkeys(written, 0.0), index=range(steps))
    training["step"] = step
    training["loss"] = 0.7 + noise
    training["safe_scale_mean"] = np.clip(0.6 + noise, 0, 1) if model.safeguard else 1.0
    if model.objective == "sft":
        training["safe_scale_mean"] = None
        training["safe_scale_mean"] = training["safe_scale_mean"].astype(float)
    training["peak_memory_bytes"] = 1 << 20
    write_table(folder / "training.parquet", training, "training")
    at = np.linspace(0, steps, 6).astype(int)
    winner = slope * at * (1 + 0.2 * (model.seed or 0))
    drift = pd.DataFrame(
        {
            "step": at,
            "winner_drift": winner,
            "loser_drift": 2 * abs(slope) * at,
            "margin": 2 * abs(slope) * at - winner,
            "implicit_accuracy": 0.5 + 0.02 * np.arange(6),
            "pairs": 64,
        }
    )
    write_table(folder / "drift.parquet", drift, "drift")
    spec = {"objective": {"name": model.objective, "beta": 2000.0}, "batch_size": 16, "layers": [1, 2]}
    _write_provenance(folder, "train", spec, seed=model.seed, wall_seconds=65.4)


def _write_provenance(folder: Path, stage: str, spec: dict[str, Any], *, wall_seconds: float, **more: Any) -> None:
    write_json(
        folder / "provenance.json",
        {
            "stage": stage,
            "spec": {**spec, **more},
            "config_sha256": hashlib.sha256(json.dumps(spec).encode()).hexdigest(),
            "inputs": {"pairs/cache.json": "0" * 64},
            "git_commit": "0123456789abcdef0123456789abcdef01234567",
            "git_dirty": True,
            "packages": {"torch": "2.14.0", "numpy": "2.4.1"},
            "python": "3.11.7",
            "hardware": {"machine": "x86_64", "system": "Linux", "cores": 2},
            "started": "2026-11-23T20:00:00Z",
            "wall_seconds": wall_seconds,
        },
    )


@pytest.fixture(scope="session")
def tiny_benchmark_template(tmp_path_factory: pytest.TempPathFactory) -> Comparison:
    """Base, ``dmpo`` and ``dmpo+sdpo``, 2 seeds, 2 prompt sets, 2 scorers, and a hostile prompt; not to be changed."""
    return finished_benchmark(
        tmp_path_factory.mktemp("template") / "toy",
        variants={"dmpo": ("dmpo", "renders", None), "dmpo+sdpo": ("dmpo", "renders", "dmpo")},
        prompts={"seen": ("a red disc", HOSTILE, "a blue square"), "held-out": ("a green ring", "a $5 note_{x}")},
        scorers={"pickscore": "sdpo", "oracle": "exact"},
        seeds=2,
    )


@pytest.fixture
def tiny_benchmark(tiny_benchmark_template: Comparison, tmp_path: Path) -> Comparison:
    """A copy of the template that a test may change."""
    root = tmp_path / "toy"
    shutil.copytree(tiny_benchmark_template.root, root)
    return replace(tiny_benchmark_template, root=root)
