"""Losses of arXiv 2608.20011: values worked out by hand, gradients by finite differences."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch

from artifacts.errors import InputError
from sdpo import objectives
from sdpo.objectives import PairPrediction

CASES: list[tuple[str, dict[str, Any]]] = [
    ("chi_po", {"beta": 0.7, "values": 3.0}),
    ("thermo_dpo", {"beta": 4.0, "form": "winner_weighted"}),
    ("thermo_dpo", {"beta": 4.0, "form": "plain"}),
    ("anchored_dpo", {"beta": 5.0, "anchor": "winner", "weight": 3.0}),
    ("anchored_dpo", {"beta": 5.0, "anchor": "reference", "weight": 1.7}),
    ("anchored_dpo", {"beta": 5.0, "anchor": "reference_square", "weight": 0.4}),
]


def pair(policy_w: float, policy_l: float, time: float | None = 0.5) -> PairPrediction:
    """One pair of three values: targets 0, references 1 (so R = 1), policies as given (L = value²)."""
    full = [torch.full((1, 3), value, dtype=torch.float64) for value in (policy_w, policy_l, 1.0, 1.0, 0.0, 0.0)]
    return PairPrediction(*full, time=None if time is None else torch.tensor([time], dtype=torch.float64))


def value(name: str, parameters: dict[str, Any], prediction: PairPrediction) -> float:
    return float(objectives.create(name, **parameters)(prediction).loss)


def test_values_worked_out_by_hand() -> None:
    # L_w = 0.25, L_l = 2.25: d_w = −0.75, d_l = 1.25, d = −2.
    near = pair(0.5, 1.5)
    logit = 0.1 * ((math.exp(2.25) + 2.25) - (math.exp(-3.75) - 3.75))
    assert value("chi_po", {"beta": 0.1, "values": 3}, near) == pytest.approx(math.log1p(math.exp(-logit)), rel=1e-12)
    # τ = 0.5/4 = 1/8: e^{d/τ} = e^−16, (1 − t)²·L_w/τ = 0.0625·8 = 0.5, L_w/τ = 2.
    weighted = math.log(1 + math.exp(-16) + math.exp(0.5)) / 8
    plain = 0.25 * math.log(1 + math.exp(-16) + math.exp(2)) / 8
    assert value("thermo_dpo", {"beta": 4, "form": "winner_weighted"}, near) == pytest.approx(weighted, rel=1e-12)
    assert value("thermo_dpo", {"beta": 4, "form": "plain"}, near) == pytest.approx(plain, rel=1e-12)
    # u = ½·β·2; the shifts from the reference are −½ and ½.
    dpo = math.log1p(math.exp(-0.3 * 2 / 2))
    for anchor, added in (("winner", 0.25), ("reference", 0.5), ("reference_square", 0.25)):
        found = value("anchored_dpo", {"beta": 0.3, "anchor": anchor, "weight": 2.0}, near)
        assert found == pytest.approx(dpo + 2 * added, rel=1e-9)


def test_values_where_policy_and_reference_agree() -> None:
    same = pair(1.0, 1.0)
    assert value("chi_po", {"beta": 500, "values": 3}, same) == pytest.approx(math.log(2), rel=1e-12)
    assert value("anchored_dpo", {"beta": 9, "anchor": "winner"}, same) == pytest.approx(math.log(2) + 1, rel=1e-12)
    # τ·log(2 + e^{(1−t)²/τ}) with τ = 1/8.
    assert value("thermo_dpo", {"beta": 4}, same) == pytest.approx(math.log(2 + math.exp(2)) / 8, rel=1e-12)


def test_mean_errors_with_three_times_beta_are_a_third_of_summed_errors() -> None:
    """The conversion that config/toy-surface.yaml states: THERMoDPO on sums of three squares, at the paper's β."""
    tau, loss_w, drift = 0.3 / 7.0, 3 * 0.25, 3 * -2.0
    for form, outside, inside in (("winner_weighted", 1.0, 0.7**2), ("plain", 0.3**2, 1.0)):
        printed = outside * tau * math.log(1 + math.exp(drift / tau) + math.exp(inside * loss_w / tau))
        ours = value("thermo_dpo", {"beta": 21.0, "form": form}, pair(0.5, 1.5, 0.3))
        assert 3 * ours == pytest.approx(printed, rel=1e-9)


@pytest.mark.parametrize("time", [0.0, 1e-6, 1.0])
@pytest.mark.parametrize("form", ["winner_weighted", "plain"])
def test_thermo_dpo_is_finite_at_both_ends_of_time(form: str, time: float) -> None:
    policy = [torch.full((2, 3), x, requires_grad=True) for x in (3.0, 0.1)]
    fixed = [torch.ones(2, 3), torch.ones(2, 3), torch.zeros(2, 3), torch.zeros(2, 3)]
    objective = objectives.create("thermo_dpo", beta=1500.0, form=form)
    loss = objective(PairPrediction(*policy, *fixed, time=torch.full((2,), time))).loss
    loss.backward()
    assert torch.isfinite(loss)
    assert all(torch.isfinite(x.grad).all() for x in policy if x.grad is not None)


def test_thermo_dpo_needs_times() -> None:
    with pytest.raises(InputError, match="the pair has no time"):
        value("thermo_dpo", {"beta": 4}, pair(0.5, 1.5, None))
    with pytest.raises(InputError, match=r"time has shape \(2,\): expected \(1,\)"):
        PairPrediction(*[torch.ones(1, 3)] * 6, time=torch.ones(2))


@pytest.mark.parametrize(("name", "parameters"), CASES, ids=lambda x: x if isinstance(x, str) else "")
def test_gradients_are_those_of_finite_differences(name: str, parameters: dict[str, Any]) -> None:
    generator = torch.Generator().manual_seed(5)
    draw = lambda: torch.randn(4, 3, generator=generator, dtype=torch.float64)  # noqa: E731
    policy = [draw().requires_grad_(), draw().requires_grad_()]
    fixed, time = [draw() for _ in range(4)], torch.rand(4, generator=generator, dtype=torch.float64)
    objective = objectives.create(name, **parameters)

    def loss(*predictions: torch.Tensor) -> torch.Tensor:
        return objective(PairPrediction(*predictions, *fixed, time=time)).loss

    assert torch.autograd.gradcheck(loss, policy, eps=1e-6, atol=1e-7)


def test_winner_and_loser_gradients_of_chi_po_carry_the_documented_weights() -> None:
    prediction = pair(0.5, 1.5)
    policy_w, policy_l = (
        x.clone().requires_grad_() for x in (prediction.policy_winner, torch.full((1, 3), 1.5).double())
    )
    fixed = [
        torch.ones(1, 3).double(),
        torch.ones(1, 3).double(),
        torch.zeros(1, 3).double(),
        torch.zeros(1, 3).double(),
    ]
    objectives.create("chi_po", beta=0.1)(PairPrediction(policy_w, policy_l, *fixed)).loss.backward()
    u = 0.1 * ((math.exp(0.75) + 0.75) - (math.exp(-1.25) - 1.25))
    doubt = 1 / (1 + math.exp(u))
    assert policy_w.grad is not None and policy_l.grad is not None
    # ∂L/∂prediction is 2·residual/3: 1/3 and 1.
    assert float(policy_w.grad[0, 0]) == pytest.approx(0.1 * doubt * (1 + math.exp(0.75)) / 3, rel=1e-9)
    assert float(policy_l.grad[0, 0]) == pytest.approx(-0.1 * doubt * (1 + math.exp(-1.25)), rel=1e-9)
