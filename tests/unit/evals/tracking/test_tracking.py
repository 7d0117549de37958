from __future__ import annotations

import csv
import json
import multiprocessing
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd
import pytest

from artifacts import layout
from artifacts.atomic import file_sha256, write_text
from artifacts.contracts import read_table, write_table
from artifacts.errors import InputError
from evals.tables.comparison import Comparison
from evals.tables.rows import TABLES
from evals.tracking.mlflow import CONTENT, track
from evals.tracking.runs import STEPS, contents, flattened
from evals.tracking.store import KEY
from evals.tracking.store import store as store_of

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run


class Store:
    """A store in a folder, and what it holds."""

    def __init__(self, folder: Path) -> None:
        self.database, self.artifacts = folder / "mlflow.db", folder / "artifacts"

    def track(self, comparison: Comparison) -> dict[str, Run]:
        track(comparison, database=self.database, artifacts=self.artifacts)
        return self.runs(comparison.benchmark)

    @property
    def client(self) -> MlflowClient:
        from mlflow import MlflowClient

        return MlflowClient(tracking_uri=f"sqlite:///{self.database}")

    def experiment(self, name: str) -> Any:
        return self.client.get_experiment_by_name(name)

    def runs(self, name: str) -> dict[str, Run]:
        runs = self.client.search_runs([self.experiment(name).experiment_id])
        keys = [run.data.tags[KEY] for run in runs]
        assert len(set(keys)) == len(keys)
        return dict(zip(keys, runs, strict=True))


@pytest.fixture(scope="module")
def empty_database(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """A database with MLflow's schema: making one takes seconds."""
    path = tmp_path_factory.mktemp("schema") / "mlflow.db"
    with store_of(path, path.parent).alone():
        return path.read_bytes()


@pytest.fixture
def store(tmp_path: Path, empty_database: bytes) -> Store:
    store = Store(tmp_path / "mlflow")
    store.database.parent.mkdir()
    store.database.write_bytes(empty_database)
    return store


@pytest.fixture
def reported(tiny_benchmark: Comparison) -> Comparison:
    """The tiny benchmark with stand-ins for figures and report: tracking copies them as they are."""
    write_text(tiny_benchmark.root / "report" / "index.html", "<!DOCTYPE html>")
    for name in ("drift", "differences", "grid"):
        write_text(tiny_benchmark.root / "figures" / f"{name}.png", name)
    return tiny_benchmark


def keys(comparison: Comparison) -> set[str]:
    """Of all runs: the tables', one a variant that was trained, and one a model."""
    models = comparison.models
    return {
        "tables",
        *(f"variant/{model.variant}" for model in models if model.trained),
        *(f"model/{model.name}" for model in models),
    }


def ids(runs: dict[str, Run]) -> dict[str, str]:
    return {key: run.info.run_id for key, run in runs.items()}


def test_a_run_per_model_and_one_with_the_tables(reported: Comparison, store: Store) -> None:
    runs = store.track(reported)
    assert set(runs) == keys(reported)
    assert all(run.info.status == "FINISHED" and run.data.tags[CONTENT] for run in runs.values())
    location = store.experiment("toy").artifact_location
    assert location == (store.artifacts / "toy").as_uri()

    run = runs["model/mini/dmpo+sdpo/seed1"]
    assert run.info.run_name == "dmpo+sdpo seed 1"
    with (reported.root / "tables" / "scores.csv").open() as file:
        rows = [r for r in csv.DictReader(file) if (r["variant"], r["seed"]) == ("dmpo+sdpo", "1")]
    assert len(rows) == 4
    for row in rows:
        for name in ("mean", "ci_low", "ci_high"):
            assert run.data.metrics[f"{row['scorer']}/{row['prompt_set']}/{name}"] == float(row[name])
    base = runs["model/mini/base"].data
    assert len(base.metrics) == 12
    # Of a model that was not trained here, what its images were drawn with.
    assert base.params == {"model": "mini/base", "generation.steps": "10"}
    assert base.tags["bench.git_commit"] == "0123456789abcdef0123456789abcdef01234567"

    folder = layout.model(reported.root, "mini/dmpo+sdpo/seed1")
    drift = read_table(folder / "drift.parquet", "drift")
    history = store.client.get_metric_history(run.info.run_id, "drift/winner_drift")
    assert [(m.step, m.value) for m in history] == list(zip(drift["step"], drift["winner_drift"], strict=True))
    assert run.data.metrics["drift/winner_drift"] == drift["winner_drift"].iloc[-1]
    assert not [name for name in run.data.metrics if name.endswith("/step")]
    assert len(store.client.get_metric_history(run.info.run_id, "training/loss")) == 20

    assert run.data.params == {
        "objective.name": "dmpo", "objective.beta": "2000.0", "batch_size": "16", "layers": "[1, 2]", "seed": "1"
    }  # fmt: skip
    tags = run.data.tags
    assert tags["bench.git_commit"].startswith("0123") and tags["bench.git_dirty"] == "true"
    assert (tags["bench.variant"], tags["bench.safeguard"], tags["bench.training_seed"]) == ("dmpo+sdpo", "on", "1")
    assert (tags["bench.packages.torch"], tags["bench.wall_seconds"]) == ("2.14.0", "65.4")
    # 2026-11-23T20:00:00Z and 65.4 s.
    assert (run.info.start_time, run.info.end_time) == (1795464000000, 1795464065400)


def test_artifacts(reported: Comparison, store: Store) -> None:
    from PIL import Image

    runs = store.track(reported)

    def files(key: str) -> set[str]:
        folder = store.artifacts / "toy" / runs[key].info.run_id / "artifacts"
        return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}

    for model in ("mini/base", "mini/dmpo/seed0"):
        assert files(f"model/{model}") == {"samples.png", "spec.json", "inputs.json"}
    assert files("tables") == {
        *(f"tables/{name}.csv" for name in TABLES),
        "tables/categories.md",
        *(f"tables/main.{form}" for form in ("md", "tex", "html")),
        "tables/comparison.json",
        *(f"figures/{name}.png" for name in ("drift", "differences", "grid")),
        "report/index.html",
        *(f"{name}.json" for name in ("scores", "win_rates", "differences", "ranks", "drift")),
    }
    sheet = store.artifacts / "toy" / runs["model/mini/base"].info.run_id / "artifacts" / "samples.png"
    # Two rows of images with captions above each; the longer row has three.
    width, height = Image.open(sheet).size
    assert width > 3 * 128 and height > 2 * 128


