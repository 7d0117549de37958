"""How the work of a benchmark is cut into jobs, and what their rules are called."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TypeVar

from pipeline.drawn_models import DrawnModels
from pipeline.variant_settings import VariantSettings

T = TypeVar("T")


def chunks(items: Sequence[T], size: int) -> list[tuple[T, ...]]:
    """Consecutive pieces of ``size`` items, the last one shorter; items added at the end change no full piece."""
    return [tuple(items[i : i + size]) for i in range(0, len(items), size)]


@dataclass(frozen=True)
class Chunks(VariantSettings):
    """The pieces of one benchmark's work, and their files."""

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
    def variant_chunks(self) -> list[tuple[str, ...]]:
        """As :attr:`variant_groups`; if all are single, the wildcard that stands for each of them."""
        groups = self.variant_groups
        return [("{variant}",)] if all(len(group) == 1 for group in groups) else groups

    @property
    def prompt_set_chunks(self) -> list[tuple[str, ...]]:
        """Prompt sets that one job handles."""
        return chunks(list(self.benchmark.prompt_sets), self.benchmark.execution.prompt_sets_per_job)

    @property
    def scorer_chunks(self) -> list[tuple[str, ...]]:
        """Scorers that one job handles."""
        return chunks(list(self.benchmark.scorers), self.benchmark.execution.scorers_per_job)

    @property
    def sharded(self) -> bool:
        """Whether the images of a model on a prompt set are drawn by several jobs."""
        return self.benchmark.execution.generation_shards > 1

    @property
    def shards(self) -> list[tuple[int, int]]:
        """Shares of the images of a model on a prompt set: (0, 1) alone is all of them."""
        count = self.benchmark.execution.generation_shards
        return [(index, count) for index in range(count)]

    @cached_property
    def drawn(self) -> list[DrawnModels]:
        """Models by the rules that draw and score them: the base, those from elsewhere, each chunk of trained ones."""
        groups = [DrawnModels("_base", (self.base_model,), "base", "the base")]
        if self.external_models:
            groups.append(DrawnModels("_model", ("{model}",), "{model}", "{wildcards.model}"))
        for variants in self.variant_chunks:
            words = ", ".join(variants).replace("{variant}", "{wildcards.variant}")
            for seeds in self.seed_chunks:
                groups.append(
                    DrawnModels(
                        kind="",
                        models=tuple(self.models_of(variants, seeds)),
                        label=label(variants, seeds),
                        title=f"{words}, seeds {', '.join(map(str, seeds))},",
                        variants=variants,
                        seeds=seeds,
                    )
                )
        return groups

    def drawn_rule_name(
        self,
        stage: str,
        group: DrawnModels,
        prompt_sets: tuple[str, ...],
        *,
        scorers: tuple[str, ...] | None = None,
        shard: tuple[int, int] = (0, 1),
    ) -> str:
        """Name of the rule that draws or scores a group of models."""
        name = self.rule_name(
            stage + group.kind, variants=group.variants, seeds=group.seeds, prompt_sets=prompt_sets, scorers=scorers
        )
        return name if shard[1] == 1 else f"{name}_shard{shard[0]}"

    def rule_name(
        self,
        stage: str,
        *,
        variants: tuple[str, ...] | None = None,
        seeds: tuple[int, ...] | None = None,
        prompt_sets: tuple[str, ...] | None = None,
        scorers: tuple[str, ...] | None = None,
    ) -> str:
        """Name of the rule that handles these chunks: the stage, and a number wherever there is more than one."""
        name = stage
        for kind, chunk, all_chunks in (
            ("variants", variants, self.variant_chunks),
            ("seeds", seeds, self.seed_chunks),
            ("prompts", prompt_sets, self.prompt_set_chunks),
            ("scorers", scorers, self.scorer_chunks),
        ):
            if chunk is not None and len(all_chunks) > 1:
                name += f"_{kind}{[tuple(map(str, c)) for c in all_chunks].index(tuple(map(str, chunk)))}"
        return name


def label(*parts: str | Sequence[object]) -> str:
    """Name of a piece of work: single items as they are, several as first and last."""
    words = [
        part if isinstance(part, str) else str(part[0]) if len(part) == 1 else f"{part[0]}-{part[-1]}" for part in parts
    ]
    return "/".join(words)


def shard_label(name: str, shard: tuple[int, int]) -> str:
    """Name of one share of a piece of work."""
    return name if shard[1] == 1 else f"{name}.{shard[0]}"


def shard_title(text: str, shard: tuple[int, int]) -> str:
    """Message of one share of a piece of work."""
    return text if shard[1] == 1 else f"{text}, share {shard[0] + 1} of {shard[1]}"
