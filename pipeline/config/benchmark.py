"""The whole config of one benchmark."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from artifacts.block import Block, Name, Seed
from artifacts.validation import known
from evals.generation.settings import SamplingSettings
from evals.tables.comparison import Statistics
from pipeline.config import registries
from pipeline.config.audit import Audit
from pipeline.config.base import Base
from pipeline.config.execution import Execution
from pipeline.config.models import Model
from pipeline.config.pairs import PairSet
from pipeline.config.prompt_sets import PromptSet
from pipeline.config.published import Published
from pipeline.config.report import Report
from pipeline.config.scorers import Scorer
from pipeline.config.training import Training
from pipeline.config.variants import Variant

RESERVED_BENCHMARKS = ("build", "mlflow", "published", "score_cache")
"""Folders under ``results/`` that are not a benchmark's."""

RESERVED_VARIANT = "base"
"""The untrained base as a model of the table."""

RESERVED_PROMPT_SET = "all"
"""The pooled rows of the tables."""


class Benchmark(Block):
    """One benchmark: one config file, one comparison table, one folder below ``results/``."""

    benchmark: Name = Field(description="Name of the benchmark; its results lie in `results/<benchmark>/`.")
    base: Base = Field(description="The pretrained model that all runs start from.")
    other_bases: list[Base] = Field(
        default=[], description="Further bases, for `models` only; each is a row of the table under its own name."
    )
    pairs: dict[Name, PairSet] = Field(
        default={}, description="Preference data sets by name; at least one if anything is trained."
    )
    training: Training = Field(default_factory=Training, description="Hyperparameters of the training loop.")
    variants: list[Variant] = Field(
        default=[], description="What is trained and compared; may be left out where there are `models`."
    )
    models: list[Model] = Field(default=[], description="Models from elsewhere that are compared too.")
    seeds: list[Seed] = Field(
        default=[],
        description="Training seeds: every variant is trained once for each, and intervals are over them; at least "
        "one if anything is trained.",
    )
    prompt_sets: Annotated[dict[Name, PromptSet], Field(min_length=1)] = Field(description="Prompt sets by name.")
    generation: SamplingSettings = Field(default_factory=SamplingSettings, description="How images are drawn.")
    scorers: Annotated[dict[Annotated[str, known("scorer", registries.scorers)], Scorer], Field(min_length=1)] = Field(
        description="Scorers by name."
    )
    comparisons: list[Annotated[list[str], Field(min_length=2, max_length=2)]] = Field(
        default=[],
        description="Pairs of variants or models that the tables compare besides each with its base and its baseline, "
        "`[[new, old], [new+sdpo, old+sdpo]]`; `base` is the untrained base, `new@500` a step of `training.export_at`.",
    )
    statistics: Statistics = Field(default_factory=Statistics, description="Settings of the intervals.")
    published: Published | None = Field(default=None, description="Published figures to set beside ours.")
    report: Report = Field(default_factory=Report, description="What the page shows.")
    audit: Audit = Field(default_factory=Audit, description="What the target `audit` measures.")
    execution: Execution = Field(default_factory=Execution, description="How the work is cut into jobs.")

    def prompts_of(self, name: str) -> tuple[str, PromptSet]:
        """The prompt set whose prompts a set has: itself, or the one that it shows."""
        shown = self.prompt_sets[name].shows or name
        return shown, self.prompt_sets[shown]
