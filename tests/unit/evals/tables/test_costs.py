from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from artifacts import layout
from artifacts.atomic import write_json
from artifacts.contracts import CONTRACTS, write_table
from artifacts.errors import InputError
from evals.tables.comparison import ComparedModel, Comparison, Statistics
from evals.tables.costs import cost_rows, in_words

MODELS = (
    ComparedModel(name="m/base", base="m", variant="base"),
    *(ComparedModel(name=f"m/dpo/seed{s}", base="m", variant="dpo", seed=s) for s in (0, 1)),
)


def noted(root: Path, trainings: list[dict[str, Any] | None], drawings: list[float | str]) -> Comparison:
    """Trainings of 4 steps of 30 pairs, the first two at 60 pairs a second and the others at 30."""
    for model, record in zip(MODELS[1:], trainings, strict=False):
        if record is None:
            continue
        folder = layout.model(root, model.name)
        write_json(folder / "provenance.json", {"device": "H200", "spec": {"training": {"batch_size": 30}}, **record})
        written = [name for name, column in CONTRACTS["training"].columns.items() if not column.optional]
        log = pd.DataFrame(dict.fromkeys(written, 0.0), index=range(2)).assign(step=[2, 4], peak_memory_bytes=1)
        write_table(folder / "training.parquet", log.assign(samples_per_second=[60.0, 30.0]), "training")
    for model, seconds in zip(MODELS, drawings, strict=False):
        path = layout.images(root, model.name, "seen") / "provenance.json"
        write_json(path, {"device": "cpu", "wall_seconds": seconds})
    return Comparison("toy", root, MODELS, ("seen",), {"oracle": "exact"}, Statistics())


def test_hours_are_summed_over_models_and_processes(tmp_path: Path) -> None:
    # Two steps in a second and two in two, whatever the last process has seen of them.
    trainings = [{"wall_seconds": 0.1, "resumed_from_step": 4, "processes": 4}, {"wall_seconds": 99.0}]
    base, dpo = cost_rows(noted(tmp_path, trainings, [360.0, 360.0, 720.0]))
    assert (base.models, base.training_device, base.training_hours, base.drawing_hours) == (1, "", None, 0.1)
    assert (dpo.models, dpo.training_device, dpo.drawing_device) == (2, "H200", "cpu")
    assert (dpo.training_hours, dpo.drawing_hours) == (pytest.approx((3 * 4 + 3) / 3600), pytest.approx(0.3))
    words = in_words([base, replace(dpo, training_hours=3.0)])
    assert "base drawing 0.1 h on cpu; dpo training 3 h on H200, drawing 0.3 h on cpu." in words


def test_what_is_not_known_of_one_model_is_not_known_of_all(tmp_path: Path) -> None:
    base, dpo = cost_rows(noted(tmp_path, [{}, None], [5.0, 5.0]))
    assert (dpo.training_hours, dpo.drawing_hours) == (None, None)
    assert base.drawing_hours == pytest.approx(5 / 3600)
    assert in_words([dpo]) == ""


def test_a_damaged_provenance_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"provenance\.json: not a provenance .*snakemake"):
        cost_rows(noted(tmp_path, [], ["soon"]))
