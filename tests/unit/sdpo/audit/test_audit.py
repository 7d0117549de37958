"""``sdpo audit`` from a job description to its files, on an untrained miniature base."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch

from artifacts.contracts import read_table
from sdpo import objectives
from sdpo.audit.command import audit, load_weights
from sdpo.audit.measurement import Auditor
from sdpo.audit.settings import AuditSettings, StepSettings
from sdpo.audit.summary import geometry, steps
from sdpo.bases import open_base
from sdpo.cli import main
from sdpo.pairs import cache

Spec = Callable[..., dict[str, Any]]
SETTINGS = {"batches": 2, "mu": [0.0, 0.9], "sgd": [1e-6, 1e-2], "adamw": [1e-5], "warmed_batches": 1}


@pytest.fixture(scope="module")
def trained(base_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model whose weights are the base's, a little moved."""
    base = open_base("miniature", base_path)
    denoiser = base.load_denoiser()
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in denoiser.parameters():
            parameter += 0.01 * torch.randn(parameter.shape, generator=generator)
    folder = tmp_path_factory.mktemp("models") / "moved"
    base.save_denoiser(denoiser, folder)
    return folder


@pytest.fixture(scope="module")
def spec(base_path: Path, pair_cache: Path, trained: Path) -> Spec:
    def make(out: Path, **changed: Any) -> dict[str, Any]:
        return {
            "base": {"name": "mini", "family": "miniature", "path": str(base_path)},
            "models": [{"name": "mini/base"}, {"name": "mini/moved", "path": str(trained)}],
            "pairs": str(pair_cache),
            "objective": {"name": "diffusion_dpo", "parameters": {"beta": 2000.0}},
            "step": {"batch_size": 4, "max_grad_norm": 1.0},
            "settings": SETTINGS,
            "out": str(out),
            **changed,
        }

    return make


