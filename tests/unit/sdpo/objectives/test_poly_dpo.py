"""Poly-DPO: values and weights worked out by hand, and what its α does."""

from __future__ import annotations

import math
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from artifacts.errors import InputError
from sdpo.objective_check.properties import Draw, pairs
from sdpo.objectives import create, pair_weights, poly_dpo


def value_and_slope(u: float, alpha: float) -> tuple[float, float]:
    """The loss at a logit, and its derivative there."""
    logit = torch.tensor([u], dtype=torch.float64, requires_grad=True)
    errors: Any = SimpleNamespace(logit=lambda beta: logit)
    loss = poly_dpo.loss(errors, poly_dpo.Parameters(beta=1.0, alpha=alpha)).sum()
    return float(loss.detach()), float(torch.autograd.grad(loss, logit)[0])


@pytest.mark.parametrize("alpha", [8.0, 1.0, 0.0, -1.0])
@pytest.mark.parametrize("p", [0.001, 0.3, 0.5, 0.9])
def test_value_and_slope_by_hand(p: float, alpha: float) -> None:
    value, slope = value_and_slope(math.log(p / (1 - p)), alpha)
    assert value == pytest.approx(-math.log(p) + alpha * (1 - p), rel=1e-12)
    assert slope == pytest.approx(-(1 - p) * (1 + alpha * p), rel=1e-12)


def test_weight_is_greatest_where_the_policy_is_unsure() -> None:
    """At p = ½ − 1/(2α), and 81/32 of Diffusion-DPO's greatest for α = 8."""
    grid = [i / 1000 for i in range(1, 1000)]
    slopes = {p: -value_and_slope(math.log(p / (1 - p)), 8.0)[1] for p in grid}
    steepest = max(slopes, key=lambda p: slopes[p])
    assert steepest == pytest.approx(0.4375, abs=1e-3)
    assert slopes[steepest] == pytest.approx(0.5625 * 4.5, rel=1e-5)


@pytest.mark.parametrize(("u", "expected"), [(800.0, 0.0), (-800.0, 808.0)])
def test_finite_far_out(u: float, expected: float) -> None:
    assert value_and_slope(u, 8.0)[0] == pytest.approx(expected, abs=1e-9)


def test_alpha_zero_is_diffusion_dpo() -> None:
    pair = pairs(Draw())
    ours, theirs = create("poly_dpo", beta=30.0, alpha=0.0), create("diffusion_dpo", beta=30.0)
    torch.testing.assert_close(ours(pair).loss, theirs(pair).loss, rtol=1e-12, atol=0)
    for one, other in zip(
        pair_weights(ours, ours.errors(pair)), pair_weights(theirs, theirs.errors(pair)), strict=True
    ):
        torch.testing.assert_close(one, other, rtol=1e-12, atol=0)


def test_beta_has_the_half() -> None:
    """At policy = reference both weights are ½β·½·(1 + α/2)."""
    objective = create("poly_dpo", beta=30.0)
    for weight in pair_weights(objective, objective.errors(pairs(Draw(moved=False)))):
        torch.testing.assert_close(weight, torch.full((4,), 7.5 * 5.0, dtype=torch.float64), rtol=1e-12, atol=0)


def test_an_alpha_that_would_pull_pairs_back_is_refused() -> None:
    with pytest.raises(InputError, match=r"alpha.*-1.5"):
        create("poly_dpo", beta=30.0, alpha=-1.5)
