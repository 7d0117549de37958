"""Stage ``generate``: images of models on prompt sets, each folder complete with its manifest."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from functools import cache, cached_property, partial
from pathlib import Path
from typing import Any

from artifacts import layout
from artifacts.atomic import file_sha256, json_sha256, tree_sha256
from artifacts.block import checked
from artifacts.contracts import read_table
from artifacts.device import device_name, take_device
from artifacts.errors import InputError
from artifacts.hub import commit_of, local_folder
from artifacts.plugins import Call, Registry, told
from artifacts.progress import progress
from artifacts.provenance import describe
from evals.generation import external_models, prompt_embeddings
from evals.generation.pipelines import open_pipeline
from evals.generation.sampling import noise_seed, sample_batch
from evals.generation.settings import CollectSpec, GenerateSpec, SamplingSettings
from evals.generation.surroundings import CONFIG
from evals.images.folder import UnfinishedImages, collect
from evals.images.numbering import Numbering
from families.conditions import Conditions, picked

GENERATORS = Registry(kind="generator", package=None, group="evals.generators", calls={"generate": Call(("spec",))})
"""Families whose models are not drawn by :mod:`evals.generation.sampling`: modules with a function ``generate(spec)``
that writes the same files."""

WRITERS = 2
"""Threads that compress images while the next batch is drawn."""


def generate(spec: Mapping[str, Any]) -> None:
    """Generate images, by the family's own generator if it has one.

    Args:
        spec: a :class:`evals.generation.settings.GenerateSpec`.

    Raises:
        InputError: a bad setting, or a base, prompt set or model is missing or damaged.
    """
    job = checked(GenerateSpec, spec, "evals generate")
    if job.base.family in GENERATORS.names():
        module = GENERATORS.load(job.base.family)
        with told(f"generator '{job.base.family}'", module.__file__):
            module.generate(spec)
        return
    _Job(job).run()


def collect_shards(spec: Mapping[str, Any]) -> None:
    """Stage ``collect``: put together what several jobs have drawn, and remove their folders.

    Args:
        spec: a :class:`evals.generation.settings.CollectSpec`.

    Raises:
        InputError: a bad setting; a share is missing or drawn from something else; the shares do not make up the
            prompt set.
    """
    job = checked(CollectSpec, spec, "evals collect")
    root, count = job.root, job.shards
    for model in job.models:
        for name in job.prompt_sets:
            shards = [layout.image_shard(root, model, name, (index, count)) for index in range(count)]
            prompts = read_table(layout.prompts(root, name), "prompts")
            collect(layout.images(root, model, name), shards, prompts, job.images_per_prompt.get(name, 1))
    # Not before: a job that is killed starts again, and needs them all.
    for model in job.models:
        for name in job.prompt_sets:
            shutil.rmtree(layout.image_shard(root, model, name, (0, count)).parent)


class _Job:
    """One run of the stage: what its models and prompt sets share."""

    def __init__(self, spec: GenerateSpec) -> None:
        import torch

        torch.set_num_threads(spec.threads)
        self.spec, self.root, self.base, self.settings = spec, Path(spec.root), spec.base, spec.generation
        self.shard = spec.shard
        self.device = take_device()
        self.vae = local_folder(self.base.vae) if self.base.vae else None
        self.pipeline = open_pipeline(
            local_folder(self.base.path),
            dtype=self.settings.dtype,
            device=self.device,
            vae=self.vae,
            text_dtype=self.settings.working_dtype,
            size=self.settings.size,
            without=self.base.without or (),
            language=None if self.base.language is None else self.base.language.model_dump(),
        )
        self.prompts = {name: read_table(layout.prompts(self.root, name), "prompts") for name in spec.prompt_sets}
        self.sources = spec.sources

    def run(self) -> None:
        """Draw everything, one model after another."""
        finished = []
        for model in self.spec.models:
            weights = self._weights(model)
            # Loaded when the first image is drawn: a job that was killed late may have none left to draw.
            denoiser = cache(partial(self._load, model, weights))
            origin = self._origin(model, weights)
            for prompt_set in self.prompts:
                finished.append(self._draw(model, prompt_set, weights, denoiser, origin))
        # Not before: were the job to fail now, it would make all its folders again.
        for unfinished, rows in finished:
            unfinished.forget(rows)

    def settings_of(self, prompt_set: str) -> SamplingSettings:
        """How the images of a prompt set are drawn."""
        return self.spec.apart.get(prompt_set, self.settings)

    def _weights(self, model: str) -> Path:
        """File or folder of the model's denoiser."""
        if model in self.sources:
            return external_models.locate(self.sources[model])
        folder = self._folder(model)
        folder = self.pipeline.own_weights if folder == self.pipeline.path else folder / self.pipeline.DENOISER
        if not folder.is_dir():
            raise InputError(f"{folder}: no denoiser; train the model first or correct its path")
        return folder

    def _folder(self, model: str) -> Path:
        """Folder of the base, or of a model that was trained here."""
        is_base = model == layout.base_model_name(self.base.name)
        return self.pipeline.path if is_base else layout.model(self.root, model)

    def _origin(self, model: str, weights: Path) -> dict[str, dict[str, str]]:
        """What the images of a model come from, for their provenance: ``inputs`` by digest, ``commits`` of the hub."""
        known = self.sources[model].sha256 if model in self.sources else None
        # A digest that the config gives has just been found to be the file's.
        first, *others = external_models.weight_files(weights)
        inputs = {first.name: known or file_sha256(first), **{file.name: file_sha256(file) for file in others}}
        commits = {"model": found} if model in self.sources and (found := commit_of(weights)) else {}
        return {
            "inputs": {**inputs, **self._base_origin["inputs"]},
            "commits": {**commits, **self._base_origin["commits"]},
        }

    @cached_property
    def _base_origin(self) -> dict[str, dict[str, str]]:
        """As :meth:`_origin`, of what all models share: the base without its denoiser, and a separate autoencoder."""
        inputs, commits = {}, {}
        replaced = {self.pipeline.DENOISER, *(["vae"] if self.vae else [])}
        parts = [part for part in self.pipeline.parts if part not in replaced]
        for name, folder in (("base", self.pipeline.path), ("vae", self.vae)):
            if folder is None:
                continue
            if found := commit_of(folder):
                commits[name] = found
            elif name == "base":
                inputs[name] = json_sha256({part: self.pipeline.content(part) for part in parts})
            else:
                inputs[name] = json_sha256({".": tree_sha256(folder)})
        return {"inputs": inputs, "commits": commits}

    def _load(self, model: str, weights: Path) -> Any:
        if model in self.sources:
            return external_models.load(weights, self.pipeline)
        return self.pipeline.load_denoiser(self._folder(model))

    @cached_property
    def _conditions(self) -> dict[str, tuple[Conditions, Conditions]]:
        """Conditions of each prompt set and of the empty prompt, shared by all models and jobs."""
        zeros = self.settings.protocol == "clean"
        found = {}
        for name, table in self.prompts.items():
            texts = table["prompt"].tolist()
            digest = prompt_embeddings.digest(self.pipeline, texts, zeros=zeros)
            path = layout.prompt_embeddings(self.root, self.base.name, name, digest)
            found[name] = prompt_embeddings.shared(path, self.pipeline, texts, zeros=zeros)
        self.pipeline.forget_text_encoders()
        return found

    def _draw(
        self,
        model: str,
        prompt_set: str,
        weights: Path,
        denoiser: Callable[[], Any],
        origin: Mapping[str, Mapping[str, str]],
    ) -> tuple[UnfinishedImages, range]:
        """Make one folder; where its images lie besides, and their numbers."""
        started = time.time()
        table, settings = self.prompts[prompt_set], self.settings_of(prompt_set)
        ids = table["prompt_id"].tolist()
        numbering = Numbering(len(ids), self.spec.images_per_prompt.get(prompt_set, 1))
        rows = numbering.share(settings.batch_size, self.shard)
        described: dict[str, Any] = {
            "generation": settings.model_dump(exclude_unset=True),
            "model": model,
            "prompt_set": prompt_set,
            "stage_version": self.spec.stage_version,
        }
        if model in self.sources:
            described["source"] = self.sources[model].model_dump()
        if numbering.images > 1:
            described["images_per_prompt"] = numbering.images
        own = (weights if weights.is_dir() else weights.parent) / CONFIG
        shaping = {
            **described,
            "prompts": [ids, table["prompt"].tolist()],
            "origin": origin,
            # What images hang on besides weights and parts of the base.
            "configs": [
                self.pipeline.index,
                self.pipeline.denoiser_config,
                own.read_text(encoding="utf-8") if own.is_file() else None,
            ],
        }
        folder = layout.unfinished_images(self.root, model, prompt_set, json_sha256(shaping))
        unfinished = UnfinishedImages(folder, numbering)
        with unfinished.owned(rows):
            self._draw_missing(unfinished, rows, prompt_set, denoiser, label=f"{model} on {prompt_set}")
            if self.shard[1] == 1:
                target = layout.images(self.root, model, prompt_set)
            else:
                target = layout.image_shard(self.root, model, prompt_set, self.shard)
            spec = {**described, "base": self.base.model_dump(exclude_unset=True)}
            provenance = describe(
                stage="generate",
                spec=spec,
                inputs=origin["inputs"],
                started=started,
                commits=origin["commits"],
                device=device_name(self.device),
            )
            chosen = [(ids[row], image) for row, image in map(numbering.place, rows)]
            seeds = [noise_seed(settings, prompt_id, image) for prompt_id, image in chosen]
            unfinished.finish(target, [prompt_id for prompt_id, _ in chosen], seeds, rows, provenance)
        return unfinished, rows

    def _draw_missing(
        self, unfinished: UnfinishedImages, rows: range, prompt_set: str, denoiser: Callable[[], Any], *, label: str
    ) -> None:
        """Draw what is not there yet, in the batches of an undisturbed run, so that images are equal."""
        missing, settings = set(unfinished.missing(rows)), self.settings_of(prompt_set)
        numbering = unfinished.numbering
        ids = self.prompts[prompt_set]["prompt_id"].tolist()
        pending: list[Future[None]] = []
        with (
            progress(total=len(rows), initial=len(rows) - len(missing), label=label, unit="image") as bar,
            ThreadPoolExecutor(WRITERS) as writers,
        ):
            for batch in numbering.batches(rows, settings.batch_size):
                if missing.isdisjoint(batch):
                    continue
                row, image = numbering.place(batch.start)
                chosen = slice(row, row + len(batch))
                conditions, empty = self._conditions[prompt_set]
                told = picked(conditions, chosen)
                drawn = sample_batch(
                    self.pipeline, denoiser(), told, empty, ids[chosen], settings, image=image, model=label
                )
                # Images of one batch are compressed while the next is drawn.
                for write in pending:
                    write.result()
                kept = [(number, made) for number, made in zip(batch, drawn, strict=True) if number in missing]
                pending = [writers.submit(unfinished.add, number, made) for number, made in kept]
                bar.update(len(kept))
            for write in pending:
                write.result()
