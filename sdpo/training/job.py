"""Training: from a job description to the folders of its models."""

from __future__ import annotations

import shutil
import time
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from artifacts import layout
from artifacts.atomic import file_sha256, json_sha256, replaced_directory, write_json
from artifacts.block import checked
from artifacts.contracts import write_table
from artifacts.device import device_name
from artifacts.provenance import describe
from sdpo.training import checkpoint, loggers, precision, processes
from sdpo.training.heldout_drift import HeldoutProbe
from sdpo.training.processes import Processes
from sdpo.training.run import TrainingRun
from sdpo.training.run_log import read_rows
from sdpo.training.sample_images import SampleImages
from sdpo.training.settings import TrainingSettings, TrainSpec, shaping
from sdpo.training.time_budget import TimeBudget

__all__ = ["TrainingRun", "TrainingSettings", "train", "train_all"]

SAMPLES = "samples"
"""Folder of sample images, beside a run's states and in the model's folder."""


def train(spec: Mapping[str, Any], budget: TimeBudget | None = None) -> None:
    """Train one variant for each of its seeds; as :func:`train_all`."""
    train_all([spec], budget)


def train_all(specs: Sequence[Mapping[str, Any]], budget: TimeBudget | None = None) -> None:
    """Train variants one after another, each for each of its seeds.

    A workflow deletes all outputs of a job that was killed. So states stay until the last model of the job is
    written: finished ones are written again from theirs.

    Args:
        specs: one a variant, as for :func:`train_variant`.
        budget: when to save and leave; never by default.

    Raises:
        InputError: bad settings, or damaged input files.
        StoppedEarly: the budget is used up; the state is saved.
    """
    states = {state: spec for spec in specs for state in train_variant(spec, budget)}
    for state, spec in states.items():
        if spec["training"].get("keep_state"):
            continue
        shutil.rmtree(state / SAMPLES, ignore_errors=True)
        checkpoint.remove(state)


def train_variant(spec: Mapping[str, Any], budget: TimeBudget | None = None) -> list[Path]:
    """Train one variant for each of its seeds.

    Several processes that were started together train each model together.

    Args:
        spec: a :class:`~sdpo.training.settings.TrainSpec`.
        budget: when to save and leave; never by default.

    Returns:
        Folders of the states, which the caller removes; none in a process that is not the main one.

    Raises:
        InputError: bad settings, or damaged input files.
        StoppedEarly: the budget is used up; the state is saved.
    """
    import torch

    from sdpo import bases, objectives
    from sdpo.pairs import cache

    job = checked(TrainSpec, spec, "sdpo train")
    settings, asked = job.training, job.objective
    own = processes.join(settings.device)
    device = precision.find_device(settings.device, local_index=own.local_index if own.count > 1 else None)
    torch.set_num_threads(settings.threads)
    objective = objectives.create(asked.name, safeguard=asked.safeguard, **asked.parameters)
    pairs = Path(job.pairs)
    base = bases.open_described(spec["base"], device=device, encoder_dtype=cache.settings_of(pairs).encoder_dtype)
    # The main process reads every file of the cache to check it, while the others wait.
    if not own.main:
        own.wait()
    training, heldout = (cache.load(pairs, split, base=base, check=own.main) for split in ("train", "heldout"))
    if own.main:
        cache.check_fits(pairs, base)
        own.wait()
    inputs = own.told({**bases.digests(spec["base"]), str(pairs): cache.content_sha256(pairs)} if own.main else {})
    # As it was given: the state of an interrupted run is known by it.
    about = {key: spec[key] for key in ("stage_version", "base", "variant", "objective", "training") if key in spec}
    code = [objectives.REGISTRY.source(asked.name), bases.REGISTRY.source(job.base.family)]
    computing = precision.create(settings, device)
    probe = HeldoutProbe(base, heldout, settings.heldout_pairs, precision=computing, processes=own)
    states = []
    for seed in job.seeds:
        started = time.time()
        name = layout.model_name(job.base.name, job.variant, seed)
        shaped_by = {**about, "training": shaping(spec["training"]), "code": code}
        digest = json_sha256({**shaped_by, "pairs": list(inputs.values()), "seed": seed})
        states.append(layout.checkpoints(job.root, name, digest))
        # The others of this training work for the main process, and wait with it for one left over from a killed run.
        with checkpoint.owned(states[-1]) if own.main else nullcontext():
            own.wait()
            samples = None
            if settings.sample_every and own.main:
                samples = SampleImages(base, heldout, settings.sample_prompts, computing, states[-1] / SAMPLES)
            run = TrainingRun(
                base,
                objective,
                settings,
                training,
                probe,
                seed,
                label=f"{job.variant} seed {seed}",
                device=device,
                processes=own,
                samples=samples,
            )
            run.resume(_newest(states[-1], own, settings.steps))
            described = loggers.LoggedRun(Path(job.root).name, name, digest, run.step, states[-1], about)
            # A run that only writes its model again has no rows.
            chosen = settings.loggers if own.main and run.step < settings.steps else []
            with loggers.opened(chosen, described) as listener:
                run.go(states[-1], budget, listener)
            if own.main:
                provenance = describe(
                    stage="train",
                    spec={**about, "pairs": str(pairs)},
                    inputs=inputs,
                    started=started,
                    seed=seed,
                    dtype=settings.precision,
                    resumed_from_step=run.resumed_from,
                    processes=own.count,
                    device=device_name(device),
                )
                _export(layout.model(job.root, name), run, states[-1], provenance)
                checkpoint.keep_newest(states[-1])
            own.wait()
        # Before the next one takes as much memory.
        del run, samples
    return states if own.main else []


def _newest(folder: Path, own: Processes, steps: int) -> dict[str, Any] | None:
    """The state that the main process finds, read by each."""
    found = checkpoint.newest(folder, steps) if own.main else None
    path = own.told(None if found is None else found[0])
    return found[1] if found is not None else None if path is None else checkpoint.read(path)


def _export(out: Path, run: TrainingRun, state: Path, provenance: dict[str, Any]) -> None:
    import pandas as pd

    with replaced_directory(out) as folder:
        run.policy.export(folder)
        if run.samples is not None:
            shutil.copytree(state / SAMPLES, folder / SAMPLES)
        write_table(folder / "training.parquet", pd.DataFrame(read_rows(state, "training")), "training")
        write_table(folder / "drift.parquet", pd.DataFrame(read_rows(state, "drift")), "drift")
        weights = {p.relative_to(folder).as_posix(): file_sha256(p) for p in sorted(folder.rglob("*.safetensors"))}
        write_json(folder / "provenance.json", {**provenance, "outputs": weights})
