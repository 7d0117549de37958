"""What is compared with what: the models, prompt sets and scorers of one benchmark."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from artifacts import layout
from artifacts.errors import InputError
from artifacts.plugins import nearest

BASELINE, BASE, ASKED = "baseline", "base", "asked"


@dataclass(frozen=True)
class ComparedModel:
    """One model of the table.

    ``variant`` is ``base`` for the untrained base, the base's name for a further one, and the model's name for one
    from elsewhere; ``seed`` is ``None`` for all that was not trained here. ``baseline`` names the variant that differs
    only by having no safeguard.
    """

    name: str
    base: str
    variant: str
    objective: str | None
    safeguard: bool
    seed: int | None
    pairs: str | None
    baseline: str | None

    @property
    def trained(self) -> bool:
        """Whether this benchmark trained the model, so that it has a training log."""
        return self.seed is not None


@dataclass(frozen=True)
class Statistics:
    """Settings of the intervals: level; bootstrap resamples and their seed, for the mean of a single model."""

    confidence: float = 0.95
    resamples: int = 2000
    seed: int = 0


class Pair(NamedTuple):
    """Variant ``a`` against ``b``, and why: ``baseline`` (a without its safeguard), ``base``, or ``asked`` for."""

    a: str
    b: str
    kind: str


@dataclass(frozen=True)
class Comparison:
    """Everything that tables, report and tracking need to find their files.

    ``scorers`` maps a scorer's name to its protocol; ``lower_is_better`` names those whose low scores are good,
    ``no_judges`` those that describe images and do not rate them; ``root`` is ``results/<benchmark>``;
    ``comparisons`` are pairs of variants to be compared besides those that follow from baselines and bases;
    ``rated`` maps each scorer that does not rate all prompt sets to those that it rates.
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

    @classmethod
    def from_spec(cls, spec: Mapping[str, Any]) -> Comparison:
        """Build from the JSON that a rule passes (keys as the fields)."""
        return cls(
            benchmark=spec["benchmark"],
            root=Path(spec["root"]),
            models=tuple(ComparedModel(**model) for model in spec["models"]),
            prompt_sets=tuple(spec["prompt_sets"]),
            scorers=dict(spec["scorers"]),
            statistics=Statistics(**spec["statistics"]),
            lower_is_better=frozenset(spec.get("lower_is_better", ())),
            no_judges=frozenset(spec.get("no_judges", ())),
            comparisons=tuple((a, b) for a, b in spec.get("comparisons", ())),
            rated={scorer: tuple(names) for scorer, names in spec.get("rated", {}).items()},
        )

    def to_spec(self) -> dict[str, Any]:
        """The JSON that :meth:`from_spec` reads."""
        return {
            "benchmark": self.benchmark,
            "root": self.root.as_posix(),
            "models": [asdict(model) for model in self.models],
            "prompt_sets": list(self.prompt_sets),
            "scorers": dict(self.scorers),
            "statistics": asdict(self.statistics),
            "lower_is_better": sorted(self.lower_is_better),
            "no_judges": sorted(self.no_judges),
            "comparisons": [list(pair) for pair in self.comparisons],
            "rated": {scorer: list(names) for scorer, names in self.rated.items()},
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
        """The variant that is the untrained base of this one; ``None`` if there is none or it is this one."""
        base = self.base_of(variant)
        found = next((m.variant for m in self.models if m.name == layout.base_model_name(base)), None)
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
        pairs += [Pair(v, base, BASE) for v in self.variants if (base := self.untrained(v)) is not None]
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
