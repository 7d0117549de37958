"""What each variant of a benchmark is trained with, and what it is compared with."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

from artifacts import layout
from artifacts.validation import parse
from pipeline.config import registries
from pipeline.config.training import Training, merged_training
from pipeline.config.variants import Variant, baselines
from pipeline.files import Files
from sdpo.training.settings import without_run_settings


@dataclass(frozen=True)
class VariantSettings(Files):
    """The variants of one benchmark, and their files."""

    @cached_property
    def variants(self) -> dict[str, Variant]:
        """Variants by name, in the config's order."""
        return {variant.name: variant for variant in self.benchmark.variants}

    @cached_property
    def compared_variants(self) -> dict[str, tuple[str, int | None]]:
        """Rows of the tables that are trained, in order: the variant of each, and its step if that is not the last."""
        found: dict[str, tuple[str, int | None]] = {}
        for name in self.variants:
            found |= {layout.at_step(name, step): (name, step) for step in self.training(name).exports}
            found[name] = name, None
        return found

    def training(self, variant: str) -> Training:
        """The variant's hyperparameters after merging with the defaults."""
        return merged_training(self.benchmark.training, self.variants[variant].training)

    def parameters(self, variant: str) -> dict[str, Any]:
        """Hyperparameters of the variant's objective, defaults filled in."""
        own = self.variants[variant]
        model = registries.objective(own.objective).Parameters
        return parse(model, own.parameters, f"variant '{variant}'").model_dump(mode="json")

    def baseline(self, variant: str) -> str | None:
        """The variant without safeguard that this one is compared with, if there is one."""
        own = self.variants[variant]
        if own.safeguard is None or own.baseline is not None:
            return own.baseline
        settings = [
            {
                "name": name,
                "safeguard": v.safeguard,
                "objective": v.objective,
                "parameters": self.parameters(name),
                "pairs": v.pairs,
                "training": without_run_settings(self.training(name).model_dump()),
            }
            for name, v in self.variants.items()
        ]
        found = baselines(variant, settings)
        return found[0] if found else None
