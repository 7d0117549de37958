"""The stages of a benchmark as commands: what each does with its job description, and which files it writes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from artifacts import layout
from artifacts.block import checked
from artifacts.file_names import user_path


def _prompts(spec: Mapping[str, Any]) -> None:
    from evals.prompts import write
    from evals.scorers import check_prompt_set

    def check(texts: Sequence[str]) -> None:
        for scorer in spec.get("judged_by", ()):
            check_prompt_set(scorer, texts, spec["prompt_set"])

    write(spec, check)


def _generate(spec: Mapping[str, Any]) -> None:
    from evals.generation.generate import generate

    generate(spec)


def _collect(spec: Mapping[str, Any]) -> None:
    from evals.generation.generate import collect_shards

    collect_shards(spec)


def _score(spec: Mapping[str, Any]) -> None:
    from evals.scoring.scores import score

    score(spec)


def _gather(spec: Mapping[str, Any]) -> None:
    from evals.scoring.gathering import gather

    gather(spec)


def _compare(spec: Mapping[str, Any]) -> None:
    from evals.tables import write_tables
    from evals.tables.comparison import CompareSpec

    job = checked(CompareSpec, spec, "evals compare")
    published = None if job.published is None else user_path(job.published.file)
    write_tables(job.comparison, spec.get("generation"), published=published, config=job.config)


def _table(spec: Mapping[str, Any]) -> None:
    from evals.tables import made_with, print_table
    from evals.tables.comparison import CompareSpec

    made = made_with(checked(CompareSpec, spec, "evals table").root)
    print(print_table(made.comparison, made.generation, made.trained))


def _report(spec: Mapping[str, Any]) -> None:
    from evals.report.page import write_report
    from evals.report.settings import ReportSpec

    job = checked(ReportSpec, spec, "evals report")
    agreement = user_path(job.scorer_agreement) if job.scorer_agreement else None
    write_report(
        job.comparison,
        grid=job.grid,
        beside=job.beside,
        scorer_agreement=agreement,
        generation=job.generation,
    )


def _track(spec: Mapping[str, Any]) -> None:
    from artifacts.atomic import write_json
    from evals.tracking.mlflow import TrackSpec, page, track

    job = checked(TrackSpec, spec, "evals track")
    key = track(job.comparison, database=Path(job.database), artifacts=Path(job.artifacts))
    write_json(job.marker, {"database": job.database, "experiment": job.benchmark, "page": page(key)})


WITH_MANIFEST = ("prompts", "generate", "collect", "score", "gather")
"""Stages of several jobs, which say what they have written."""

THREADED = ("generate", "score")
"""Stages with an option for the number of threads, which changes no result and is in no spec."""

STAGES: dict[str, tuple[str, Callable[[Mapping[str, Any]], None]]] = {
    "prompts": ("write a prompt set, or fetch published ones", _prompts),
    "generate": ("generate the images of models on prompt sets", _generate),
    "collect": ("put together the images that several jobs have drawn", _collect),
    "score": ("score generated images, or a folder of images", _score),
    "gather": ("put together the scores that several jobs have given", _gather),
    "compare": ("write the tables of a benchmark, or compare score files and benchmarks", _compare),
    "table": ("print the main table of a benchmark", _table),
    "report": ("write the report page of a benchmark", _report),
    "track": ("import a benchmark into MLflow", _track),
}


def written(stage: str, spec: Mapping[str, Any]) -> list[Path]:
    """Files and folders of images that a stage with a manifest writes."""
    if stage == "prompts":
        return [Path(spec["out"])]
    root, drawn = spec["root"], [(model, name) for model in spec["models"] for name in spec["prompt_sets"]]
    if stage == "score":
        from evals.scoring.settings import ScoreSpec

        job = checked(ScoreSpec, spec, "evals score")
        return [layout.score_shard(root, x, model, name, job.shard) for model, name in drawn for x in job.raters(name)]
    if stage == "gather":
        return [
            layout.scores(root, x, m, s) for x, names in spec["rated"].items() for m in spec["models"] for s in names
        ]
    if "shard" in spec:
        return [layout.image_shard(root, model, name, spec["shard"]) for model, name in drawn]
    return [layout.images(root, model, name) for model, name in drawn]
