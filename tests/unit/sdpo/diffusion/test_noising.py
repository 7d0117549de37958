"""Forward process and targets: values by hand, and the conversions that the documentation states."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from sdpo.diffusion.noising import (
    ddpm_coefficients,
    flow_coefficients,
    noised,
    target,
    uniform_sigmas,
)
from sdpo.safeguard import safe_scale

ALPHAS_CUMPROD = torch.tensor([0.81, 0.36, 0.0])


def batch() -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    x0, noise = torch.randn(2, 3, 4, 2, 2, generator=generator, dtype=torch.float64)
    return x0, noise


def test_ddpm_coefficients() -> None:
    alpha, sigma = ddpm_coefficients(ALPHAS_CUMPROD, torch.tensor([1, 2, 0, 1]))
    torch.testing.assert_close(alpha, torch.tensor([0.6, 0.0, 0.9, 0.6]))
    torch.testing.assert_close(sigma, torch.tensor([0.8, 1.0, 0.19**0.5, 0.8]))


def test_each_sample_has_its_own_coefficients() -> None:
    x0, noise = torch.ones(2, 1, 1, 2), torch.full((2, 1, 1, 2), 10.0)
    alpha, sigma = ddpm_coefficients(ALPHAS_CUMPROD, torch.tensor([1, 2]))
    torch.testing.assert_close(noised(x0, noise, alpha, sigma)[:, 0, 0, 0], torch.tensor([8.6, 10.0]))
    torch.testing.assert_close(target("v_prediction", x0, noise, alpha, sigma)[:, 0, 0, 1], torch.tensor([5.2, -1.0]))
    alpha, sigma = flow_coefficients(torch.tensor([0.25, 1.0]))
    torch.testing.assert_close(noised(x0, noise, alpha, sigma)[:, 0, 0, 0], torch.tensor([3.25, 10.0]))
    torch.testing.assert_close(target("flow", x0, noise, alpha, sigma), torch.full_like(x0, 9.0))
    assert torch.equal(target("epsilon", x0, noise, alpha, sigma), noise)


def test_x0_comes_back_from_the_target() -> None:
    x0, noise = batch()
    column = (-1, 1, 1, 1)
    alpha, sigma = (
        c.double() for c in ddpm_coefficients(torch.tensor([0.9, 0.5, 0.1], dtype=torch.float64), torch.arange(3))
    )
    x_t = noised(x0, noise, alpha, sigma)
    v = target("v_prediction", x0, noise, alpha, sigma)
    torch.testing.assert_close(alpha.reshape(column) * x_t - sigma.reshape(column) * v, x0)
    epsilon = target("epsilon", x0, noise, alpha, sigma)
    torch.testing.assert_close((x_t - sigma.reshape(column) * epsilon) / alpha.reshape(column), x0)
    alpha, sigma = flow_coefficients(torch.tensor([0.0, 0.3, 1.0], dtype=torch.float64))
    x_t = noised(x0, noise, alpha, sigma)
    torch.testing.assert_close(x_t - sigma.reshape(column) * target("flow", x0, noise, alpha, sigma), x0)


def test_half_precision_input_is_noised_in_fp32() -> None:
    x0, noise = (x.bfloat16() for x in batch())
    alpha, sigma = ddpm_coefficients(ALPHAS_CUMPROD.bfloat16(), torch.tensor([0, 1, 2]))
    assert alpha.dtype == torch.float32
    alpha, sigma = ddpm_coefficients(ALPHAS_CUMPROD, torch.tensor([0, 1, 2]))
    x_t = noised(x0, noise, alpha, sigma)
    assert x_t.dtype == torch.float32
    assert torch.equal(x_t, noised(x0.float(), noise.float(), alpha, sigma))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: ddpm_coefficients(ALPHAS_CUMPROD, torch.tensor([3])), r"from 3 to 3: expected values in \[0, 3\)"),
        (lambda: ddpm_coefficients(ALPHAS_CUMPROD, torch.tensor([-1, 0])), "from -1 to 0"),
        (lambda: ddpm_coefficients(ALPHAS_CUMPROD, torch.tensor([0.5])), "expected integers"),
        (lambda: flow_coefficients(torch.tensor([0.5, 1.5])), r"expected values in \[0, 1\]"),
        (lambda: flow_coefficients(torch.tensor([float("nan")])), "sigmas"),
        (lambda: noised(torch.ones(2, 3), torch.ones(1, 3), torch.ones(2), torch.ones(2)), "noise has shape"),
        (lambda: noised(torch.ones(2, 3), torch.ones(2, 3), torch.ones(1), torch.ones(2)), "alpha has shape"),
        (lambda: target("v", *[torch.ones(2)] * 4), "parametrisation = 'v': expected one of epsilon"),  # type: ignore[arg-type]
        (lambda: target("v_predicton", *[torch.ones(2)] * 4), "did you mean 'v_prediction'"),  # type: ignore[arg-type]
    ],
)
def test_bad_arguments_are_named(call: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()


def clean_of(parametrisation: Any, predicted: Any, x_t: Any, alpha: Any, sigma: Any) -> tuple[Any, Any]:
    """x0 and ε that a prediction stands for, by the definition of each parametrisation."""
    if parametrisation == "epsilon":
        return (x_t - sigma * predicted) / alpha, predicted
    if parametrisation == "v_prediction":
        return alpha * x_t - sigma * predicted, sigma * x_t + alpha * predicted
    return x_t - sigma * predicted, x_t + (1 - sigma) * predicted


@pytest.mark.parametrize("process", ["v_prediction", "flow"])
def test_residuals_convert_as_the_predictions_do(process: Any) -> None:
    x0, noise = batch()
    sigmas = torch.tensor([0.1, 0.6, 0.9], dtype=torch.float64)
    alpha, sigma = (1 - sigmas**2).sqrt() if process == "v_prediction" else 1 - sigmas, sigmas
    column = (-1, 1, 1, 1)
    x_t, wanted = noised(x0, noise, alpha, sigma), target(process, x0, noise, alpha, sigma)
    predicted = wanted + 0.1 * torch.randn(wanted.shape, generator=torch.Generator().manual_seed(1))
    residual = predicted - wanted
    clean, epsilon = clean_of(process, predicted, x_t, alpha.reshape(column), sigma.reshape(column))
    torch.testing.assert_close(alpha.reshape(column) * residual, epsilon - noise)
    torch.testing.assert_close(-sigma.reshape(column) * residual, clean - x0)


@pytest.mark.parametrize("into", ["epsilon", "sample"])
def test_scale_of_one_pair_is_the_same_in_every_parametrisation(into: str) -> None:
    winner, noise = batch()
    loser = 0.8 * winner + 0.5 * noise
    sigmas = torch.tensor([0.1, 0.6, 0.9], dtype=torch.float64)
    factor = (1 - sigmas if into == "epsilon" else -sigmas).reshape(-1, 1, 1, 1)
    converted = factor * winner, factor * loser
    one_by_one = safe_scale(winner, loser, mu=0.6, granularity="sample")
    assert (one_by_one < 1).all()
    torch.testing.assert_close(safe_scale(*converted, mu=0.6, granularity="sample"), one_by_one)
    # Over pairs of different timesteps each parametrisation weights them its own way.
    assert abs(float(safe_scale(*converted, mu=0.6) / safe_scale(winner, loser, mu=0.6)) - 1) > 1e-3


def test_uniform_sigmas() -> None:
    drawn = uniform_sigmas(40000, torch.Generator().manual_seed(0))
    assert ((drawn >= 0) & (drawn < 1)).all()
    assert drawn.mean().item() == pytest.approx(0.5, abs=0.01)
    assert drawn.var().item() == pytest.approx(1 / 12, abs=0.002)
