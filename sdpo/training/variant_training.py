"""A variant in training: what its seeds have in common, and how the models of each are made and written."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from artifacts import layout
from artifacts.atomic import file_sha256, json_sha256, replaced_directory, write_json
from artifacts.block import checked
from artifacts.contracts import write_table
from artifacts.device import device_name
from artifacts.provenance import describe, package_versions
from sdpo.training import checkpoint, loggers, optimizers, precision, processes, sharding
from sdpo.training.heldout_drift import HeldoutProbe
from sdpo.training.run import TrainingRun
from sdpo.training.run_log import TABLES, read_rows
from sdpo.training.sample_images import SampleImages
from sdpo.training.settings import TrainSpec, shaping
from sdpo.training.time_budget import TimeBudget

SAMPLES = "samples"
"""Folder of sample images, beside a run's states and in the model's folder."""
RUN_DIGEST = "run_sha256"
"""In a model's provenance: digest of all that shaped its run."""


class VariantTraining:
    """Base, pairs and objective of a variant, opened and checked once for all its seeds.

    Several processes that were started together train each model together.

    Args:
        spec: a :class:`~sdpo.training.settings.TrainSpec`.
        held: what each process holds of the model.

    Raises:
        InputError: bad settings, or damaged input files.
    """

    def __init__(self, spec: Mapping[str, Any], held: sharding.Sharding = "replicated") -> None:
        import torch

        from sdpo import bases, objectives
        from sdpo.pairs import cache

        self.job = job = checked(TrainSpec, spec, "sdpo train")
        self.settings, asked = job.training, job.objective
        optimizers.check(dict(self.settings))
        self.processes = own = processes.join(self.settings.device, held)
        if own.sharded:
            sharding.check(dict(self.settings), job.base.family, bases.REGISTRY.load(job.base.family))
        self.device = precision.find_device(
            self.settings.device, local_index=own.local_index if own.count > 1 else None
        )
        torch.set_num_threads(self.settings.threads)
        self.objective = objectives.create(asked.name, safeguard=asked.safeguard, **asked.parameters)
        pairs = Path(job.pairs)
        encoder_dtype = cache.settings_of(pairs).encoder_dtype
        self.base = bases.open_described(
            spec["base"],
            device=self.device,
            encoder_dtype=encoder_dtype,
            embedded_guidance=self.settings.embedded_guidance,
        )
        # The main process reads every file of the cache to check it, while the others wait.
        if not own.main:
            own.wait()
        self.pairs, self.heldout = (
            cache.load(pairs, split, base=self.base, check=own.main) for split in ("train", "heldout")
        )
        if own.main:
            cache.check_fits(pairs, self.base)
            own.wait()
        digests = {**bases.digests(spec["base"]), str(pairs): cache.content_sha256(pairs)} if own.main else {}
        self.inputs = own.told(digests)
        # As it was given: the state of an interrupted run is known by it.
        self.about = {k: spec[k] for k in ("stage_version", "base", "variant", "objective", "training") if k in spec}
        code = [objectives.REGISTRY.source(asked.name), bases.REGISTRY.source(job.base.family)]
        self._shaped_by = {**self.about, "training": shaping(spec["training"]), "code": code}
        self.precision = precision.create(self.settings, self.device, sharded=own.sharded)
        self.probe = HeldoutProbe(
            self.base, self.heldout, self.settings.heldout_pairs, precision=self.precision, processes=own
        )

    def train(self, seed: int, budget: TimeBudget | None) -> list[Path]:
        """Train one seed, and write its model and those of the steps that are exported.

        A step that was asked for when the training had passed it has a run of its own that ends there, which leaves
        the training and its state alone.

        Returns:
            Folders of the states.

        Raises:
            InputError: a step is not finite.
            StoppedEarly: the budget is used up; the state is saved.
        """
        states = [self._trained(seed, None, budget)]
        for step in self.settings.exports:
            if not self._is_written(seed, step):
                states.append(self._trained(seed, step, budget))
        return states

    def _trained(self, seed: int, stop: int | None, budget: TimeBudget | None) -> Path:
        """Train to the end, or to an earlier step, and write the model; the folder of the states."""
        own, started, name = self.processes, time.time(), self._model(seed, stop)
        states = layout.checkpoints(self.job.root, name, self._digest(seed))
        # The others of this training work for the main process, and wait with it for one left over from a killed run.
        with checkpoint.owned(states) if own.main else nullcontext():
            own.wait()
            samples = None
            if self.settings.sample_every and (own.main or own.sharded):
                prompts, guidance = self.settings.sample_prompts, self.settings.sample_guidance
                folder = states / SAMPLES if own.main else None
                samples = SampleImages(self.base, self.heldout, prompts, guidance, self.precision, folder)
            run = TrainingRun(
                self.base,
                self.objective,
                self.settings,
                self.pairs,
                self.probe,
                seed,
                label=f"{self.job.variant if stop is None else layout.at_step(self.job.variant, stop)} seed {seed}",
                device=self.device,
                processes=own,
                samples=samples,
                stop=stop,
            )
            run.resume(self._newest(states, run.stop))

            def export(step: int) -> None:
                self._write(self._model(seed, step if step < self.settings.steps else None), run, seed, states, started)

            # A run that only writes its model again has no rows.
            chosen = self.settings.loggers if own.main and run.step < run.stop else []
            benchmark = Path(self.job.root).name
            identity = json_sha256([benchmark, name, self._digest(seed)])
            described = loggers.LoggedRun(benchmark, name, identity, run.step, states, self.about)
            with loggers.opened(chosen, described) as listener:
                run.go(states, budget, listener, export if stop is None else None)
            export(run.stop)
            if own.main:
                checkpoint.keep_newest(states)
            own.wait()
        return states

    def _model(self, seed: int, step: int | None) -> str:
        variant = self.job.variant if step is None else layout.at_step(self.job.variant, step)
        return layout.model_name(self.job.base.name, variant, seed)

    def _digest(self, seed: int) -> str:
        return json_sha256({**self._shaped_by, "pairs": list(self.inputs.values()), "seed": seed})

    def _is_written(self, seed: int, step: int) -> bool:
        """Whether a step's model is there whole, and of this run: in every process what the main one finds."""

        def found() -> bool:
            folder = layout.model(self.job.root, self._model(seed, step))
            try:
                provenance = json.loads((folder / "provenance.json").read_text(encoding="utf-8"))
                weights = provenance["outputs"].items()
                return bool(provenance[RUN_DIGEST] == self._digest(seed)) and all(
                    file_sha256(folder / file) == sha256 for file, sha256 in weights
                )
            except (OSError, ValueError, KeyError, TypeError, AttributeError):
                return False

        return self.processes.told(found() if self.processes.main else False)

    def _newest(self, folder: Path, stop: int) -> dict[str, Any] | None:
        """The state that the main process finds, read by each."""
        own = self.processes
        found = checkpoint.newest(folder, stop) if own.main else None
        path = own.told(None if found is None else found[0])
        return found[1] if found is not None else None if path is None else checkpoint.read(path)

    def _write(self, name: str, run: TrainingRun, seed: int, states: Path, started: float) -> None:
        """Write the model as it is now, with its log up to here: the main process, with what the others hold of it."""
        import pandas as pd

        from sdpo.pairs import cache

        if not self.processes.main:
            run.policy.export(None)
            return
        provenance = describe(
            stage="train",
            spec={**self.about, "pairs": str(self.job.pairs)},
            inputs=self.inputs,
            started=started,
            seed=seed,
            dtype=self.settings.precision,
            step=run.step,
            resumed_from_step=run.resumed_from,
            processes=self.processes.count,
            sharding=self.processes.sharding,
            device=device_name(self.device),
            **cache.label_noise(Path(self.job.pairs)),
            **{RUN_DIGEST: self._digest(seed)},
        )
        if package := optimizers.EXTRAS.get(self.settings.optimizer):
            provenance["packages"] |= package_versions([package])
        with replaced_directory(layout.model(self.job.root, name)) as folder:
            run.policy.export(folder)
            if run.samples is not None:
                run.samples.copy(folder / SAMPLES, until=run.step)
            for table in TABLES:
                rows = pd.DataFrame(read_rows(states, table, until=run.step))
                write_table(folder / f"{table}.parquet", rows, table)
            weights = {p.relative_to(folder).as_posix(): file_sha256(p) for p in sorted(folder.rglob("*.safetensors"))}
            write_json(folder / "provenance.json", {**provenance, "outputs": weights})
