"""Where the files of one benchmark lie, as the rules declare them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from artifacts import layout
from artifacts.hub import is_local
from pipeline.config import Benchmark, registries
from pipeline.config.base import Base
from pipeline.config.models import Model

PAIR_FILES = ("cache.json", "index.parquet")
MODEL_FILES = ("provenance.json", "training.parquet", "drift.parquet")
TABLE_FILES = (
    *("scores.csv", "win_rates.csv", "differences.csv", "drift.csv"),
    *("main.md", "main.tex", "main.html", "comparison.json"),
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
        """Models of one variant; ``variant`` may be a wildcard."""
        return [layout.model_name(self.benchmark.base.name, variant, seed) for seed in seeds]

    def models_of(self, variants: Sequence[str], seeds: Sequence[int]) -> list[str]:
        """Models of several variants."""
        return [model for variant in variants for model in self.models(variant, seeds)]

    def prompt_files(self, prompt_sets: Sequence[str]) -> list[str]:
        """Prompt sets."""
        return [layout.prompts(self.root, name).as_posix() for name in prompt_sets]

    def pair_files(self, dataset: str) -> list[str]:
        """Files that say that a pair cache is complete."""
        folder = layout.pairs(self.root, dataset, self.benchmark.base.name)
        return [(folder / name).as_posix() for name in PAIR_FILES]

    def model_files(self, models: Sequence[str]) -> list[str]:
        """Files of trained models."""
        names = (*MODEL_FILES, registries.weights_file(self.benchmark.base.family))
        return [(layout.model(self.root, m) / name).as_posix() for m in models for name in names]

    def trained_model_files(self) -> list[str]:
        """Files of all trained models."""
        models = [m for v in self.benchmark.variants for m in self.models(v.name, self.benchmark.seeds)]
        return self.model_files(models)

    def manifest_files(self, models: Sequence[str], prompt_sets: Sequence[str]) -> list[str]:
        """Manifests of generated images."""
        return [(layout.images(self.root, m, p) / "manifest.parquet").as_posix() for m in models for p in prompt_sets]

    def score_files(self, models: Sequence[str], prompt_sets: Sequence[str], scorers: Sequence[str]) -> list[str]:
        """Scores."""
        return [layout.scores(self.root, s, m, p).as_posix() for s in scorers for m in models for p in prompt_sets]

    def table_files(self) -> list[str]:
        """Tables."""
        names = (*TABLE_FILES, *(PUBLISHED_FILES if self.benchmark.published else ()))
        return [(self.root / "tables" / name).as_posix() for name in names]

    def published_files(self) -> list[str]:
        """The file of published figures, if the config names one."""
        return [] if self.benchmark.published is None else [self.benchmark.published.file]

    def report_files(self) -> list[str]:
        """The report page and its figures."""
        # Drift is of trained models; without a model beside the base there is nothing to compare.
        trained, compared = bool(self.benchmark.variants), bool(self.benchmark.variants or self.external_models)
        compared &= any(getattr(registries.scorer(name), "JUDGES", True) for name in self.benchmark.scorers)
        figures = ["grid.png", *(["drift.png"] if trained else []), *(["win_rates.png"] if compared else [])]
        files = ["report/index.html", *(f"figures/{name}" for name in figures)]
        return [(self.root / name).as_posix() for name in files]

    def tracking_marker(self) -> str:
        """Written when a benchmark has been imported into the store that all benchmarks share, and deleted with it."""
        return (self.results / "mlflow" / "imported" / f"{self.benchmark.benchmark}.json").as_posix()

    def audit_files(self) -> list[str]:
        """Rows, figures and picture of the audit."""
        return [(self.root / "audit" / name).as_posix() for name in AUDIT_FILES]

    def base_files(self, name: str | None = None) -> list[str]:
        """Small files of a base, by default of the one that is trained from, that change whenever its weights do."""
        base = self.bases[name or self.benchmark.base.name]
        return [file for path in (base.path, base.vae) if path is not None for file in tracked_files(path)]

    def drawn_inputs(self, models: Sequence[str]) -> list[str]:
        """Files that models of one base are drawn from."""
        files = self.base_files(models[0].partition("/")[0])
        for name in models:
            if name == self.base_model:
                continue
            if name not in self.external_models:
                files += self.model_files([name])
            elif (model := self.external_models[name]) is not None:
                files += source_files(model)
        return files

    def shard_folders(self, models: Sequence[str], prompt_sets: Sequence[str], shard: tuple[int, int]) -> list[str]:
        """Folders of one job's share of the images of models."""
        return [layout.image_shard(self.root, m, p, shard).as_posix() for m in models for p in prompt_sets]

    def agreement_files(self) -> list[str]:
        """The file that says how often scorers agree with an oracle, if the report shows it."""
        path = self.benchmark.report.scorer_agreement
        return [] if path is None else [path]

    def weight_files(self, scorers: Sequence[str]) -> list[str]:
        """Small files of the scorers' weights that change whenever the weights do."""
        weights = [self.benchmark.scorers[name].weights for name in scorers]
        return [file for path in weights if path is not None for file in tracked_files(path)]


def source_files(model: Model) -> list[str]:
    """Local files that say what the weights of a model from elsewhere are; a hub id has a revision instead."""
    if not is_local(model.source):
        return []
    path = Path(model.source).expanduser() / (model.file or "")
    if path.is_file():
        return [path.as_posix()]
    return [*tracked_files(path.as_posix()), *tracked_files((path / "unet").as_posix())]


def tracked_files(path: str) -> list[str]:
    """Files that say what lies in a folder of weights.

    Weights are megabytes to gigabytes, and Snakemake compares large files by time stamp, which a fresh checkout
    changes; files up to 1 MB it compares by content. The provenance records the digest of the weights. Hub ids have
    a revision instead.
    """
    folder = Path(path).expanduser()
    if not is_local(path):
        return []
    found = [folder / name for name in ("provenance.json", "model_index.json", "config.json")]
    return [file.as_posix() for file in found if file.is_file()]
