"""From a benchmark to the specs of its jobs: plain JSON that says exactly what one command needs.

A spec holds nothing that its command does not use, so a changed or added variant, seed or scorer leaves the specs of
the other jobs as they were, and Snakemake leaves those jobs alone.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property
from typing import Any

from artifacts import layout
from artifacts.errors import InputError
from artifacts.plugins import nearest
from evals.comparison import ComparedModel
from pipeline.chunks import Chunks, DrawnModels, label, shard_label
from pipeline.config import registries
from pipeline.files import option_paths
from pipeline.stages import VERSIONS

Spec = dict[str, Any]

CUT_STAGES = ("prompts", "pairs", "train", "generate", "collect", "score")
"""Stages whose work is cut into jobs, each with a manifest of what it has written."""


def encode(spec: Mapping[str, Any]) -> str:
    """A spec as compact JSON on one line, the argument of ``--spec``."""
    return json.dumps(spec, separators=(",", ":"), ensure_ascii=False)


@dataclass(frozen=True)
class Job:
    """One job: what it reads and writes, and the command that runs it.

    Attributes:
        stage: of the benchmark, which is the name of its rule and of its command.
        name: among the jobs of its stage.
        spec: what the command is told.
        inputs: files of the jobs before it.
        outputs: files that its rule declares: its manifest, or all that it writes.
        sources: files and folders that the config names; they count by content.
        code: digest of the source of each member of a registry that it uses, by kind and name.
        options: settings that no result depends on.
        threads: of a training job, in all its processes.
    """

    stage: str
    name: str
    spec: Spec
    inputs: Sequence[str]
    outputs: Sequence[str]
    sources: Sequence[str] = ()
    code: Mapping[str, str | None] = field(default_factory=dict)
    options: Mapping[str, int] = field(default_factory=dict)
    threads: int = 1

    @property
    def manifest(self) -> str | None:
        """The file that lists what it has written; ``None`` where the rule declares all of it."""
        return self.outputs[0] if self.stage in CUT_STAGES else None

    @property
    def command(self) -> str:
        """The command line, for running it by hand."""
        program = "sdpo" if self.stage in ("pairs", "train", "audit") else "evals"
        options = "".join(f" --{name} {value}" for name, value in self.options.items() if value > 1)
        manifest = f" --manifest {shlex.quote(self.manifest)}" if self.manifest else ""
        return f"{program} {self.stage}{options} --spec {shlex.quote(encode(self.spec))}{manifest}"


@dataclass(frozen=True)
class Plan(Chunks):
    """The jobs of one benchmark, and their files."""

    def prompts_spec(self, prompt_set: str) -> Spec:
        """Spec of ``evals prompts``."""
        block = self.benchmark.prompt_sets[prompt_set]
        out = layout.prompts(self.root, prompt_set).as_posix()
        return self._spec("prompts", prompt_set=prompt_set, **block.model_dump(), out=out)

    def pairs_spec(self, dataset: str) -> Spec:
        """Spec of ``sdpo pairs``."""
        out = layout.pairs(self.root, dataset, self.benchmark.base.name).as_posix()
        block = self.benchmark.pairs[dataset].model_dump()
        return self._spec("pairs", dataset=dataset, **block, base=self._base, out=out)

    def joint_train_spec(self, variants: Sequence[str], seeds: Sequence[int]) -> Spec:
        """Spec of ``sdpo train`` for a job: that of its one variant, or those of several under ``together``."""
        specs = [self.train_spec(variant, seeds) for variant in variants]
        return specs[0] if len(specs) == 1 else {"together": specs}

    def train_spec(self, variant: str, seeds: Sequence[int]) -> Spec:
        """Spec of ``sdpo train`` for one variant."""
        own = self.variants[variant]
        return self._spec(
            "train",
            base=self._base,
            pairs=layout.pairs(self.root, own.pairs, self.benchmark.base.name).as_posix(),
            variant=variant,
            objective={
                "name": own.objective,
                "parameters": self.parameters(variant),
                "safeguard": None if own.safeguard is None else own.safeguard.model_dump(mode="json"),
            },
            training=self.training(variant).model_dump(),
            root=self.root.as_posix(),
            seeds=list(seeds),
        )

    def generate_spec(self, models: Sequence[str], prompt_sets: Sequence[str], shard: tuple[int, int] = (0, 1)) -> Spec:
        """Spec of ``evals generate``, for models of one base."""
        base = self.bases[models[0].partition("/")[0]]
        blocks = {name: model for name in models if (model := self.external_models.get(name)) is not None}
        sources = {name: block.model_dump(include={"source", "file", "sha256"}) for name, block in blocks.items()}
        return self._spec(
            "generate",
            base=base.model_dump(exclude_none=True),
            root=self.root.as_posix(),
            models=list(models),
            **({"sources": sources} if sources else {}),
            prompt_sets=list(prompt_sets),
            **({"shard": list(shard)} if shard[1] > 1 else {}),
            generation=self.benchmark.generation.model_dump(),
        )

    def collect_spec(self, models: Sequence[str], prompt_sets: Sequence[str]) -> Spec:
        """Spec of ``evals collect``, which puts together the images that several jobs have drawn."""
        return self._spec(
            "collect",
            root=self.root.as_posix(),
            models=list(models),
            prompt_sets=list(prompt_sets),
            shards=self.benchmark.execution.generation_shards,
        )

    def score_spec(self, models: Sequence[str], prompt_sets: Sequence[str], scorers: Sequence[str]) -> Spec:
        """Spec of ``evals score``."""
        blocks = {name: self.benchmark.scorers[name].model_dump() for name in scorers}
        return self._spec(
            "score",
            root=self.root.as_posix(),
            models=list(models),
            prompt_sets=list(prompt_sets),
            scorers={name: block | {"protocol": self.protocol(name)} for name, block in blocks.items()},
            batch_size=self.benchmark.execution.score_batch_size,
            **({"cache": cache} if (cache := self.benchmark.execution.score_cache) else {}),
        )

    def compare_spec(self) -> Spec:
        """Spec of ``evals compare`` and ``evals table``."""
        block = self.benchmark.published
        published = {} if block is None else {"published": block.model_dump()}
        return self._spec("compare", **self._comparison(), **published)

    def report_spec(self) -> Spec:
        """Spec of ``evals report``."""
        block = self.benchmark.report
        grid = {
            "prompt_set": block.grid.prompt_set or next(iter(self.benchmark.prompt_sets)),
            "prompts": block.grid.prompts,
            "seed": next(iter(self.benchmark.seeds), 0) if block.grid.seed is None else block.grid.seed,
        }
        return self._spec("report", **self._comparison(), grid=grid, scorer_agreement=block.scorer_agreement)

    def track_spec(self) -> Spec:
        """Spec of ``evals track``."""
        store = self.results / "mlflow"
        return self._spec(
            "track",
            **self._comparison(),
            database=(store / "mlflow.db").as_posix(),
            artifacts=(store / "artifacts").as_posix(),
            marker=self.tracking_marker(),
        )

    @property
    def audited_variant(self) -> str | None:
        """The variant whose steps are audited; ``None`` if no objective has a loser."""
        with_loser = [v for v in self.benchmark.variants if registries.objective(v.objective).HAS_LOSER]
        first = [v.name for v in (*(v for v in with_loser if v.safeguard is not None), *with_loser)][:1]
        return self.benchmark.audit.variant or (first[0] if first else None)

    @property
    def audited_models(self) -> list[str]:
        """Trained models that are audited beside the base."""
        return [m for v in self.benchmark.audit.trained for m in self.models(v, self.benchmark.seeds[:1])]

    def audit_spec(self, variant: str) -> Spec:
        """Spec of ``sdpo audit`` for the steps of one variant."""
        own, training = self.variants[variant], self.training(variant)
        folders = {model: layout.model(self.root, model).as_posix() for model in self.audited_models}
        return self._spec(
            "audit",
            base=self._base,
            models=[{"name": name, "path": path} for name, path in {self.base_model: None, **folders}.items()],
            pairs=layout.pairs(self.root, own.pairs, self.benchmark.base.name).as_posix(),
            objective={
                "name": own.objective,
                "parameters": self.parameters(variant),
                "safeguard": {} if own.safeguard is None else own.safeguard.model_dump(mode="json", exclude={"mu"}),
            },
            step={
                "batch_size": training.micro_batch_size or training.batch_size,
                "max_grad_norm": training.max_grad_norm,
                "weight_decay": training.weight_decay,
            },
            settings=self.benchmark.audit.model_dump(exclude={"variant", "trained"}),
            threads=training.threads,
            out=(self.root / "audit").as_posix(),
        )

    def protocol(self, scorer: str) -> str:
        """Protocol of a scorer: as named, else the paper's, else the scorer's first."""
        protocols: Sequence[str] = registries.scorer(scorer).PROTOCOLS
        return self.benchmark.scorers[scorer].protocol or ("sdpo" if "sdpo" in protocols else protocols[0])

    def compared_models(self) -> list[ComparedModel]:
        """All models in table order, the base first."""
        base = self.benchmark.base.name
        rows = [ComparedModel(self.base_model, base, "base", None, False, None, None, None)]
        for name, variant in self.variants.items():
            baseline = self.baseline(name)
            rows += [
                ComparedModel(
                    name=layout.model_name(base, name, seed),
                    base=base,
                    variant=name,
                    objective=variant.objective,
                    safeguard=variant.safeguard is not None,
                    seed=seed,
                    pairs=variant.pairs,
                    baseline=baseline,
                )
                for seed in self.benchmark.seeds
            ]
        for name, model in self.external_models.items():
            owner = name.partition("/")[0]
            if model is None:
                rows.append(ComparedModel(name, owner, owner, None, False, None, None, None))
                continue
            rows.append(
                ComparedModel(
                    name=name,
                    base=owner,
                    variant=model.name,
                    objective=model.objective,
                    safeguard=model.safeguard,
                    seed=None,
                    pairs=None,
                    baseline=model.baseline,
                )
            )
        return rows

    def manifest(self, stage: str, name: str) -> str:
        """Manifest of a job."""
        return layout.job_manifest(self.root, stage, name).as_posix()

    def job(self, stage: str, name: str) -> Job:
        """A job by its stage and name.

        Raises:
            InputError: the benchmark has no such job.
        """
        jobs = self._by_stage.get(stage, {})
        if name not in jobs:
            raise InputError(
                f"no job '{name}' of stage '{stage}'{nearest(name, list(jobs))}; sdpo-bench spec lists all"
            )
        return jobs[name]

    def jobs(self) -> Iterator[Job]:
        """All jobs of the benchmark, in the order of the stages."""
        yield from self._jobs_before_tables()
        yield from self._jobs_from_tables_on()

    def _jobs_before_tables(self) -> Iterator[Job]:
        execution, family = self.benchmark.execution, self.benchmark.base.family
        for name, prompt_set in self.benchmark.prompt_sets.items():
            yield self._cut(
                "prompts",
                name,
                self.prompts_spec(name),
                sources=option_paths(prompt_set.options),
                code=registries.code(prompt_sources=[prompt_set.source]),
            )
        used = {variant.pairs for variant in self.variants.values()}
        for name, dataset in self.benchmark.pairs.items():
            if name in used:
                sources = [*self.base_paths(), *option_paths(dataset.options)]
                processes = {"processes": execution.encoding_processes}
                yield self._cut(
                    "pairs",
                    name,
                    self.pairs_spec(name),
                    sources=sources,
                    options=processes,
                    code=registries.code(pair_sources=[dataset.source], families=[family]),
                )
        for variants, seeds in self.training_chunks:
            yield self._cut(
                "train",
                label(variants, seeds),
                self.joint_train_spec(variants, seeds),
                [self.manifest("pairs", name) for name in dict.fromkeys(self.variants[v].pairs for v in variants)],
                sources=self.base_paths(),
                code=registries.code(objectives=[self.variants[v].objective for v in variants], families=[family]),
                options={"processes": execution.processes},
                threads=execution.processes * max(self.training(variant).threads for variant in variants),
            )
        for models in self.drawn:
            for sets in self.prompt_set_chunks:
                yield from self._drawing_and_scoring(models, sets)

    def _drawing_and_scoring(self, drawn: DrawnModels, sets: Sequence[str]) -> Iterator[Job]:
        """Jobs that draw and score some models on some prompt sets."""
        name, models, threads = label(drawn.name, sets), drawn.models, {"threads": self.benchmark.execution.threads}
        prompts = self._prompt_manifests(sets)
        trained = [] if drawn.trained_by is None else [self.manifest("train", drawn.trained_by)]
        sources = [*self.base_paths(models[0].partition("/")[0]), *self.source_paths(models)]
        shares: list[str] = []
        for shard in self.shards:
            spec = self.generate_spec(models, sets, shard)
            job = self._cut(
                "generate",
                shard_label(name, shard),
                spec,
                [*trained, *prompts],
                sources=sources,
                code=registries.code(generators=[self.bases[models[0].partition("/")[0]].family]),
                options=threads,
            )
            shares += job.outputs
            yield job
        if self.sharded:
            yield self._cut("collect", name, self.collect_spec(models, sets), [*shares, *prompts])
        for scorers in self.scorer_chunks:
            yield self._cut(
                "score",
                label(name, scorers),
                self.score_spec(models, sets, scorers),
                [self._images(name), *prompts],
                sources=self.scorer_paths(scorers),
                code=registries.code(scorers=scorers),
                options=threads,
            )

    def _jobs_from_tables_on(self) -> Iterator[Job]:
        sets = list(self.benchmark.prompt_sets)
        drawn = [label(models.name, chunk) for models in self.drawn for chunk in self.prompt_set_chunks]
        scores = [self.manifest("score", label(name, scorers)) for name in drawn for scorers in self.scorer_chunks]
        trained = [self.manifest("train", label(*chunk)) for chunk in self.training_chunks]
        images = [self._images(name) for name in drawn]
        published, report = self.benchmark.published, self.benchmark.report
        yield Job(
            "compare",
            "tables",
            self.compare_spec(),
            inputs=[*self._prompt_manifests(sets), *trained, *scores],
            outputs=self.table_files(),
            sources=[] if published is None else [published.file],
        )
        yield Job(
            "report",
            "page",
            self.report_spec(),
            inputs=[*self.table_files(), *trained, *images],
            outputs=self.report_files(),
            sources=[] if report.scorer_agreement is None else [report.scorer_agreement],
        )
        yield Job(
            "track",
            "mlflow",
            self.track_spec(),
            inputs=[*self.table_files(), *self.report_files(), *trained, *images],
            outputs=[self.tracking_marker()],
        )

    def audit_job(self) -> Job | None:
        """The audit, which is a target of its own; ``None`` without an objective that has a loser."""
        if self.audited_variant is None:
            return None
        trained = {model: label(*chunk) for chunk in self.training_chunks for model in self.models_of(*chunk)}
        return Job(
            "audit",
            "audit",
            self.audit_spec(self.audited_variant),
            inputs=[
                self.manifest("pairs", self.variants[self.audited_variant].pairs),
                *dict.fromkeys(self.manifest("train", trained[model]) for model in self.audited_models),
            ],
            outputs=self.audit_files(),
            sources=self.base_paths(),
            code=registries.code(
                objectives=[self.variants[self.audited_variant].objective], families=[self.benchmark.base.family]
            ),
        )

    @cached_property
    def _by_stage(self) -> dict[str, dict[str, Job]]:
        found: dict[str, dict[str, Job]] = {}
        audit = self.audit_job()
        for job in (*self.jobs(), *([] if audit is None else [audit])):
            jobs = found.setdefault(job.stage, {})
            if job.name in jobs:
                raise InputError(f"two jobs of stage '{job.stage}' are called '{job.name}'; rename a model")
            jobs[job.name] = job
        return found

    def _cut(self, stage: str, name: str, spec: Spec, inputs: Sequence[str] = (), **more: Any) -> Job:
        return Job(stage, name, spec, inputs=inputs, outputs=[self.manifest(stage, name)], **more)

    def _prompt_manifests(self, sets: Sequence[str]) -> list[str]:
        return [self.manifest("prompts", name) for name in sets]

    def _images(self, name: str) -> str:
        """Manifest of the job that completes the images of some models."""
        return self.manifest("collect" if self.sharded else "generate", name)

    @property
    def _base(self) -> Spec:
        return self.benchmark.base.model_dump(exclude_none=True)

    def _comparison(self) -> Spec:
        lower = [name for name in self.benchmark.scorers if getattr(registries.scorer(name), "LOWER_IS_BETTER", False)]
        describing = [name for name in self.benchmark.scorers if not getattr(registries.scorer(name), "JUDGES", True)]
        return {
            **({"lower_is_better": lower} if lower else {}),
            **({"no_judges": describing} if describing else {}),
            **({"comparisons": asked} if (asked := self.benchmark.comparisons) else {}),
            "benchmark": self.benchmark.benchmark,
            "root": self.root.as_posix(),
            "models": [asdict(model) for model in self.compared_models()],
            "prompt_sets": list(self.benchmark.prompt_sets),
            "scorers": {name: self.protocol(name) for name in self.benchmark.scorers},
            "statistics": self.benchmark.statistics.model_dump(),
            "generation": self.benchmark.generation.model_dump(),
        }

    def _spec(self, stage: str, **content: Any) -> Spec:
        return {"stage_version": VERSIONS[stage], **content}