def test_runs_hang_from_their_variant_and_that_from_the_tables(reported: Comparison, store: Store) -> None:
    runs = store.track(reported)

    def parents() -> dict[str, str]:
        named = {run.info.run_id: key for key, run in store.runs("toy").items()}
        tags = {key: run.data.tags.get("mlflow.parentRunId") for key, run in store.runs("toy").items()}
        return {key: named[parent] for key, parent in tags.items() if parent}

    expected = {
        "variant/dmpo": "tables",
        "variant/dmpo+sdpo": "tables",
        "model/mini/base": "tables",
        **{f"model/mini/{v}/seed{k}": f"variant/{v}" for v in ("dmpo", "dmpo+sdpo") for k in (0, 1)},
    }
    assert parents() == expected
    # A new run of the tables takes over those that stay.
    write_text(reported.root / "report" / "index.html", "<!DOCTYPE html>new")
    again = store.track(reported)
    assert again["tables"].info.run_id != runs["tables"].info.run_id
    assert again["variant/dmpo"].info.run_id == runs["variant/dmpo"].info.run_id
    assert parents() == expected
    with (reported.root / "tables" / "scores.csv").open() as file:
        (pooled,) = [
            float(r["mean"])
            for r in csv.DictReader(file)
            if (r["variant"], r["seed"], r["prompt_set"], r["scorer"]) == ("dmpo", "all", "seen", "oracle")
        ]
    assert runs["variant/dmpo"].data.metrics["oracle/seen/mean"] == pooled


