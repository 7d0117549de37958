from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from artifacts import layout
from artifacts.atomic import write_json
from artifacts.errors import InputError
from evals.tables.comparison import ComparedModel, Comparison, Statistics
from evals.tables.costs import cost_rows, in_words

MODELS = (
    ComparedModel(name="m/base", base="m", variant="base"),
    *(ComparedModel(name=f"m/dpo/seed{s}", base="m", variant="dpo", seed=s) for s in (0, 1)),
)


def noted(root: Path, trainings: list[dict[str, Any]], drawings: list[float]) -> Comparison:
    for model, record in zip(MODELS[1:], trainings, strict=False):
        write_json(layout.model(root, model.name) / "provenance.json", {"device": "H200", **record})
    for model, seconds in zip(MODELS, drawings, strict=False):
        path = layout.images(root, model.name, "seen") / "provenance.json"
        write_json(path, {"device": "cpu", "wall_seconds": seconds})
    return Comparison("toy", root, MODELS, ("seen",), {"oracle": "exact"}, Statistics())


def test_hours_are_summed_over_models_and_processes(tmp_path: Path) -> None:
    plain = {"wall_seconds": 1800.0, "step": 100, "resumed_from_step": 0, "processes": 4}
    # A quarter of the steps took 900 s, so all of them an hour.
    resumed = {"wall_seconds": 900.0, "step": 100, "resumed_from_step": 75, "processes": 1}
    base, dpo = cost_rows(noted(tmp_path, [plain, resumed], [360.0, 360.0, 720.0]))
    assert (base.models, base.training_device, base.training_hours, base.drawing_hours) == (1, "", None, 0.1)
    assert (dpo.models, dpo.training_device, dpo.drawing_device) == (2, "H200", "cpu")
    assert (dpo.training_hours, dpo.drawing_hours) == (pytest.approx(0.5 * 4 + 1.0), pytest.approx(0.3))
    words = in_words([base, dpo])
    assert "base drawing 0.1 h on cpu; dpo training 3 h on H200, drawing 0.3 h on cpu." in words


def test_what_is_not_known_of_one_model_is_not_known_of_all(tmp_path: Path) -> None:
    base, dpo = cost_rows(noted(tmp_path, [{"wall_seconds": 60.0}], [5.0, 5.0]))
    assert (dpo.training_hours, dpo.drawing_hours) == (None, None)
    assert base.drawing_hours == pytest.approx(5 / 3600)
    assert in_words([dpo]) == ""


def test_a_damaged_provenance_is_named(tmp_path: Path) -> None:
    comparison = noted(tmp_path, [{"wall_seconds": "soon"}, {"wall_seconds": 1.0}], [])
    with pytest.raises(InputError, match=r"provenance\.json: .*snakemake"):
        cost_rows(comparison)
