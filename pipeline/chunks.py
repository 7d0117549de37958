"""How the work of a benchmark is cut into jobs, and what these are called."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TypeVar

from artifacts import layout
from pipeline.variant_settings import VariantSettings

T = TypeVar("T")
Shard = tuple[int, int]
"""One of several shares: its number, from 0, and how many there are; (0, 1) is the whole."""


def chunks(items: Sequence[T], size: int) -> list[tuple[T, ...]]:
    """Consecutive pieces of ``size`` items, the last one shorter; items added at the end change no full piece."""
    return [tuple(items[i : i + size]) for i in range(0, len(items), size)]


@dataclass(frozen=True)
class DrawnModels:
    """Models of one base that a job draws and scores.

    Attributes:
        name: in the names of its jobs.
        models: their names.
        trained_by: name of the job that trains them; ``None`` for a base or a model from elsewhere.
    """

    name: str
    models: tuple[str, ...]
    trained_by: str | None = None


@dataclass(frozen=True)
class Chunks(VariantSettings):
    """The pieces of one benchmark's work."""

    @property
    def seed_chunks(self) -> list[tuple[int, ...]]:
        """Seeds that one job handles."""
        return chunks(self.benchmark.seeds, self.benchmark.execution.seeds_per_job) if self.variants else []

    @cached_property
    def variant_groups(self) -> list[tuple[str, ...]]:
        """Variants that one job handles."""
        if not self.benchmark.execution.baselines_share_jobs:
            return chunks(list(self.variants), self.benchmark.execution.variants_per_job)
        # A baseline shares a job with the first variant that is compared with it, and with no other one, so that one
        # that is added later leaves their job alone. A group's place is that of its first variant.
        partner: dict[str, str] = {}
        for name in self.variants:
            if (baseline := self.baseline(name)) in self.variants:
                partner.setdefault(str(baseline), name)
        groups: dict[str, list[str]] = {}
        for name in self.variants:
            baseline = self.baseline(name)
            groups.setdefault(baseline if baseline and partner.get(baseline) == name else name, []).append(name)
        return [tuple(group) for group in groups.values()]

    @property
    def training_chunks(self) -> list[tuple[tuple[str, ...], tuple[int, ...]]]:
        """Variants and seeds that one job trains."""
        return [(variants, seeds) for variants in self.variant_groups for seeds in self.seed_chunks]

    @property
    def prompt_set_chunks(self) -> list[tuple[str, ...]]:
        """Prompt sets that one job handles."""
        return chunks(list(self.benchmark.prompt_sets), self.benchmark.execution.prompt_sets_per_job)

    def scorers_of(self, prompt_sets: Sequence[str]) -> list[tuple[str, ...]]:
        """Scorers that one job handles, for each job that scores images of these prompt sets.

        Which scorers are together hangs on no limit, so that a job is the same one with and without it.
        """
        pieces = chunks(list(self.benchmark.scorers), self.benchmark.execution.scorers_per_job)
        return [piece for piece in pieces if any(set(self.rated_by(name)) & set(prompt_sets) for name in piece)]

    def rated_by(self, scorer: str) -> tuple[str, ...]:
        """Prompt sets whose images a scorer rates, in the config's order."""
        own = self.benchmark.scorers[scorer].prompt_sets
        return tuple(name for name in self.benchmark.prompt_sets if own is None or name in own)

    def limits(self, scorers: Iterable[str], prompt_sets: Sequence[str]) -> dict[str, list[str]]:
        """Those of the prompt sets that a scorer rates, for each of the scorers that does not rate all of them."""
        rated = {scorer: [name for name in prompt_sets if name in self.rated_by(scorer)] for scorer in scorers}
        return {scorer: names for scorer, names in rated.items() if len(names) < len(prompt_sets)}

    @cached_property
    def shards(self) -> dict[str, list[Shard]]:
        """Shares of the images of a model on a prompt set, by the stage whose jobs have one each."""
        execution = self.benchmark.execution
        counts = {"generate": execution.generation_shards, "score": execution.scoring_shards}
        return {stage: [(index, count) for index in range(count)] for stage, count in counts.items()}

    def is_shared(self, stage: str) -> bool:
        """Whether several jobs of a stage share the images of a model on a prompt set."""
        return len(self.shards[stage]) > 1

    @cached_property
    def drawn(self) -> list[DrawnModels]:
        """Models by the jobs that draw and score them: the base, those from elsewhere, each chunk of trained ones."""
        found = [DrawnModels("base", (self.base_model,))]
        found += [DrawnModels(name, (name,)) for name in self.external_models]
        for variants, seeds in self.training_chunks:
            trained_by = label(variants, seeds)
            for drawn in (*self._exported(variants), variants):
                models = tuple(self.models_of(drawn, seeds))
                found.append(DrawnModels(label(drawn, seeds), models, trained_by=trained_by))
        return found

    def _exported(self, variants: Sequence[str]) -> list[tuple[str, ...]]:
        """Those of the variants that are exported at a step, for each step: a step that is added leaves the others."""
        steps = {variant: self.training(variant).exports for variant in variants}
        return [
            tuple(layout.at_step(variant, step) for variant in variants if step in steps[variant])
            for step in sorted({step for exports in steps.values() for step in exports})
        ]


def label(*parts: str | Sequence[object]) -> str:
    """Name of a piece of work: single items as they are, several as first and last.

    It holds names and no running numbers, so what is added elsewhere leaves it as it is. No name has a ``~``.
    """
    return "/".join(part if isinstance(part, str) else _span(part) for part in parts)


def _span(items: Sequence[object]) -> str:
    between = "~" if isinstance(items[0], str) else "-"
    return str(items[0]) if len(items) == 1 else f"{items[0]}{between}{items[-1]}"


def shard_label(name: str, shard: Shard) -> str:
    """Name of one share of a piece of work."""
    return name if shard[1] == 1 else f"{name}.{shard[0]}"
