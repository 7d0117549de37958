"""The audit's mathematics, on numbers worked out by hand and on a model whose errors are exactly quadratic."""

from __future__ import annotations

import math

import pytest
import torch

from sdpo.audit.first_order import cosine, limit, predicted_change, scale, slack_needed
from sdpo.audit.steps import adamw_step, clipped
from sdpo.safeguard import safe_scale


def vector(*values: float) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.float64)


class Linear:
    """Prediction X·θ; the error is the mean square of the residual X·θ − y, its gradient 2Xᵀr/N, its Hessian 2XᵀX/N."""

    def __init__(self, inputs: torch.Tensor, targets: torch.Tensor) -> None:
        self.inputs, self.targets = inputs, targets

    def residual(self, theta: torch.Tensor) -> torch.Tensor:
        return self.inputs @ theta - self.targets

    def error(self, theta: torch.Tensor) -> float:
        return float(self.residual(theta).square().mean())

    def gradient(self, theta: torch.Tensor) -> torch.Tensor:
        return 2 * self.inputs.T @ self.residual(theta) / len(self.targets)


def test_cosine_by_hand() -> None:
    assert cosine(vector(3, 4), vector(4, 3)) == pytest.approx(24 / 25)
    assert cosine(vector(1, 0), vector(0, 2)) == 0
    assert cosine(vector(2, -1), vector(-4, 2)) == pytest.approx(-1)
    assert math.isnan(cosine(vector(0, 0), vector(1, 0)))


def test_limit_of_an_objective_that_weights_its_parts() -> None:
    # grad A = (2, 0); the winners' part (3, 1) lowers A by 6, the losers' part (-4, 5) raises it by 8.
    assert limit(vector(2, 0), vector(3, 1), vector(-4, 5)) == pytest.approx(6 / 8)
    # Winners' part that raises A, and losers' part that does too: no λ ≥ 0 is safe.
    assert limit(vector(2, 0), vector(-3, 1), vector(-4, 5)) == pytest.approx(-6 / 8)
    assert scale(-6 / 8, 0.5) == 0
    # A losers' part that lowers A, or leaves it, is not limited.
    assert limit(vector(2, 0), vector(3, 1), vector(4, 5)) == math.inf
    assert limit(vector(2, 0), vector(3, 1), vector(0, 5)) == math.inf
    assert scale(math.inf, 1.0) == 1


@pytest.mark.parametrize("mu", [0.0, 0.2, 0.9, 1.0])
def test_identical_winner_and_loser_leave_the_slack(mu: float) -> None:
    model = Linear(
        torch.randn(5, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0)), torch.ones(5).double()
    )
    theta = vector(0.3, -1, 2)
    gradient, residual = model.gradient(theta), model.residual(theta)
    assert cosine(gradient, gradient) == pytest.approx(1)
    by_parameters = scale(limit(gradient, gradient, -gradient), mu)
    at_output = float(safe_scale(residual[None], residual[None], mu=mu))
    assert (by_parameters, at_output) == pytest.approx((1 - mu, 1 - mu))


@pytest.mark.parametrize("mu", [0.0, 0.3, 0.9])
def test_limit_of_residuals_is_that_of_the_safeguard(mu: float) -> None:
    generator = torch.Generator().manual_seed(1)
    winner, noise = torch.randn(2, 4, 6, dtype=torch.float64, generator=generator)
    for share in (2.0, 0.5, 0.0, -1.0):
        loser = share * winner + noise
        flat = winner.flatten(), loser.flatten()
        assert scale(limit(flat[0], flat[0], -flat[1]), mu) == pytest.approx(float(safe_scale(winner, loser, mu=mu)))


def test_spaces_disagree_by_what_the_inputs_say() -> None:
    # Residuals r_w = (1, 1), r_l = (2, 2): cosine 1, limit 1/2. Inputs are diagonal, (1, 3) for the winner and (3, 1)
    # for the loser, N = 2: grad A = (1, 3), grad B = (6, 2), cosine 12/√(10·40) = 0.6, limit 10/12.
    winner, loser = Linear(torch.diag(vector(1, 3)), vector(-1, -1)), Linear(torch.diag(vector(3, 1)), vector(-2, -2))
    theta = vector(0, 0)
    r_w, r_l = winner.residual(theta), loser.residual(theta)
    a, b = winner.gradient(theta), loser.gradient(theta)
    assert (cosine(r_w, r_l), limit(r_w, r_w, -r_l)) == pytest.approx((1, 0.5))
    assert (cosine(a, b), limit(a, a, -b)) == pytest.approx((0.6, 10 / 12))
    assert slack_needed(10 / 12, 0.5) == 0
    # The other way round, 2/5 of the proxy have to go: λ = (1 − μ)·10/12 ≤ 1/2.
    assert slack_needed(0.5, 10 / 12) == pytest.approx(0.4)


