"""Import a benchmark's results into MLflow: an experiment per benchmark, a run with the tables, below it one per
variant, and below those one per model.

The files are the results and MLflow is a view of them: a run is found by its tag ``bench.key``, kept if its tag
``bench.content_sha256`` is the digest of what would be logged, and replaced otherwise. The digest is written
last, so that a run without it is the rest of an interrupted import, and is deleted.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from itertools import zip_longest
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, TypeVar

from pydantic import Field

from evals.report.grids import draw_sheet
from evals.tables.comparison import ComparisonSpec
from evals.tracking.runs import Content, contents, first_view
from evals.tracking.store import KEY, store

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

    from evals.tables.comparison import Comparison

Item = TypeVar("Item")

CONTENT = "bench.content_sha256"
# MLflow's own limits: length of a parameter and of a tag; 1000 items a batch, of which 100 parameters.
_PARAM_LENGTH, _TAG_LENGTH, _METRICS, _PARAMS = 6000, 8000, 900, 100
_DIGEST_LENGTH, _VIEW_LENGTH = 36, 5000
_PARENT = "mlflow.parentRunId"
_VIEW = "scores"


class TrackSpec(ComparisonSpec):
    """The job description of ``evals track``."""

    database: str = Field(description="SQLite file of the store, unless `MLFLOW_TRACKING_URI` names another.")
    artifacts: str = Field(description="Folder of all artifacts.")
    marker: str = Field(description="File that says that the benchmark is in the store.")


def track(comparison: Comparison, *, database: Path, artifacts: Path) -> str:
    """Bring the experiment of a benchmark up to date with its files.

    Unchanged runs keep their identity, changed ones are replaced, runs of models that left the benchmark are
    deleted (softly, as MLflow does). Runs without ``bench.key`` are someone else's and are left alone.

    Args:
        comparison: the benchmark; its tables, figures and report must have been written.
        database, artifacts: of the store (:func:`evals.tracking.store.store`); the experiment gets a folder of its own.

    Returns:
        The experiment's id.

    Raises:
        InputError: a result file is missing or malformed, or the store cannot be opened.
    """
    found = contents(comparison)
    named = store(database, artifacts)
    location = None if named.artifacts is None else (named.artifacts / comparison.benchmark).resolve().as_uri()
    with named.alone() as client:
        return _write_all(found, client, comparison.benchmark, location)


def page(experiment: str) -> str:
    """Where a server shows the runs of an experiment, bases and variants first.

    By its own list MLflow opens an experiment as one of language models, with no score in sight.
    """
    return f"#/experiments/{experiment}/runs?workflowType=machine_learning&viewStateShareKey={_VIEW}"


def _write_all(contents: Sequence[Content], client: MlflowClient, benchmark: str, location: str | None) -> str:
    experiment = _experiment(client, benchmark, location)
    # What it is shown as; which page and view open, its address says.
    client.set_experiment_tag(experiment, "mlflow.experimentKind", "custom_model_development")
    client.set_experiment_tag(experiment, f"mlflow.sharedViewState.{_VIEW}", _view(contents))
    digests = {content.key: content.sha256() for content in contents}
    kept: dict[str, Run] = {}
    for run in _runs(client, experiment):
        key = run.data.tags.get(KEY)
        if key is None:
            continue
        if key not in kept and key in digests and run.data.tags.get(CONTENT) == digests[key]:
            kept[key] = run
        else:
            client.delete_run(run.info.run_id)
    ids: dict[str, str] = {}
    # Those that others hang from come first.
    for content in contents:
        parent = {_PARENT: ids[content.parent]} if content.parent is not None else {}
        if content.key not in kept:
            ids[content.key] = _write(client, experiment, content, digests[content.key], parent)
            continue
        run = kept[content.key]
        ids[content.key] = run.info.run_id
        if parent and run.data.tags.get(_PARENT) != parent[_PARENT]:
            client.set_tag(run.info.run_id, _PARENT, parent[_PARENT])
    return experiment


def _view(contents: Sequence[Content]) -> str:
    """The first view as MLflow keeps one; columns that would make it too long are left out."""
    view = first_view(contents)
    while len(text := json.dumps(view)) > _VIEW_LENGTH:
        view["selectedColumns"].pop()
    return text


def _experiment(client: MlflowClient, name: str, location: str | None) -> str:
    """Id of the experiment; one whose artifacts lie elsewhere (the results were moved) makes room for a new one."""
    from mlflow.entities import LifecycleStage

    found = client.get_experiment_by_name(name)
    if found is not None and found.lifecycle_stage == LifecycleStage.DELETED:
        client.restore_experiment(found.experiment_id)
    if found is not None and location is not None and found.artifact_location.rstrip("/") != location:
        client.rename_experiment(found.experiment_id, f"{name} (moved, {found.experiment_id})")
        client.delete_experiment(found.experiment_id)
        found = None
    return str(found.experiment_id if found else client.create_experiment(name, artifact_location=location))


def _runs(client: MlflowClient, experiment: str) -> list[Run]:
    runs: list[Run] = []
    token: str | None = None
    while True:
        page = client.search_runs([experiment], max_results=1000, page_token=token)
        runs += page
        token = page.token
        if not token:
            return runs


def _write(client: MlflowClient, experiment: str, content: Content, digest: str, parent: Mapping[str, str]) -> str:
    from mlflow.entities import Dataset, DatasetInput, InputTag, Metric, Param

    tags = {name: _cut(value, _TAG_LENGTH) for name, value in {**content.tags, **content.times, **parent}.items()}
    run = client.create_run(
        experiment, start_time=content.started or None, tags={**tags, KEY: content.key}, run_name=content.name
    )
    run_id = run.info.run_id
    time = content.ended or run.info.start_time
    metrics = [Metric(name, value, time, step) for name, value, step in content.metrics]
    params = [Param(name, _cut(value, _PARAM_LENGTH)) for name, value in content.params.items()]
    for some_metrics, some_params in zip_longest(_batches(metrics, _METRICS), _batches(params, _PARAMS), fillvalue=()):
        client.log_batch(run_id, metrics=some_metrics, params=some_params)
    if content.data:
        inputs = [
            DatasetInput(
                Dataset(name, found.digest[:_DIGEST_LENGTH], "local", json.dumps({"uri": found.source})),
                [InputTag("mlflow.data.context", found.context)],
            )
            for name, found in content.data.items()
        ]
        client.log_inputs(run_id, inputs)
    _write_artifacts(client, run_id, content)
    client.set_terminated(run_id, end_time=content.ended or None)
    client.set_tag(run_id, CONTENT, digest)
    return str(run_id)


def _write_artifacts(client: MlflowClient, run_id: str, content: Content) -> None:
    import pandas as pd

    for name, text in content.texts.items():
        client.log_text(run_id, text, name)
    for path, folder in content.files.items():
        client.log_artifact(run_id, str(path), folder)
    for path, name in content.tables.items():
        client.log_table(run_id, pd.read_csv(path, keep_default_na=False), name)
    if any(row.tiles for row in content.sheet):
        with TemporaryDirectory() as folder:
            picture = Path(folder) / "samples.png"
            picture.write_bytes(draw_sheet(content.sheet))
            client.log_artifact(run_id, str(picture))


def _cut(text: str, length: int) -> str:
    """Text within a limit; the whole of it is in the run's ``spec.json``."""
    return text if len(text) <= length else text[: length - 1] + "…"


def _batches(items: list[Item], size: int) -> Iterator[list[Item]]:
    return (items[start : start + size] for start in range(0, len(items), size))
