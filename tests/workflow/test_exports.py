"""A step on the way of a training is a model of its own in the whole benchmark."""

from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from artifacts.contracts import read_table

if TYPE_CHECKING:
    from conftest import Benchmark, Workflow


@pytest.mark.slow
def test_both_steps_have_rows_from_one_training(new_benchmark: Callable[[Path], Benchmark], tmp_path: Path) -> None:
    benchmark = new_benchmark(tmp_path)
    config = benchmark.config
    config["training"] |= {"steps": 8, "export_at": [4], "log_every": 1}
    config["variants"], config["seeds"] = config["variants"][1:], [0]
    config["scorers"] = {"oracle": {}}
    config["comparisons"] = [["dpo+sdpo@4", "dpo+sdpo"]]
    jobs = benchmark.run()
    assert (jobs["train"], jobs["generate"], jobs["score"]) == (1, 3, 3)
    tables = {name: list(csv.DictReader(text.decode().splitlines())) for name, text in benchmark.tables().items()}
    scores = {(row["variant"], row["prompt_set"]): row["mean"] for row in tables["scores.csv"] if row["seed"] == "0"}
    assert set(scores) == {(row, prompts) for row in ("dpo+sdpo@4", "dpo+sdpo") for prompts in ("seen", "relations")}
    drift = {row["variant"]: row["winner_drift"] for row in tables["drift.csv"] if row["seed"] == "0"}
    assert drift["dpo+sdpo@4"] != drift["dpo+sdpo"]
    assert ("dpo+sdpo@4", "dpo+sdpo") in {(row["a"], row["b"]) for row in tables["win_rates.csv"]}
    models = benchmark.root / "models" / "miniature"
    steps = {row: read_table(models / row / "seed0" / "training.parquet", "training")["step"].tolist() for row in drift}
    assert steps == {"dpo+sdpo@4": [1, 2, 3, 4], "dpo+sdpo": [1, 2, 3, 4, 5, 6, 7, 8]}


def test_a_step_that_is_added_runs_what_belongs_to_it(workflow: Workflow) -> None:
    """Of a finished training the job, and what follows from it. Taken away again, it makes tables alone."""
    workflow.run()
    workflow.executed()
    workflow.config["variants"][0]["training"] = {"export_at": [2]}
    workflow.run()
    exported, whole = (f"miniature/{row}/seed0 miniature/{row}/seed1" for row in ("dmpo@2", "dmpo"))
    assert [line for line in workflow.executed() if line.startswith(("train", "generate", "score"))] == [
        *(f"generate {whole}", f"generate {exported}", f"score {whole}", f"score {exported}"),
        "train dmpo",
    ]
    workflow.config["variants"][0].pop("training")
    assert workflow.planned() == {"compare": 1, "report": 1, "track": 1, "all": 1}
