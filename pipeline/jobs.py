"""The jobs of a benchmark: what each reads and writes, and in which order."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from artifacts import layout
from artifacts.errors import InputError
from artifacts.file_names import user_path
from artifacts.plugins import nearest
from evals.report.settings import main_table_of
from pipeline.chunks import DrawnModels, label, shard_label
from pipeline.config import registries
from pipeline.files import option_paths
from pipeline.specs import Spec, Specs, encode
from sdpo.training.settings import without_run_settings

CUT_STAGES = ("prompts", "pairs", "train", "generate", "collect", "score", "gather")
"""Stages whose work is cut into jobs, each with a manifest of what it has written."""

PUTTING_TOGETHER = ("collect", "gather")
"""Stages that put together what jobs of the one before them have made, and remove their shares."""

UNSHAPING: Mapping[str, Sequence[str]] = {
    "prompts": ("judged_by",),
    "score": ("rated",),
    "gather": ("rated",),
}
"""Keys of a spec, by stage, that say what is to be looked at, and change nothing of what is written."""


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
        options: of the command, on which no result depends.
        threads: of a training job, in all its processes on a machine.
        wanted: files that it must have written, whatever it was told when it ran: scores of prompt sets that scorers
            were limited to, models of steps that were not exported.
    """

    stage: str
    name: str
    spec: Spec
    inputs: Sequence[str]
    outputs: Sequence[str]
    sources: Sequence[str] = ()
    code: Mapping[str, str | None] = field(default_factory=dict)
    options: Mapping[str, int | str] = field(default_factory=dict)
    threads: int = 1
    wanted: Sequence[str] = ()

    @property
    def shape(self) -> Spec:
        """What of the spec makes the job run again if it is another."""
        if self.stage == "train":
            parts = self.spec.get("together", [self.spec])
            return {"together": [{**part, "training": without_run_settings(part["training"])} for part in parts]}
        return {key: value for key, value in self.spec.items() if key not in UNSHAPING.get(self.stage, ())}

    @property
    def manifest(self) -> str | None:
        """The file that lists what it has written; ``None`` where the rule declares all of it."""
        return self.outputs[0] if self.stage in CUT_STAGES else None

    @property
    def start(self) -> str:
        """The command line up to what the command is told."""
        program = "sdpo" if self.stage in ("pairs", "train", "audit") else "evals"
        return f"{program} {self.stage}{''.join(f' --{name} {value}' for name, value in self.options.items())}"

    @property
    def command(self) -> str:
        """The command line, for running it by hand."""
        manifest = f" --manifest {shlex.quote(self.manifest)}" if self.manifest else ""
        return f"{self.start} --spec {shlex.quote(encode(self.spec))}{manifest}"


@dataclass(frozen=True)
class Plan(Specs):
    """The jobs of one benchmark, and their files."""

    @cached_property
    def _code(self) -> registries.Code:
        return registries.Code()

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
        for name in self.benchmark.prompt_sets:
            _, prompt_set = self.benchmark.prompts_of(name)
            yield self._cut(
                "prompts",
                name,
                self.prompts_spec(name),
                sources=option_paths(prompt_set.options),
                code=self._code(prompt_sources=[str(prompt_set.source)]),
            )
        used = {variant.pairs for variant in self.variants.values()}
        for name, dataset in self.benchmark.pairs.items():
            if name in used:
                sources = [*self.base_paths(), *option_paths(dataset.options)]
                processes = execution.options(processes="encoding_processes")
                yield self._cut(
                    "pairs",
                    name,
                    self.pairs_spec(name),
                    sources=sources,
                    options=processes,
                    code=self._code(pair_sources=[dataset.source], families=[family]),
                )
        on_each = execution.processes // execution.machines
        for variants, seeds in self.training_chunks:
            yield self._cut(
                "train",
                label(variants, seeds),
                self.joint_train_spec(variants, seeds),
                [self.manifest("pairs", name) for name in dict.fromkeys(self.variants[v].pairs for v in variants)],
                sources=self.base_paths(),
                code=self._code(objectives=[self.variants[v].objective for v in variants], families=[family]),
                options=execution.options(processes="processes", machines="machines", sharding="sharding"),
                threads=on_each * max(self.training(variant).threads for variant in variants),
                wanted=[
                    (layout.model(self.root, model) / "provenance.json").as_posix()
                    for row, (variant, _) in self.compared_variants.items()
                    for model in self.models(row, seeds)
                    if variant in variants
                ],
            )
        for models in self.drawn:
            for sets in self.prompt_set_chunks:
                yield from self._drawing_and_scoring(models, sets)

    def _drawing_and_scoring(self, drawn: DrawnModels, sets: Sequence[str]) -> Iterator[Job]:
        """Jobs that draw and score some models on some prompt sets."""
        name, models = label(drawn.name, sets), drawn.models
        threads = self.benchmark.execution.options(threads="threads")
        prompts = self._prompt_manifests(sets)
        trained = [] if drawn.trained_by is None else [self.manifest("train", drawn.trained_by)]
        sources = [*self.base_paths(models[0].partition("/")[0]), *self.source_paths(models)]
        shares: list[str] = []
        for shard in self.shards["generate"]:
            spec = self.generate_spec(models, sets, shard)
            job = self._cut(
                "generate",
                shard_label(name, shard),
                spec,
                [*trained, *prompts],
                sources=sources,
                code=self._code(generators=[self.bases[models[0].partition("/")[0]].family]),
                options=threads,
            )
            shares += job.outputs
            yield job
        if self.is_shared("generate"):
            yield self._cut("collect", name, self.collect_spec(models, sets), [*shares, *prompts])
        for scorers in self.scorers_of(sets):
            rated = [(x, model, name) for x in scorers for model in models for name in sets if name in self.rated_by(x)]
            shares = []
            for shard in self.shards["score"]:
                job = self._cut(
                    "score",
                    shard_label(label(name, scorers), shard),
                    self.score_spec(models, sets, scorers, shard),
                    [self._images(name), *prompts],
                    sources=self.scorer_paths(scorers),
                    code=self._code(scorers=scorers),
                    options=threads,
                    wanted=[layout.score_shard(self.root, *one, shard).as_posix() for one in rated],
                )
                shares += job.outputs
                yield job
            if self.is_shared("score"):
                spec = self.gather_spec(models, sets, scorers)
                wanted = [layout.scores(self.root, *one).as_posix() for one in rated]
                yield self._cut("gather", label(name, scorers), spec, [*shares, *prompts], wanted=wanted)

    def _jobs_from_tables_on(self) -> Iterator[Job]:
        sets = list(self.benchmark.prompt_sets)
        drawn = [label(models.name, chunk) for models in self.drawn for chunk in self.prompt_set_chunks]
        scores = [
            self._scores(label(models.name, chunk, scorers))
            for models in self.drawn
            for chunk in self.prompt_set_chunks
            for scorers in self.scorers_of(chunk)
        ]
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
            outputs=[*self.report_files(), self.browser_folder()],
            sources=[
                *([] if report.scorer_agreement is None else [report.scorer_agreement]),
                *(file for folder in report.beside if user_path(file := main_table_of(folder)).is_file()),
            ],
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
            code=self._code(
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
        return self.manifest("collect" if self.is_shared("generate") else "generate", name)

    def _scores(self, name: str) -> str:
        """Manifest of the job that completes the scores of some models by some scorers."""
        return self.manifest("gather" if self.is_shared("score") else "score", name)