def test_the_page_of_the_experiment_is_that_of_trainings_with_their_data(reported: Comparison, store: Store) -> None:
    runs = store.track(reported)
    assert store.experiment("toy").tags["mlflow.experimentKind"] == "custom_model_development"
    view = json.loads(store.experiment("toy").tags["mlflow.sharedViewState.scores"])
    assert view["selectedColumns"] == [
        f"metrics.`{scorer}/{name}/mean`" for name in ("seen", "held-out") for scorer in ("pickscore", "oracle")
    ]
    # Its filter leaves the tables, the base and the variants.
    shown = {key for key, run in runs.items() if run.data.tags["bench.kind"] != "model"}
    assert shown == {"tables", "model/mini/base", "variant/dmpo", "variant/dmpo+sdpo"}
    found = {
        given.dataset.name: ({tag.key: tag.value for tag in given.tags}, given.dataset.digest)
        for given in runs["model/mini/dmpo/seed0"].inputs.dataset_inputs
    }
    for name in ("seen", "held-out"):
        digest = file_sha256(layout.prompts(reported.root, name))
        assert found[name] == ({"mlflow.data.context": "evaluation"}, digest[:36])
    tables = runs["tables"]
    assert {"path": "scores.json", "type": "table"} in json.loads(tables.data.tags["mlflow.loggedArtifacts"])
    table = json.loads((store.artifacts / "toy" / tables.info.run_id / "artifacts" / "scores.json").read_text())
    assert {row[table["columns"].index("variant")] for row in table["data"]} == {"base", "dmpo", "dmpo+sdpo"}
    assert runs["model/mini/base"].data.tags["mlflow.source.git.commit"].startswith("0123")