def test_agreeing_residuals_may_have_gradients_without_conflict() -> None:
    # Winner and loser use different parameters: by the parameters they do not conflict at all.
    winner = Linear(torch.tensor([[1.0, 0.0]]).double(), vector(-1))
    loser = Linear(torch.tensor([[0.0, 1.0]]).double(), vector(-1))
    theta = vector(0, 0)
    assert cosine(winner.residual(theta), loser.residual(theta)) == pytest.approx(1)
    assert cosine(winner.gradient(theta), loser.gradient(theta)) == 0
    assert limit(winner.gradient(theta), winner.gradient(theta), -loser.gradient(theta)) == math.inf


def test_slack_needed_at_its_ends() -> None:
    assert slack_needed(1.0, math.inf) == 0  # λ = 1 is safe
    assert slack_needed(math.inf, 0.2) == 0  # every λ is
    assert math.isnan(slack_needed(0.5, math.inf))  # λ = 1 whatever μ
    assert math.isnan(slack_needed(-0.1, 0.5))  # not even λ = 0 is safe
    assert slack_needed(0.0, 0.5) == 1
    assert slack_needed(0.3, 0.2) == 0


def test_prediction_is_exact_up_to_the_quadratic_term() -> None:
    generator = torch.Generator().manual_seed(2)
    inputs = torch.randn(7, 4, dtype=torch.float64, generator=generator)
    model = Linear(inputs, torch.randn(7, dtype=torch.float64, generator=generator))
    theta, update = torch.randn(2, 4, dtype=torch.float64, generator=generator)
    predicted = predicted_change(model.gradient(theta), update)
    quadratic = float((inputs @ update).square().mean())
    assert model.error(theta + update) - model.error(theta) == pytest.approx(predicted + quadratic, rel=1e-12)
    assert quadratic > 0.1  # the test would otherwise not see it


def test_step_at_the_limit_leaves_the_error_to_first_order() -> None:
    generator = torch.Generator().manual_seed(3)
    a, noise = torch.randn(2, 6, dtype=torch.float64, generator=generator)
    b = 2 * a + noise
    largest = limit(a, a, -b)
    assert 0 < largest < 1
    assert predicted_change(a, -(a - largest * b)) == pytest.approx(0, abs=1e-12)
    assert predicted_change(a, -(a - 1.01 * largest * b)) > 0
    # With slack μ, the winners keep the share μ of their own descent.
    assert predicted_change(a, -(a - scale(largest, 0.9) * b)) == pytest.approx(-0.9 * float(a @ a))


@pytest.mark.parametrize("weight_decay", [0.0, 0.1])
def test_direction_of_adamw_by_hand(weight_decay: float) -> None:
    parameters, first, second = vector(1, -2), vector(3, -0.5), vector(-1, 2)
    direction, seen = adamw_step(first, parameters, weight_decay)
    torch.testing.assert_close(direction, vector(1, -1) + weight_decay * parameters, rtol=1e-7, atol=0)
    # Means of gradients weighted 9 : 10, of squares 999 : 1000, both corrected for their start at zero.
    mean = (0.09 * first + 0.1 * second) / 0.19
    square = (0.000999 * first**2 + 0.001 * second**2) / 0.001999
    expected = mean / square.sqrt() + weight_decay * parameters
    for _ in range(2):  # the state stays as it is
        direction, _ = adamw_step(second, parameters, weight_decay, seen)
        torch.testing.assert_close(direction, expected, rtol=1e-7, atol=0)
    assert parameters.tolist() == [1, -2]


@pytest.mark.parametrize("max_norm", [0.5, 100.0])
def test_clipping_is_pytorchs(max_norm: float) -> None:
    parameter = torch.nn.Parameter(vector(0, 0))
    parameter.grad = vector(3, 4)
    torch.nn.utils.clip_grad_norm_([parameter], max_norm)
    torch.testing.assert_close(clipped(vector(3, 4), max_norm), parameter.grad, rtol=1e-14, atol=0)
    assert clipped(vector(3, 4), None).tolist() == [3, 4]