@pytest.fixture(scope="module")
def out(spec: Spec, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("audit")
    audit(spec(folder))
    return folder


@pytest.fixture(scope="module")
def rows(out: Path) -> pd.DataFrame:
    return read_table(out / "audit.parquet", "audit")


def auditor(base_path: Path, pair_cache: Path, trained: Path | None = None, name: str = "diffusion_dpo") -> Auditor:
    base = open_base("miniature", base_path)
    denoiser = base.load_denoiser()
    if trained is not None:
        load_weights(denoiser, trained)
    guards: dict[float | None, dict[str, float] | None] = {None: None, 0.9: {"mu": 0.9}}
    made = {mu: objectives.create(name, safeguard=guard, beta=2000.0) for mu, guard in guards.items()}
    settings, step = AuditSettings(mu=[0.9], sgd=[1e-6], adamw=[]), StepSettings(batch_size=4, max_grad_norm=None)
    return Auditor(base, denoiser, base.load_denoiser(), cache.load(pair_cache, "train"), made, settings, step)


def test_one_row_a_model_batch_guard_slack_and_step(rows: pd.DataFrame) -> None:
    # off once, three guards with two slacks each; two rates of SGD, one of AdamW with two states.
    assert len(rows) == 2 * 2 * (1 + 3 * 2) * (2 + 1 + 1)
    assert not rows.duplicated(["model", "batch", "guard", "mu", "optimizer", "learning_rate"]).any()
    assert rows["mu"].isna().equals(rows["guard"] == "off")


def test_short_steps_change_the_error_as_predicted(rows: pd.DataFrame) -> None:
    short = rows[(rows["optimizer"] == "sgd") & (rows["learning_rate"] == 1e-6)]
    # Against the largest change that a step of this length can make: some predictions are close to zero.
    largest = short["winner_gradient_norm"] * short["update_norm"]
    assert ((short["real_change"] - short["predicted_change"]).abs() < 5e-4 * largest).all()
    # The exact limits without slack leave nothing of the descent.
    assert (short["predicted_change"].abs() > 1e-3 * largest)[short["mu"] != 0].all()
    assert short["update_norm"].to_numpy() == pytest.approx(1e-6, rel=1e-3)  # clipped to norm 1


def test_safeguards_leave_their_share_of_the_winners_descent(base_path: Path, pair_cache: Path) -> None:
    measured = auditor(base_path, pair_cache).measure(auditor(base_path, pair_cache).micro_batch(0))
    a = measured.error_gradient
    weight = 0.25 * 2000  # ½β·σ(0) of every pair, as policy and reference agree
    figures = measured.figures
    b_along_a = figures["parameter_cosine"] * figures["winner_gradient_norm"] * figures["loser_gradient_norm"]
    for (guard, mu), gradient in measured.gradients.items():
        expected = weight * (float(a @ a) - measured.scales[guard, mu] * b_along_a)
        assert float(a @ gradient) == pytest.approx(expected, rel=1e-5), guard
    assert measured.scales["output", 0.9] == pytest.approx(0.1 * figures["output_limit"], rel=1e-6)
    assert measured.scales["parameter", 0.9] == pytest.approx(0.1 * figures["parameter_limit"], rel=1e-6)
    # An untrained base predicts nothing: residuals are the shared noise, and λ is the slack.
    assert measured.scales["output", 0.9] == pytest.approx(0.1, rel=0.05)


def test_objectives_own_limit_sees_the_weights_of_pairs(base_path: Path, pair_cache: Path, trained: Path) -> None:
    same, moved = auditor(base_path, pair_cache), auditor(base_path, pair_cache, trained)
    even = same.measure(same.micro_batch(0)).figures
    assert even["objective_limit"] == pytest.approx(even["parameter_limit"], rel=1e-5)
    measured = moved.measure(moved.micro_batch(0))
    assert measured.figures["objective_limit"] != pytest.approx(measured.figures["parameter_limit"], rel=1e-5)
    # The exact limit keeps exactly the slack's share of the winners' own descent.
    a, off, on = measured.error_gradient, measured.gradients["off", None], measured.gradients["objective", 0.9]
    lam = measured.scales["objective", 0.9]
    assert 0 < lam < 1
    winners_own = (float(a @ on) - lam * float(a @ off)) / (1 - lam)
    assert float(a @ on) == pytest.approx(0.9 * winners_own, rel=1e-6)


def test_gradients_and_errors_are_those_of_finite_differences(base_path: Path, pair_cache: Path) -> None:
    one = auditor(base_path, pair_cache)
    batch = one.micro_batch(0)
    before = one.parameters()
    direction = torch.randn(before.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    # The denoiser pools the text with a softmax in float32, so differences have a floor of about 1e-9.
    ends = [one.winner_error(batch, sign * 1e-5 * direction) for sign in (1, -1)]
    slope = (ends[0] - ends[1]) / 2e-5
    measured = one.measure(batch)
    assert slope == pytest.approx(float(measured.error_gradient @ direction), rel=5e-4)
    assert one.winner_error(batch) == pytest.approx(measured.figures["winner_error"], rel=1e-8)
    assert torch.equal(one.parameters(), before)


def test_summary_says_what_the_rows_say(out: Path, rows: pd.DataFrame) -> None:
    told = json.loads((out / "audit.json").read_text())
    assert [entry["model"] for entry in told["geometry"]] == ["mini/base", "mini/moved"]
    assert told["geometry"] == geometry(rows, SETTINGS["mu"])
    batches = rows[(rows["model"] == "mini/moved") & (rows["guard"] == "off") & (rows["optimizer"] == "adamw")]
    entry = next(e for e in told["steps"] if (e["model"], e["optimizer"], e["guard"]) == ("mini/moved", "adamw", "off"))
    assert entry["batches"] == 2
    assert entry["real_change"] == pytest.approx(batches["real_change"].mean())
    assert entry["real_rise"] == (batches["real_change"] > 0).mean()
    assert entry["mu"] is None
    provenance = told["provenance"]
    assert (provenance["stage"], provenance["dtype"]) == ("audit", "float64")
    assert any(path.endswith("cache.json") for path in provenance["inputs"])
    assert any(path.endswith("unet/diffusion_pytorch_model.safetensors") for path in provenance["inputs"])
    assert (out / "audit.png").read_bytes().startswith(b"\x89PNG")


def test_summary_of_rows_made_by_hand() -> None:
    # Limits 0.5 and 2 at the output; 0.25, and none, by the parameters.
    made = pd.DataFrame(
        {
            "model": "m",
            "batch": [0, 1, 2],
            "guard": "output",
            "mu": 0.0,
            "optimizer": "sgd",
            "learning_rate": 0.1,
            "safe_scale": [0.5, 1.0, 1.0],
            "output_cosine": [0.5, 0.1, -0.2],
            "parameter_cosine": [0.9, -0.1, 0.3],
            "output_limit": [0.5, 2.0, None],
            "parameter_limit": [0.25, None, 0.5],
            "update_norm": 1.0,
            "predicted_change": [-1.0, -2.0, 2.0],
            "real_change": [0.5, -1.0, 4.0],
            "other_change": [1.0, 1.0, -1.0],
        }
    )
    told = geometry(made, [0.0, 0.5])[0]
    assert told["slack_needed"] == {"median": 0.25, "greatest": 0.5, "never": pytest.approx(1 / 3)}
    assert [entry["within"] for entry in told["scales"]] == pytest.approx([1 / 3, 2 / 3])
    assert [entry["output"] for entry in told["scales"]] == pytest.approx([2.5 / 3, 2.25 / 3])
    assert told["parameter_limit"] == {"mean": 0.375, "least": 0.25, "greatest": 0.5, "absent": pytest.approx(1 / 3)}
    taken = steps(made)[0]
    assert taken["ratio"] == pytest.approx([0.0, 0.5, 1.25])
    assert (taken["predicted_rise"], taken["real_rise"], taken["other_rise"]) == pytest.approx((1 / 3, 2 / 3, 2 / 3))


def test_audit_comes_out_the_same_again(spec: Spec, tmp_path: Path) -> None:
    small = {"models": None, "settings": {**SETTINGS, "batches": 1, "adamw": [], "warmed_batches": 0}}
    for name in ("one", "two"):
        audit(spec(tmp_path / name, **small))
    for file in ("audit.parquet", "audit.png"):
        assert (tmp_path / "one" / file).read_bytes() == (tmp_path / "two" / file).read_bytes()
    assert read_table(tmp_path / "one" / "audit.parquet", "audit")["model"].unique().tolist() == ["mini/base"]


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"objective": {"name": "sft"}}, "objective.name = 'sft': has no loser to be safeguarded"),
        ({"settings": {"mu": [1.5]}}, "settings.mu[0] = 1.5: expected a number of at most 1"),
        ({"settings": {"sdg": [0.1]}}, "settings.sdg: unknown key: expected one of"),
        ({"objective": {}}, "objective.name: missing"),
        ({"objective": {"name": "diffusion_dpo", "parameters": {"beta": -1}}}, "beta = -1: "),
    ],
)
def test_wrong_job_is_one_line(
    changed: dict[str, Any], message: str, spec: Spec, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["audit", "--spec", json.dumps(spec(tmp_path / "out", **changed))]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ") and message in error and error.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_folder_without_a_model_of_this_base_is_refused(
    base_path: Path, spec: Spec, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for folder, message in ((tmp_path, "no .safetensors below it"), (base_path / "vae", "not the denoiser of a model")):
        job = spec(tmp_path / "out", models=[{"name": "x", "path": str(folder)}])
        assert main(["audit", "--spec", json.dumps(job)]) == 2
        assert f"{folder}: {message}" in capsys.readouterr().err
