"""Which files one benchmark reads, and which its rules declare."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from artifacts import layout
from artifacts.file_names import user_path
from artifacts.hub import is_local
from evals.generation.external_models import settings_beside
from evals.report.guidance import guided
from evals.report.settings import BROWSER, DEGENERATE
from evals.tables.comparison import ApartSet
from evals.tables.rows import TABLES
from families.diffusers_folder import denoiser_folder
from pipeline.config import Benchmark, registries
from pipeline.config.base import Base
from pipeline.config.models import Model
from pipeline.config.named_files import names_a_file

TABLE_FILES = (
    *(f"{name}.csv" for name in TABLES),
    *("categories.md", "main.md", "main.tex", "main.html", "comparison.json"),
)
AUDIT_FILES = ("audit.parquet", "audit.json", "audit.png")

PUBLISHED_FILES = ("published.csv", "published.md")


@dataclass(frozen=True)
class Files:
    """The files of one benchmark.

    Args:
        benchmark: the checked config.
        results: folder that holds the results of all benchmarks.
    """

    benchmark: Benchmark
    results: Path = Path("results")

    @property
    def root(self) -> Path:
        """Folder of this benchmark's results."""
        return self.results / self.benchmark.benchmark

    @property
    def base_model(self) -> str:
        """The untrained base as a model."""
        return layout.base_model_name(self.benchmark.base.name)

    @property
    def bases(self) -> dict[str, Base]:
        """Bases by name: the one that is trained from, then the others."""
        return {base.name: base for base in (self.benchmark.base, *self.benchmark.other_bases)}

    @property
    def external_models(self) -> dict[str, Model | None]:
        """Names of the models from elsewhere, by base; an other base is itself one of them, without a block."""
        found: dict[str, Model | None] = {}
        for base in self.bases:
            if base != self.benchmark.base.name:
                found[layout.base_model_name(base)] = None
            for model in self.benchmark.models:
                if (model.base or self.benchmark.base.name) == base:
                    found[layout.external_model_name(base, model.name)] = model
        return found

    def models(self, variant: str, seeds: Sequence[int]) -> list[str]:
        """Models of one variant."""
        return [layout.model_name(self.benchmark.base.name, variant, seed) for seed in seeds]

    def models_of(self, variants: Sequence[str], seeds: Sequence[int]) -> list[str]:
        """Models of several variants."""
        return [model for variant in variants for model in self.models(variant, seeds)]

    def table_files(self) -> list[str]:
        """Tables."""
        names = (*TABLE_FILES, *(PUBLISHED_FILES if self.benchmark.published else ()))
        return [(self.root / "tables" / name).as_posix() for name in names]

    def report_files(self) -> list[str]:
        """The report page and its figures."""
        # Drift is of trained models; without a model beside the base there is nothing to compare.
        trained, compared = bool(self.benchmark.variants), bool(self.benchmark.variants or self.external_models)
        judged = any(getattr(registries.scorer(name), "JUDGES", True) for name in self.benchmark.scorers)
        figures = [
            "grid.png",
            *(["drift.png", "noise.png"] if trained else []),
            *(["differences.png"] if compared else []),
            *(["ranks.png"] if compared and judged else []),
            *(["guidance.png"] if self._guidance_varies() else []),
        ]
        files = ["report/index.html", DEGENERATE, *(f"figures/{name}" for name in figures)]
        return [(self.root / name).as_posix() for name in files]

    def browser_folder(self) -> str:
        """The image browser beside the page."""
        return (self.root / BROWSER).as_posix()

    @property
    def apart(self) -> dict[str, ApartSet]:
        """Prompt sets that are drawn under settings of their own."""
        return {
            name: ApartSet(shows=block.shows, generation=block.generation)
            for name, block in self.benchmark.prompt_sets.items()
            if block.generation is not None
        }

    def _guidance_varies(self) -> bool:
        """Whether the report has curves by guidance."""
        sets = tuple(self.benchmark.prompt_sets)
        judges = {n: b for n, b in self.benchmark.scorers.items() if getattr(registries.scorer(n), "JUDGES", True)}
        return bool(guided(self.apart, {name: block.prompt_sets or sets for name, block in judges.items()}))

    def tracking_marker(self) -> str:
        """Written when a benchmark has been imported into the store that all benchmarks share, and deleted with it."""
        return (self.results / "mlflow" / "imported" / f"{self.benchmark.benchmark}.json").as_posix()

    def audit_files(self) -> list[str]:
        """Rows, figures and picture of the audit."""
        return [(self.root / "audit" / name).as_posix() for name in AUDIT_FILES]

    def base_paths(self, name: str | None = None) -> list[str]:
        """Local files and folders of a base, by default of the one that is trained from."""
        base = self.bases[name or self.benchmark.base.name]
        return [path for path in (base.path, base.vae) if path is not None and is_local(path)]

    def source_paths(self, models: Sequence[str]) -> list[str]:
        """Local files and folders of the weights of models from elsewhere; a hub id has a revision instead."""
        blocks = [block for name in models if (block := self.external_models.get(name)) is not None]
        return [path for block in blocks if is_local(block.source) for path in _source_paths(block)]

    def scorer_paths(self, scorers: Sequence[str]) -> list[str]:
        """Local files and folders that scorers read."""
        blocks = [self.benchmark.scorers[name] for name in scorers]
        weights = [block.weights for block in blocks if block.weights is not None and is_local(block.weights)]
        return [*weights, *(path for block in blocks for path in option_paths(block.options))]


def _source_paths(model: Model) -> list[str]:
    """What of a model's source is read: the denoiser's folder, if it is that of a whole pipeline."""
    path = user_path(model.source) / (model.file or "")
    beside = settings_beside(path) if path.is_file() else []
    return [file.as_posix() for file in (denoiser_folder(path) or path, *beside)]


def option_paths(options: Mapping[str, Any]) -> list[str]:
    """Files that the options of a source name, and folders by an option whose name says so."""
    return [path for key, value in options.items() for path in _paths(key, value)]


def _paths(key: str, value: Any) -> Iterator[str]:
    if isinstance(value, Mapping):
        yield from option_paths(value)
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _paths(key, item)
    elif isinstance(value, str):
        path = user_path(value)
        try:
            # A word such as `train` may be a folder by chance, and what is downloaded into a cache is no input.
            if path.is_file() or (names_a_file(key) and path.is_dir()):
                yield value
        except (OSError, ValueError):
            # A text too long to be a name, or with a null character.
            return
