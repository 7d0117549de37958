"""Training of many small models at once: all variants and seeds of a job in one stack."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any, Final

from artifacts import layout
from artifacts.atomic import file_sha256, json_sha256, replaced_directory, tree_sha256, write_json
from artifacts.contracts import write_table
from artifacts.provenance import describe
from sdpo.training import checkpoint
from sdpo.training.settings import TrainingSettings, without_run_settings
from worlds.toy_surface.base import WEIGHTS, SurfaceBase
from worlds.toy_surface.point_pairs import Points
from worlds.toy_surface.stack_run import OWN_SETTINGS, StackRun

OWNER: Final = "base family 'toy_surface'"
HAS: Final = (
    *("steps", "batch_size", "learning_rate", "warmup_steps", "optimizer", "weight_decay", "max_grad_norm"),
    *("log_every", "checkpoint_every", "drift_every", "heldout_pairs", "threads"),
)
"""Settings of the common trainer that these models have; all others are refused."""
INSTEAD: Final = {"micro_batch_size": "; for one λ of N pairs the safeguard has granularity: N"}


def train_together(specs: Sequence[Mapping[str, Any]]) -> None:
    """Train several variants, each for all its seeds.

    Args:
        specs: specs of ``sdpo train``; those that follow one another and differ in objective, learning rate and
            clipping only share a stack.

    Raises:
        InputError: bad settings or damaged input files.
    """
    states = [_train_stack(list(group)) for _, group in groupby(specs, key=_shared)]
    # A workflow deletes all outputs of a job that was killed: until the last stack is done, finished ones keep their
    # state, from which they are written again.
    for state in states:
        checkpoint.remove(state)


def _shared(spec: Mapping[str, Any]) -> str:
    """Digest of what the variants of a stack have in common."""
    training = {key: value for key, value in spec["training"].items() if key not in OWN_SETTINGS}
    return json_sha256([training, *(spec[key] for key in ("base", "pairs", "seeds"))])


def _train_stack(specs: Sequence[Mapping[str, Any]]) -> Path:
    """Train one stack and write its models; the folder of its state."""
    import torch

    from sdpo import bases, objectives
    from sdpo.pairs import cache

    first = specs[0]
    settings = [TrainingSettings(**spec["training"]) for spec in specs]
    for each in settings:
        each.refuse_all_but(OWNER, HAS, INSTEAD)
    torch.set_num_threads(settings[0].threads)
    # Linux's C library gives freed memory back at once, and each step waits for the same pages anew. A large block that
    # is freed raises its limits, to 32 MB at most (mallopt(3), M_MMAP_THRESHOLD): a step takes a tenth less.
    torch.empty(31 * 2**20, dtype=torch.uint8)
    base_path, pairs = Path(first["base"]["path"]), Path(first["pairs"])
    base = SurfaceBase(base_path)
    asked = [spec["objective"] for spec in specs]
    made = [objectives.create(a["name"], safeguard=a["safeguard"], **a["parameters"]) for a in asked]
    points = [Points.of(cache.load(pairs, split)) for split in ("train", "heldout")]
    inputs = {str(base_path): tree_sha256(base_path), str(pairs): cache.content_sha256(pairs)}
    keys = ("stage_version", "base", "variant", "objective", "training")
    about = [{key: spec[key] for key in keys} for spec in specs]
    shaped_by = [{**a, "training": without_run_settings(a["training"])} for a in about]
    code = [objectives.REGISTRY.source(a["name"]) for a in asked] + [bases.REGISTRY.source(first["base"]["family"])]
    digest = json_sha256([shaped_by, code, list(inputs.values()), list(first["seeds"])])
    state = layout.checkpoints(first["root"], f"{first['base']['name']}/{first['variant']}/together", digest)
    started = time.time()
    with checkpoint.owned(state):
        names = [spec["variant"] for spec in specs]
        run = StackRun(base, made, settings, points[0], points[1], first["seeds"], label=_label(names))
        run.resume(checkpoint.load_newest(state))
        run.go(state)
        for model, (variant, seed) in enumerate((v, s) for v in range(len(specs)) for s in first["seeds"]):
            provenance = describe(
                stage="train",
                spec={**about[variant], "pairs": str(pairs)},
                inputs=inputs,
                started=started,
                seed=seed,
                dtype="float32",
                resumed_from_step=run.resumed_from,
                trained_together=len(run),
                **cache.label_noise(pairs),
            )
            _export(layout.model(first["root"], layout.model_name(base_name(first), names[variant], seed)), run, model,
                    provenance)  # fmt: skip
    return state


def base_name(spec: Mapping[str, Any]) -> str:
    """Name of the base of a spec."""
    name: str = spec["base"]["name"]
    return name


def _label(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{names[0]} to {names[-1]}"


def _export(out: Path, run: StackRun, model: int, provenance: dict[str, Any]) -> None:
    import pandas as pd
    from safetensors.torch import save_file

    with replaced_directory(out) as folder:
        save_file({"parameters": run.model(model).clone()}, folder / WEIGHTS)
        write_table(folder / "training.parquet", pd.DataFrame(run.rows[model]), "training")
        write_table(folder / "drift.parquet", pd.DataFrame(run.drift[model]), "drift")
        write_json(folder / "provenance.json", {**provenance, "outputs": {WEIGHTS: file_sha256(folder / WEIGHTS)}})
