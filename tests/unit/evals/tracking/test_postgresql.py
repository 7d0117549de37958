"""Imports into a PostgreSQL that the tests start, on loopback, and end: ``make test-database``."""

from __future__ import annotations

import multiprocessing
import os
import shutil
import socket
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from artifacts.atomic import write_text
from artifacts.errors import InputError
from evals.tables.comparison import Comparison
from evals.tracking.mlflow import CONTENT, track
from evals.tracking.store import KEY

PASSWORD = "not-to-be-shown"


def program(name: str) -> str:
    """Debian has the server's programs where no PATH leads."""
    found = [*Path("/usr/lib/postgresql").glob(f"*/bin/{name}"), shutil.which(name)]
    if found[0] is None:
        pytest.skip("there is no PostgreSQL; tests/debian.sh PostgreSQL postgresql initdb installs Debian's")
    return str(found[0])


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    """Address of a server that asks for a password, without the database's name."""
    initdb, pg_ctl = program("initdb"), program("pg_ctl")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    # PostgreSQL refuses to run as root, and whoever it runs as must reach the folder.
    owner = "postgres" if os.geteuid() == 0 else None
    with TemporaryDirectory() as name:
        folder = Path(name)
        if owner is not None:
            shutil.chown(folder, owner)
        write_text(folder / "password", PASSWORD)
        (folder / "password").chmod(0o644)

        def run(*command: str) -> None:
            subprocess.run(command, check=True, user=owner, cwd=folder, stdout=subprocess.DEVNULL)

        data, log = str(folder / "data"), str(folder / "log")
        run(initdb, "-D", data, "-U", "lab", "--auth=scram-sha-256", f"--pwfile={folder / 'password'}", "--no-sync")
        options = f"-c listen_addresses=127.0.0.1 -p {port} -k {folder} -c fsync=off"
        run(pg_ctl, "-D", data, "-l", log, "-o", options, "-w", "start")
        try:
            yield f"postgresql://lab:{PASSWORD}@127.0.0.1:{port}"
        finally:
            run(pg_ctl, "-D", data, "-m", "fast", "-w", "stop")


@pytest.fixture
def database(server: str, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """An empty database, which is named as the store."""
    from sqlalchemy import create_engine, text

    name = f"runs_{abs(hash(request.node.name))}"
    engine = create_engine(f"{server}/postgres", isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        connection.execute(text(f"CREATE DATABASE {name}"))
    engine.dispose()
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"{server}/{name}")
    return f"{server}/{name}"


@pytest.fixture
def reported(tiny_benchmark: Comparison) -> Comparison:
    write_text(tiny_benchmark.root / "report" / "index.html", "<!DOCTYPE html>")
    return tiny_benchmark


def held(database: str, benchmark: str) -> list[tuple[str, str, str]]:
    """Key, content and identity of each run of an experiment."""
    from mlflow import MlflowClient

    client = MlflowClient(tracking_uri=database)
    experiment = client.get_experiment_by_name(benchmark)
    assert experiment is not None
    runs = client.search_runs([experiment.experiment_id])
    return sorted((run.data.tags[KEY], run.data.tags[CONTENT], run.info.run_id) for run in runs)


def test_two_from_different_folders_write_each_run_once_and_a_third_changes_nothing(
    reported: Comparison, database: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """As from two machines: no file lock is shared, and the database does not have MLflow's tables yet."""
    import mlflow  # noqa: F401 - before the fork, so that both get to the database at the same time

    fork = multiprocessing.get_context("fork")
    ready = fork.Barrier(2)

    def run(folder: Path) -> None:
        ready.wait()
        track(reported, database=folder / "mlflow.db", artifacts=tmp_path / "artifacts")

    processes = [fork.Process(target=run, args=(tmp_path / name,)) for name in ("one", "two")]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0, 0]
    said = capfd.readouterr().err
    assert said.count("another process imports into this store; waiting for it") == 1
    assert PASSWORD not in said
    runs = held(database, "toy")
    keys = [key for key, _, _ in runs]
    assert len(keys) == len(set(keys)) == 1 + 2 + len(reported.models)
    [tables] = [run for key, _, run in runs if key == "tables"]
    assert (tmp_path / "artifacts" / "toy" / tables / "artifacts" / "tables" / "scores.csv").is_file()
    track(reported, database=tmp_path / "three" / "mlflow.db", artifacts=tmp_path / "artifacts")
    assert held(database, "toy") == runs
    # What is logged does not depend on the kind of store.
    store = tmp_path / "file.db"
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("MLFLOW_TRACKING_URI")
        track(reported, database=store, artifacts=tmp_path / "others")
    assert [row[:2] for row in held(f"sqlite:///{store}", "toy")] == [row[:2] for row in runs]


def test_two_benchmarks_have_an_experiment_each(reported: Comparison, database: str, tmp_path: Path) -> None:
    for name in ("toy", "other"):
        track(replace(reported, benchmark=name), database=tmp_path / "mlflow.db", artifacts=tmp_path / "artifacts")
    assert len(held(database, "toy")) == len(held(database, "other")) > 0


def test_a_server_that_is_not_there_is_named_without_its_password(
    reported: Comparison, server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"{server}/not_made")
    with pytest.raises(InputError) as refused:
        track(reported, database=tmp_path / "mlflow.db", artifacts=tmp_path)
    text = str(refused.value)
    assert "MLflow cannot open it" in text and '"not_made" does not exist' in text and "MLFLOW_TRACKING_URI" in text
    assert PASSWORD not in text and "\n" not in text
