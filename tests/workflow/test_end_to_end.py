from __future__ import annotations

import csv
import io
import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from artifacts.atomic import tree_sha256
from artifacts.contracts import read_table

if TYPE_CHECKING:
    from conftest import Benchmark

ROOT = Path(__file__).parents[2]
EXTERNAL = re.compile(r"""(?:src|href|action|data)\s*=\s*["']?\s*(?:https?:)?//|@import|url\(\s*["']?(?:https?:)?//""")


def rows(table: bytes) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(table.decode())))


def tracked_runs(folder: Path, experiment: str) -> list[Any]:
    from mlflow import MlflowClient

    client = MlflowClient(tracking_uri=f"sqlite:///{folder / 'results/mlflow/mlflow.db'}")
    found = client.get_experiment_by_name(experiment)
    assert found is not None
    return list(client.search_runs([found.experiment_id]))


def test_one_run_makes_every_job_once(finished: Benchmark) -> None:
    assert json.loads((finished.folder.parent / "jobs.json").read_text()) == {
        "prompts": 2,
        "pairs": 1,
        "train": 2,
        "generate": 3,
        "score": 3,
        "compare": 1,
        "report": 1,
        "track": 1,
        "all": 1,
    }


def test_tables(finished: Benchmark) -> None:
    tables = finished.tables()
    scores = rows(tables["scores.csv"])
    # Base: itself and pooled; two variants: two seeds and pooled; in two prompt sets by three scorers.
    assert len(scores) == (2 + 3 + 3) * 2 * 3
    names = "base variant objective safeguard seed prompt_set scorer protocol mean ci_low ci_high n truncated"
    assert list(scores[0]) == names.split()
    assert {(r["seed"], r["n"]) for r in scores if r["variant"] == "dpo"} == {("0", "6"), ("1", "6"), ("all", "12")}
    for row in scores:
        assert float(row["ci_low"]) <= float(row["mean"]) <= float(row["ci_high"])

    compared = {(r["a"], r["b"]) for r in rows(tables["win_rates.csv"])}
    assert compared == {("dpo+sdpo", "dpo"), ("dpo", "base"), ("dpo+sdpo", "base")}
    for row in rows(tables["win_rates.csv"]):
        units = (12 if row["prompt_set"] == "all" else 6) * 2
        if row["scorer"] == "mean of judges":
            units *= len({r["scorer"] for r in rows(tables["win_rates.csv"])} - {"mean of judges"})
        assert int(row["wins"]) + int(row["ties"]) + int(row["losses"]) == units
    assert {(r["a"], r["b"]) for r in rows(tables["differences.csv"])} == compared
    assert {(r["variant"], r["seed"]) for r in rows(tables["drift.csv"])} == {
        (variant, seed) for variant in ("dpo", "dpo+sdpo") for seed in ("0", "1", "all")
    }


def test_models_differ_by_variant_and_seed(finished: Benchmark) -> None:
    """Else nothing below would notice a model in the place of another."""
    pictures = {
        tuple(read_table(manifest, "manifest")["sha256"]) for manifest in finished.root.rglob("seen/manifest.parquet")
    }
    assert len(pictures) == 5
    drift = {(r["winner_drift"], r["loser_drift"]) for r in rows(finished.tables()["drift.csv"])}
    assert len(drift) == 6
    means = [r["mean"] for r in rows(finished.tables()["scores.csv"]) if r["scorer"] == "pickscore"]
    assert len(set(means)) == len(means) - 2  # The base's own rows are its pooled rows.


def test_report_loads_nothing_from_elsewhere(finished: Benchmark) -> None:
    page = (finished.root / "report/index.html").read_text(encoding="utf-8")
    assert EXTERNAL.search(page) is None
    assert len(re.findall(r'src="data:image/', page)) >= 3
    for name in ("dpo+sdpo", "pickscore", "relations"):
        assert name in page


def test_each_model_is_one_tracked_run(finished: Benchmark) -> None:
    marker = json.loads((finished.root.parent / "mlflow/imported/tiny.json").read_text())
    assert marker["experiment"] == "tiny"
    assert marker["page"] == "#/experiments/1/runs?workflowType=machine_learning&viewStateShareKey=scores"
    runs = tracked_runs(finished.folder, "tiny")
    # One a model, one a variant that was trained, and the tables.
    assert len(runs) == 5 + 2 + 1
    models = {f"{variant} seed {seed}" for variant in ("dpo", "dpo+sdpo") for seed in (0, 1)}
    assert models | {"base", "dpo", "dpo+sdpo"} < {run.info.run_name for run in runs}


