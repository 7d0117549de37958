"""What is compared with what: the models, prompt sets and scorers of one benchmark."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, NamedTuple

from pydantic import Field

from artifacts import layout
from artifacts.block import Block, JobSpec
from artifacts.errors import InputError
from artifacts.plugins import nearest
from evals.generation.settings import DrawnApart, SamplingSettings

BASELINE, BASE, ASKED = "baseline", "base", "asked"


class ComparedModel(Block):
    """One model of the table."""

    name: str = Field(description="Name of the model.")
    base: str = Field(description="Name of its base.")
    variant: str = Field(
        description="`base` for the untrained base, the base's name for a further one, and the model's name for one "
        "from elsewhere."
    )
    objective: str | None = None
    safeguard: bool = False
    seed: int | None = Field(default=None, description="Null for all that was not trained here.")
    step: int | None = Field(default=None, description="Step of its training, if that is not the last.")
    pairs: str | None = None
    baseline: str | None = Field(default=None, description="The variant that differs only by having no safeguard.")

    @property
    def trained(self) -> bool:
        """Whether this benchmark trained the model, so that it has a training log."""
        return self.seed is not None


class Statistics(Block):
    """Settings of the intervals; docs/statistics.md."""

    confidence: float = Field(default=0.95, ge=0.5, lt=1, description="Level of the intervals.")


class Pair(NamedTuple):
    """Variant ``a`` against ``b``, and why: ``baseline`` (a without its safeguard), ``base``, or ``asked`` for."""

    a: str
    b: str
    kind: str


class ApartSet(Block):
    """A prompt set whose images are drawn under settings of its own."""

    shows: str | None = Field(default=None, description="The prompt set whose prompts it has, if not its own.")
    generation: DrawnApart = Field(description="What is drawn otherwise.")


@dataclass(frozen=True)
class Comparison:
    """Everything that tables, report and tracking need to find their files.

    ``scorers`` maps a scorer's name to its protocol; ``lower_is_better`` names those whose low scores are good,
    ``no_judges`` those that describe images and do not rate them; ``root`` is ``results/<benchmark>``;
    ``comparisons`` are pairs of variants to be compared besides those that follow from baselines and bases;
    ``rated`` maps each scorer that does not rate all prompt sets to those that it rates; ``apart`` has the prompt sets
    that are drawn under settings of their own, and are never pooled with others; ``reference`` is the variant that all
    others are compared with, in the place of their untrained base; ``images_per_prompt`` has the prompt sets with
    several images a prompt.
    """

    benchmark: str
    root: Path
    models: tuple[ComparedModel, ...]
    prompt_sets: tuple[str, ...]
    scorers: Mapping[str, str]
    statistics: Statistics
    lower_is_better: frozenset[str] = frozenset()
    no_judges: frozenset[str] = frozenset()
    comparisons: tuple[tuple[str, str], ...] = ()
    rated: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    apart: Mapping[str, ApartSet] = field(default_factory=dict)
    reference: str | None = None
    images_per_prompt: Mapping[str, int] = field(default_factory=dict)

    def to_spec(self) -> dict[str, Any]:
        """Keys of a :class:`ComparisonSpec`."""
        return {
            "benchmark": self.benchmark,
            "root": self.root.as_posix(),
            "models": [model.model_dump() for model in self.models],
            "prompt_sets": list(self.prompt_sets),
            "scorers": dict(self.scorers),
            "statistics": self.statistics.model_dump(),
            "lower_is_better": sorted(self.lower_is_better),
            "no_judges": sorted(self.no_judges),
            "comparisons": [list(pair) for pair in self.comparisons],
            "rated": {scorer: list(names) for scorer, names in self.rated.items()},
            **({"apart": {name: own.model_dump() for name, own in self.apart.items()}} if self.apart else {}),
            **({"reference": self.reference} if self.reference else {}),
            **({"images_per_prompt": dict(self.images_per_prompt)} if self.images_per_prompt else {}),
        }

    @property
    def variants(self) -> tuple[str, ...]:
        """Variants in table order, the base first if it is a model."""
        return tuple(dict.fromkeys(model.variant for model in self.models))

    @property
    def judges(self) -> tuple[str, ...]:
        """Scorers that rate images, in table order; the others describe them."""
        return tuple(name for name in self.scorers if name not in self.no_judges)

    def sets_of(self, scorer: str) -> tuple[str, ...]:
        """Prompt sets that a scorer rates, in table order."""
        return self.rated.get(scorer, self.prompt_sets)

    @property
    def pooled(self) -> tuple[str, ...]:
        """Prompt sets that the pooled rows are over: those that are drawn as the benchmark says."""
        return tuple(name for name in self.prompt_sets if name not in self.apart)

    @property
    def shown(self) -> frozenset[str]:
        """Prompt sets that have another's prompts."""
        return frozenset(name for name, own in self.apart.items() if own.shows)

    def images_of(self, prompt_set: str) -> int:
        """Images that a set has of each prompt."""
        return self.images_per_prompt.get(prompt_set, 1)

    def raters(self, prompt_set: str) -> tuple[str, ...]:
        """Scorers that rate a prompt set, in table order."""
        return tuple(name for name in self.scorers if prompt_set in self.sets_of(name))

    def of_variant(self, variant: str) -> tuple[ComparedModel, ...]:
        """The models of one variant, one a seed."""
        return tuple(model for model in self.models if model.variant == variant)

    def base_of(self, variant: str) -> str:
        """Name of the base that a variant is made from."""
        return self.of_variant(variant)[0].base

    def untrained(self, variant: str) -> str | None:
        """The variant that is the untrained base of this one, or the reference; ``None`` if it is this one."""
        base = self.base_of(variant)
        found = self.reference or next((m.variant for m in self.models if m.name == layout.base_model_name(base)), None)
        return None if found == variant else found

    @property
    def pairs(self) -> tuple[Pair, ...]:
        """Every variant and its baseline if it has one, then every variant and its base, then what was asked for.

        Two variants are compared once, by the first of these.

        Raises:
            InputError: a baseline, or a variant asked for, is not among the variants.
        """
        pairs = []
        for variant in self.variants:
            baseline = self.of_variant(variant)[0].baseline
            if baseline is not None:
                self._check(baseline, f"variant '{variant}': its baseline '{baseline}'")
                pairs.append(Pair(variant, baseline, BASELINE))
        kind = ASKED if self.reference else BASE
        pairs += [Pair(v, base, kind) for v in self.variants if (base := self.untrained(v)) is not None]
        for a, b in self.comparisons:
            for variant in (a, b):
                self._check(variant, f"comparisons: [{a}, {b}]: variant '{variant}'")
            if a == b:
                raise InputError(f"comparisons: [{a}, {b}]: expected two different variants")
            pairs.append(Pair(a, b, ASKED))
        first: dict[tuple[str, str], Pair] = {}
        for pair in pairs:
            first.setdefault((pair.a, pair.b), pair)
        return tuple(first.values())

    def _check(self, variant: str, what: str) -> None:
        if variant not in self.variants:
            hint = nearest(variant, list(self.variants))
            raise InputError(f"{what} is not in the comparison; expected one of {', '.join(self.variants)}{hint}")


