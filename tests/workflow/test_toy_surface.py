"""config/toy-surface.yaml from the base to MLflow, with few steps, few points and two seeds."""

from __future__ import annotations

import csv
import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from artifacts.contracts import read_table

if TYPE_CHECKING:
    from conftest import Benchmark

ROOT = Path(__file__).parents[2]
SHARES = ("win", "loss", "strict_win", "on_manifold", "win_quality", "strict")

pytestmark = pytest.mark.slow


def small() -> dict[str, Any]:
    config: dict[str, Any] = yaml.safe_load((ROOT / "config/toy-surface.yaml").read_text(encoding="utf-8"))
    config["base"]["path"] = str(ROOT / config["base"]["path"])
    config["published"]["file"] = str(ROOT / config["published"]["file"])
    config["pairs"]["regions"]["options"] = {"clouds": 3, "heldout": 1}
    config["training"] |= {"steps": 4, "batch_size": 16, "log_every": 2, "checkpoint_every": 2, "drift_every": 2}
    config["training"]["heldout_pairs"] = 16
    config["seeds"] = [0, 6]
    config["prompt_sets"]["clouds"]["limit"] = 2
    config["generation"]["steps"] = 3
    config["execution"]["variants_per_job"] = 11
    return config


@pytest.fixture(scope="module")
def benchmark(
    tmp_path_factory: pytest.TempPathFactory, benchmark_in: Callable[[Path, dict[str, Any]], Benchmark]
) -> Benchmark:
    made = benchmark_in(tmp_path_factory.mktemp("toy"), small())
    jobs = made.run()
    (made.folder / "jobs.json").write_text(json.dumps(jobs))
    return made


def rows(benchmark: Benchmark, name: str) -> list[dict[str, str]]:
    with (benchmark.root / "tables" / name).open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_one_job_trains_eleven_variants(benchmark: Benchmark) -> None:
    jobs = json.loads((benchmark.folder / "jobs.json").read_text())
    assert sum(count for name, count in jobs.items() if name.startswith("train")) == 3
    model = benchmark.root / "models/surface/sdpo-b10/seed6"
    # Eleven variants with two seeds are one stack, though the rates of learning in it differ.
    for variant in ("sdpo-b10", "lineardpo-b1"):
        provenance = json.loads((benchmark.root / f"models/surface/{variant}/seed6/provenance.json").read_text())
        assert provenance["trained_together"] == 22
    assert read_table(model / "training.parquet", "training")["step"].tolist() == [2, 4]
    log = read_table(model / "training.parquet", "training")
    assert log["safe_scale_mean"].between(0, 1).all()
    assert read_table(model / "drift.parquet", "drift")["winner_drift"].iloc[0] == 0.0


def test_scores_of_a_model_are_the_shares_of_its_points(benchmark: Benchmark) -> None:
    from PIL import Image

    from worlds.toy_surface.clouds import coordinates
    from worlds.toy_surface.surface import shares

    folder = benchmark.root / "images/surface/rft/seed6/clouds"
    manifest = read_table(folder / "manifest.parquet", "manifest")
    for share in SHARES:
        path = benchmark.root / f"scores/surface_{share}/surface/rft/seed6/clouds.parquet"
        expected = [shares(coordinates(Image.open(folder / file)))[share] for file in manifest["file"]]
        assert read_table(path, "scores")["score"].tolist() == expected


def test_tables_have_every_row_beside_its_published_figure(benchmark: Benchmark) -> None:
    published = rows(benchmark, "published.csv")
    assert len(published) == 33 * len(SHARES)
    scores = {
        (r["variant"], r["scorer"]): float(r["mean"]) for r in rows(benchmark, "scores.csv") if r["seed"] == "all"
    }
    for row in published:
        ours = scores[row["variant"], row["scorer"]]
        assert float(row["ours"]) == pytest.approx(ours)
        assert float(row["difference"]) == pytest.approx(ours - float(row["published"]))
        assert row["n_seeds"] == "2"
    # β = 10 of the published SDPO row, column Strict.
    (row,) = (r for r in published if r["variant"] == "sdpo-b10" and r["scorer"] == "surface_strict")
    assert float(row["published"]) == 0.421
    assert Counter(r["variant"] for r in rows(benchmark, "drift.csv"))["lineardpo-b1"] == 3
    assert "## surface\\_strict" in (benchmark.root / "tables/published.md").read_text(encoding="utf-8")


def test_less_loss_is_better(benchmark: Benchmark) -> None:
    """Where a difference of `surface_loss` is below zero in every cloud and seed, the variant has won them all."""
    differences = {(r["a"], r["b"], r["prompt_set"], r["scorer"]): r for r in rows(benchmark, "differences.csv")}
    # The judges' mean has no scale, so no difference.
    for row in (r for r in rows(benchmark, "win_rates.csv") if r["scorer"] != "mean of judges"):
        difference = differences[row["a"], row["b"], row["prompt_set"], row["scorer"]]
        sign = -1 if row["scorer"] == "surface_loss" else 1
        if sign * float(difference["mean_difference"]) > 0:
            assert int(row["wins"]) > 0
        if int(row["losses"]) == int(row["ties"]) == 0:
            assert sign * float(difference["mean_difference"]) > 0
    assert "lower for surface\\_loss" in (benchmark.root / "tables/main.md").read_text(encoding="utf-8")


def test_report_and_store_are_made(benchmark: Benchmark) -> None:
    assert (benchmark.root / "report/index.html").stat().st_size > 10_000
    assert (benchmark.root / "figures/grid.png").is_file()
    assert (benchmark.root.parent / "mlflow/imported/toy-surface.json").is_file()
