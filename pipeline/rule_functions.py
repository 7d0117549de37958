"""What the rules ask of the plan: functions of a rule's wildcards, since a rule stands for all jobs of its stage."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from artifacts.contents import Contents
from artifacts.file_names import user_path
from artifacts.job_manifest import missing_from
from pipeline.job_resources import on_each_machine
from pipeline.jobs import PUTTING_TOGETHER, Job, Plan
from pipeline.specs import encode


@dataclass(frozen=True)
class RuleFunctions:
    """Inputs and parameters of the rules.

    Attributes:
        plan: of the benchmark.
        forced: gives the set of files whose jobs Snakemake runs in any case; ``None`` in the process of a single job.
    """

    plan: Plan
    forced: Callable[[], set[str]] | None = None
    _announced: list[Job] = field(default_factory=list)

    @cached_property
    def _contents(self) -> Contents:
        return Contents(self.plan.root / "jobs" / "digests.json")

    def inputs(self, stage: str, name: str = "") -> Callable[[Any], list[str]]:
        """Input function of a stage's rule; ``name`` is that of the job of a rule without wildcards.

        Snakemake looks at what a rule declares, and for no reason at what a finished job has read. So a job is forced
        here if files that it has written are gone or replaced, or if what it has read has not been made again since,
        by a job that failed.
        """

        def of(wildcards: Any) -> list[str]:
            job = self._job(stage, wildcards, name)
            if self.forced is not None and all(map(os.path.exists, job.outputs)) and self._is_stale(job):
                self.forced().add(job.outputs[0])
            return list(job.inputs)

        return of

    def spec(self, stage: str, name: str = "") -> Callable[[Any], str]:
        """Parameter ``spec`` of a stage's rule: what its command is told."""
        return lambda wildcards: encode(self._job(stage, wildcards, name).spec)

    def whole_spec(self, stage: str) -> Callable[[Any, Any], str]:
        """Parameter ``spec`` of a stage whose spec holds more than shapes what it writes.

        Snakemake passes over parameters whose functions ask for ``output`` when it compares them with those of before:
        it compares :meth:`shape` instead.
        """
        return lambda wildcards, output: encode(self._job(stage, wildcards).spec)

    def shape(self, stage: str) -> Callable[[Any], str]:
        """Parameter ``shape``: what of the spec makes a job run again."""
        return lambda wildcards: encode(self._job(stage, wildcards).shape)

    def sources(self, stage: str, name: str = "") -> Callable[[Any], dict[str, str | None]]:
        """Parameter ``sources`` of a stage's rule: digests of the files and folders that the config names,
        and of the source of the members of registries.

        They are no inputs, which Snakemake compares by time stamp. A digest is taken once a process, so what is noted
        down after a job is what was there before it.
        """

        def of(wildcards: Any) -> dict[str, str | None]:
            job = self._job(stage, wildcards, name)
            files = {path: self._contents.digest(user_path(path)) for path in job.sources}
            return {**files, **job.code}

        return of

    def training_command(self, wildcards: Any, output: Any) -> str:
        """Parameter ``command`` of a training: what starts it, which Snakemake passes over as in :meth:`whole_spec`."""
        job, machines = self._job("train", wildcards), self.plan.benchmark.execution.machines
        return on_each_machine(job.start, machines, job.threads)

    def training_threads(self, wildcards: Any) -> int:
        """Threads of a training job, in all its processes on a machine."""
        return self._job("train", wildcards).threads

    def _job(self, stage: str, wildcards: Any, name: str = "") -> Job:
        return self.plan.job(stage, getattr(wildcards, "chunk", name))

    def _is_stale(self, job: Job) -> bool:
        # Shares are removed when they have been put together.
        if job.stage not in PUTTING_TOGETHER and not all(map(os.path.exists, job.inputs)):
            return True
        if job.manifest is None:
            return False
        lines = missing_from(job.manifest, self._contents, job.wanted)
        if lines and job not in self._announced:
            self._announced.append(job)
            more = f", and {len(lines) - 1} more" if len(lines) > 1 else ""
            print(f"{job.stage} {job.name} runs again: {lines[0]}{more}", file=sys.stderr)
        return bool(lines)