def test_a_second_run_does_nothing(finished: Benchmark, tmp_path: Path) -> None:
    again = finished.copied(tmp_path)
    before = tree_sha256(again.root)
    assert again.run() == {}
    assert "Nothing to be done" in again.output()
    assert tree_sha256(again.root) == before


def test_an_added_variant_runs_alone(finished: Benchmark, tmp_path: Path) -> None:
    more = finished.copied(tmp_path)
    models = more.root / "models/miniature"
    old = {name: tree_sha256(models / name) for name in ("dpo", "dpo+sdpo")}
    more.config["variants"].append({"name": "sft", "objective": "sft", "pairs": "renders"})
    assert more.run() == {"train": 1, "generate": 1, "score": 1, "compare": 1, "report": 1, "track": 1, "all": 1}
    assert {name: tree_sha256(models / name) for name in old} == old

    # Rows of the other variants stay as they were.
    before, after = (rows(b.tables()["scores.csv"]) for b in (finished, more))
    assert [row for row in after if row["variant"] != "sft"] == before
    assert {row["seed"] for row in after if row["variant"] == "sft"} == {"0", "1", "all"}
    assert len(tracked_runs(tmp_path, "tiny")) == 7 + 3 + 1


def test_a_limited_scorer_rates_its_prompt_sets(finished: Benchmark, tmp_path: Path) -> None:
    less = finished.copied(tmp_path)
    less.config["scorers"]["oracle"]["prompt_sets"] = ["seen"]
    shutil.rmtree(less.root / "scores/oracle/miniature/base")
    assert less.run() == {"score": 1, "compare": 1, "report": 1, "track": 1, "all": 1}
    base = less.root / "scores/oracle/miniature/base"
    assert [file.name for file in base.iterdir()] == ["seen.parquet"]
    tables = less.tables()
    of_oracle = {r["prompt_set"] for r in rows(tables["differences.csv"]) if r["scorer"] == "oracle"}
    assert of_oracle == {"seen", "all"}
    others = [
        r for r in rows(finished.tables()["scores.csv"]) if (r["scorer"], r["prompt_set"]) != ("oracle", "relations")
    ]
    assert rows(tables["scores.csv"]) == others
    assert "oracle rates seen and no other" in (less.root / "report/index.html").read_text(encoding="utf-8")
    # The base has no such scores, the other models have them still.
    del less.config["scorers"]["oracle"]["prompt_sets"]
    assert less.run() == {"score": 1, "compare": 1, "report": 1, "track": 1, "all": 1}
    assert less.tables()["scores.csv"] == finished.tables()["scores.csv"]


@pytest.fixture(scope="module")
def shipped_config() -> dict[str, Any]:
    """``config/miniature.yaml`` with the same names and weights, and little of everything."""
    config: dict[str, Any] = yaml.safe_load((ROOT / "config/miniature.yaml").read_text())
    # Audits variants that are left out here.
    del config["audit"]
    for block in config["pairs"].values():
        block["options"] = {**block["options"], "pairs": 60, "heldout": 16}
    config["training"] |= {"steps": 4, "batch_size": 4, "warmup_steps": 1, "log_every": 2, "heldout_pairs": 16}
    config["variants"] = [v for v in config["variants"] if v["name"] == "diffusion-dpo"]
    config["seeds"] = config["seeds"][:1]
    config["pairs"] = {"clear": config["pairs"]["clear"]}
    config["prompt_sets"]["heldout"]["limit"] = 4
    config["generation"]["steps"] = 2
    config["statistics"]["confidence"] = 0.9
    config["report"]["grid"]["prompts"] = 2
    return config


def test_the_shipped_weights_carry_a_benchmark(
    shipped_config: dict[str, Any], benchmark_in: Callable[[Path, dict[str, Any]], Benchmark], tmp_path: Path
) -> None:
    (tmp_path / "resources").symlink_to(ROOT / "resources")
    benchmark = benchmark_in(tmp_path, shipped_config)
    benchmark.run()
    scores = rows(benchmark.tables()["scores.csv"])
    scorers = {"oracle", "pickscore", "hpsv2", "imagereward", "aesthetic", "clip"}
    assert {r["scorer"] for r in scores} == scorers
    assert len(scores) == 2 * 2 * 2 * len(scorers)
    assert len(tracked_runs(tmp_path, shipped_config["benchmark"])) == 2 + 1 + 1
    assert (benchmark.root / "report/index.html").stat().st_size > 0