def test_a_database_that_is_named_gets_the_runs_and_the_folder_their_artifacts(
    reported: Comparison, store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = Store(tmp_path / "server")
    other.database.parent.mkdir()
    other.database.write_bytes(store.database.read_bytes())
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{other.database}")
    track(reported, database=store.database, artifacts=store.artifacts)
    assert set(other.runs("toy")) == keys(reported)
    assert store.experiment("toy") is None and not any(Path().iterdir())
    assert other.experiment("toy").artifact_location == (store.artifacts / "toy").as_uri()


@pytest.mark.parametrize(
    ("uri", "shown", "artifacts"),
    [
        (
            "postgresql+psycopg2://lab:s3cret@db.lab:5432/runs?sslmode=require",
            "postgresql+psycopg2://db.lab:5432/runs",
            True,
        ),
        ("https://lab:s3cret@mlflow.lab/path", "https://mlflow.lab/path", False),
    ],
)
def test_a_store_is_shown_without_what_is_secret(
    uri: str, shown: str, artifacts: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    found = store_of(tmp_path / "mlflow.db", tmp_path / "artifacts")
    assert found.shown == shown
    assert found.artifacts == (tmp_path / "artifacts" if artifacts else None)
    assert found.lock == tmp_path / "mlflow.lock"


def tables_of(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def change_a_mean(reported: Comparison, seed: str) -> str:
    """Let the oracle have said something else of ``dmpo`` on some prompt set, which is returned."""
    path = reported.root / "tables" / "scores.csv"
    rows = list(csv.DictReader(path.open()))
    changed = next(r for r in rows if (r["variant"], r["seed"], r["scorer"]) == ("dmpo", seed, "oracle"))
    changed["mean"] = "0.125"
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)
    return changed["prompt_set"]


def test_tables_from_results_and_from_the_store_are_those_that_were_written(
    reported: Comparison, store: Store, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from evals.cli import main

    track(reported, database=store.database, artifacts=store.artifacts)
    before = tables_of(reported.root / "tables")
    results = ["--from", str(reported.root)]
    runs = ["--from", "mlflow", "--store", str(store.database.parent)]
    for name, source in {"results": results, "only": runs, "named": [*runs, "--experiment", "toy"]}.items():
        assert main(["tables", *source, "--out", str(tmp_path / name)]) == 0
        assert tables_of(tmp_path / name) == before
    assert capsys.readouterr().out.splitlines()[0] == str(tmp_path / "results" / "categories.csv")
    # What people read follows from the CSV files alone.
    change_a_mean(reported, "all")
    assert main(["tables", *results, "--out", str(tmp_path / "changed")]) == 0
    after = tables_of(tmp_path / "changed")
    assert {name for name in after if after[name] != before[name]} == {"scores.csv", "main.md", "main.tex", "main.html"}


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--from", "mlflow", "--experiment", "tou"], "no benchmark 'tou'; did you mean 'toy'?; it has toy"),
        (["--from", "results/x", "--experiment", "toy"], "--experiment goes with --from mlflow"),
        (["--from", "results/x"], "results/x/tables/comparison.json: no such file"),
    ],
)
def test_tables_that_are_not_there(
    options: list[str], said: str, reported: Comparison, store: Store, capsys: pytest.CaptureFixture[str]
) -> None:
    from evals.cli import main

    track(reported, database=store.database, artifacts=store.artifacts)
    out = store.database.parent / "out"
    assert main(["tables", *options, "--store", str(store.database.parent), "--out", str(out)]) == 2
    assert said in capsys.readouterr().err
    assert not out.exists()


def test_nothing_changed_keeps_every_run(reported: Comparison, store: Store) -> None:
    assert ids(store.track(reported)) == ids(store.track(reported))


def test_a_changed_score_replaces_that_models_run_and_the_tables(reported: Comparison, store: Store) -> None:
    before = ids(store.track(reported))
    prompt_set = change_a_mean(reported, "1")
    runs = store.track(reported)
    assert {key for key, run_id in ids(runs).items() if before[key] != run_id} == {"model/mini/dmpo/seed1", "tables"}
    assert runs["model/mini/dmpo/seed1"].data.metrics[f"oracle/{prompt_set}/mean"] == 0.125


def test_times_alone_replace_nothing(reported: Comparison, store: Store) -> None:
    before = ids(store.track(reported))
    path = layout.model(reported.root, "mini/dmpo/seed0") / "provenance.json"
    content = json.loads(path.read_text())
    path.write_text(json.dumps({**content, "wall_seconds": 1.0, "started": "2026-11-24T00:00:00Z"}))
    assert ids(store.track(reported)) == before
    path.write_text(json.dumps({**content, "dtype": "bfloat16"}))
    after = ids(store.track(reported))
    assert {key for key in before if before[key] != after[key]} == {"model/mini/dmpo/seed0"}


def test_a_model_that_left_loses_its_run(reported: Comparison, store: Store) -> None:
    before = ids(store.track(reported))
    fewer = replace(reported, models=tuple(m for m in reported.models if m.seed != 1))
    after = ids(store.track(fewer))
    assert set(before) - set(after) == {"model/mini/dmpo/seed1", "model/mini/dmpo+sdpo/seed1"}
    assert set(after) == keys(fewer)
    assert all(before[key] == run_id for key, run_id in after.items())


def test_an_interrupted_import_is_finished_by_the_next(
    reported: Comparison, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mlflow import MlflowClient

    terminate, calls = MlflowClient.set_terminated, iter(range(100))

    def killed(self: MlflowClient, *arguments: Any, **keywords: Any) -> None:
        if next(calls) == 2:
            raise KeyboardInterrupt
        terminate(self, *arguments, **keywords)

    monkeypatch.setattr(MlflowClient, "set_terminated", killed)
    with pytest.raises(KeyboardInterrupt):
        store.track(reported)
    half = store.runs("toy")
    assert len(half) == 3
    (torn,) = (run.info.run_id for run in half.values() if CONTENT not in run.data.tags)
    monkeypatch.undo()
    runs = ids(store.track(reported))
    assert set(runs) == keys(reported) and torn not in runs.values()
    assert {run.info.run_id for run in half.values()} - {torn} <= set(runs.values())


def test_runs_of_others_are_left_alone(reported: Comparison, store: Store) -> None:
    store.track(reported)
    experiment = store.experiment("toy").experiment_id
    own = store.client.create_run(experiment, run_name="mine").info.run_id
    track(reported, database=store.database, artifacts=store.artifacts)
    assert store.client.get_run(own).info.lifecycle_stage == "active"


def test_moved_results_get_a_new_experiment(reported: Comparison, store: Store, tmp_path: Path) -> None:
    before = ids(store.track(reported))
    store.artifacts = tmp_path / "elsewhere"
    after = ids(store.track(reported))
    assert set(after) == set(before) and not set(after.values()) & set(before.values())
    assert (tmp_path / "elsewhere" / "toy" / after["tables"] / "artifacts" / "report" / "index.html").is_file()


def test_deleted_experiment_comes_back(reported: Comparison, store: Store) -> None:
    before = ids(store.track(reported))
    store.client.delete_experiment(store.experiment("toy").experiment_id)
    assert set(store.track(reported)) == set(before)


def test_long_values_and_many_parameters(reported: Comparison, store: Store) -> None:
    one = replace(reported, models=reported.models[1:2])
    path = layout.model(one.root, one.models[0].name) / "provenance.json"
    content = json.loads(path.read_text())
    content["spec"] = {"text": "x" * 7000, **{f"key{i}": i for i in range(250)}}
    path.write_text(json.dumps(content))
    params = store.track(one)["model/mini/dmpo/seed0"].data.params
    assert len(params) == 251
    assert len(params["text"]) == 6000 and params["text"].endswith("x…")


def test_long_logs_are_thinned_to_the_last_row(reported: Comparison) -> None:
    one = replace(reported, models=reported.models[1:2])
    path = layout.model(one.root, one.models[0].name) / "training.parquet"
    log = pd.concat([read_table(path, "training")] * 50, ignore_index=True)
    log["step"] = range(1, 1001)
    write_table(path, log, "training")
    (content,) = [found for found in contents(one) if found.key.startswith("model/")]
    steps = [step for name, _, step in content.metrics if name == "training/loss"]
    assert len(steps) == STEPS and steps[-1] == 1000 and steps == sorted(set(steps))
    # Columns that are empty for this objective are left out.
    assert not any(value != value for _, value, _ in content.metrics)


@pytest.mark.parametrize("names", [("one", "two"), ("same", "same")])
def test_imports_into_a_store_that_does_not_exist_yet_wait_for_each_other(
    reported: Comparison, tmp_path: Path, names: tuple[str, str], capfd: pytest.CaptureFixture[str]
) -> None:
    """Two real processes, started together: MLflow alone breaks its database when two make it at once."""
    import mlflow  # noqa: F401 - before the fork, so that both get to the database at the same time

    fork = multiprocessing.get_context("fork")
    ready = fork.Barrier(len(names))
    store = Store(tmp_path / "made" / "mlflow")

    def run(name: str) -> None:
        ready.wait()
        track(replace(reported, benchmark=name), database=store.database, artifacts=store.artifacts)

    processes = [fork.Process(target=run, args=(name,)) for name in names]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0, 0]
    assert capfd.readouterr().err.count(f"{store.database.parent}: another process imports into this store; wait") == 1
    for name in set(names):
        assert set(store.runs(name)) == keys(reported)


def test_missing_report(tiny_benchmark: Comparison, store: Store) -> None:
    with pytest.raises(InputError, match=r"index\.html: no such file"):
        track(tiny_benchmark, database=store.database, artifacts=store.artifacts)
    assert store.experiment("toy") is None


def test_broken_database(reported: Comparison, tmp_path: Path) -> None:
    database = tmp_path / "mlflow.db"
    database.write_bytes(b"not a database, but long enough to have a header " * 100)
    with pytest.raises(InputError, match=r"mlflow\.db: MLflow cannot open it"):
        track(reported, database=database, artifacts=tmp_path)


def test_flattened() -> None:
    nested = {"a": {"b": 1, "c": {"d": None}}, "e": [1, "x"], "f": True, "g": "text", "h": {}}
    assert flattened(nested) == {"a.b": "1", "a.c.d": "", "e": '[1, "x"]', "f": "true", "g": "text"}
