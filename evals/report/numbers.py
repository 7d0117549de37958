"""Where each number of the page comes from: models, their provenance, scorers and score files."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from artifacts import layout

if TYPE_CHECKING:
    from evals.report.score_files import ScoreFiles
    from evals.report.sources import Provenance
    from evals.tables.comparison import ComparedModel, Comparison


def numbers(comparison: Comparison, scores: ScoreFiles, provenance: Provenance) -> dict[str, Any]:
    """What the page's script looks up when a number is chosen; folders and files are relative to the benchmark's."""
    root = comparison.root
    return {
        "models": {
            model.name: {
                "folder": _folder(comparison, model),
                "seed": "" if model.seed is None else str(model.seed),
                "config": source.config_sha256,
                "commit": source.commit,
                "started": source.started,
            }
            for model, source in zip(comparison.models, provenance.sources, strict=True)
        },
        "variants": {name: [model.name for model in comparison.of_variant(name)] for name in comparison.variants},
        "scorers": {
            name: {"protocol": protocol, "fingerprints": [found[:12] for found in scores.fingerprints[name]]}
            for name, protocol in comparison.scorers.items()
        },
        "judges": list(comparison.judges),
        "pooled": list(comparison.pooled),
        "prompts": {name: len(table) for name, table in scores.prompts.items()},
        "rated": {name: list(comparison.sets_of(name)) for name in comparison.scorers},
        "score_file": layout.scores(root, "{scorer}", "{model}", "{set}").relative_to(root).as_posix(),
    }


def _folder(comparison: Comparison, model: ComparedModel) -> str:
    """Of the model; of what was not trained here, that of its images."""
    root = comparison.root
    if model.trained:
        return layout.model(root, model.name).relative_to(root).as_posix()
    return layout.images(root, model.name, comparison.prompt_sets[0]).parent.relative_to(root).as_posix()