class ComparisonSpec(JobSpec):
    """What ``evals compare``, ``report`` and ``track`` are told of a benchmark; keys as in :class:`Comparison`."""

    benchmark: str = Field(description="Name of the benchmark.")
    root: str = Field(description="Folder of the benchmark, `results/<benchmark>`.")
    models: list[ComparedModel] = Field(description="All models in table order, the base first.")
    prompt_sets: list[str] = Field(description="Names of prompt sets.")
    scorers: dict[str, str] = Field(description="Protocol of each scorer.")
    statistics: Statistics = Field(description="Settings of the intervals.")
    lower_is_better: list[str] = Field(default=[], description="Scorers whose low scores are good.")
    no_judges: list[str] = Field(default=[], description="Scorers that describe images.")
    comparisons: list[Annotated[list[str], Field(min_length=2, max_length=2)]] = Field(
        default=[], description="Pairs of variants that are compared besides."
    )
    rated: dict[str, list[str]] = Field(
        default={}, description="Prompt sets of the scorers that do not rate all of them, by name."
    )
    generation: SamplingSettings | None = Field(default=None, description="How the images were drawn.")
    apart: dict[str, ApartSet] = Field(default={}, description="Prompt sets that were drawn under other settings.")
    reference: str | None = Field(default=None, description="Variant that all are compared with, if not their base.")
    images_per_prompt: dict[str, Annotated[int, Field(ge=1)]] = Field(
        default={}, description="Images a prompt of the prompt sets that have more than one, by name."
    )

    @property
    def comparison(self) -> Comparison:
        """What is compared with what."""
        return Comparison(
            benchmark=self.benchmark,
            root=Path(self.root),
            models=tuple(self.models),
            prompt_sets=tuple(self.prompt_sets),
            scorers=self.scorers,
            statistics=self.statistics,
            lower_is_better=frozenset(self.lower_is_better),
            no_judges=frozenset(self.no_judges),
            comparisons=tuple((a, b) for a, b in self.comparisons),
            rated={scorer: tuple(names) for scorer, names in self.rated.items()},
            apart=self.apart,
            reference=self.reference,
            images_per_prompt=self.images_per_prompt,
        )


class PublishedFigures(Block):
    """Figures from the literature that ``published.csv`` and ``published.md`` set beside ours."""

    file: str = Field(description="CSV file.", min_length=1)


class CompareSpec(ComparisonSpec):
    """The job description of ``evals compare``, and of ``evals table``."""

    published: PublishedFigures | None = Field(default=None, description="Published figures to set beside ours.")
    config: dict[str, str] = Field(default={}, description="Digests of the config's blocks behind the tables, by key.")
