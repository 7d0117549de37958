"""Diff-BDPO: values and weights worked out by hand, and the bound on the loser."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch

from sdpo.objective_check.properties import Draw, gradients, pairs
from sdpo.objectives import PairPrediction, create, pair_weights


def drifted(winner: float, loser: float) -> PairPrediction:
    """One pair of one value with these drifts: references 1, so that L = 1 + d; targets 0."""
    values = [math.sqrt(1 + winner), math.sqrt(1 + loser), 1.0, 1.0, 0.0, 0.0]
    pair = PairPrediction(*(torch.tensor([[x]], dtype=torch.float64) for x in values))
    for x in (pair.policy_winner, pair.policy_loser):
        assert x is not None
        x.requires_grad_()
    return pair


def weights(pair: PairPrediction, **parameters: Any) -> tuple[float, float]:
    objective = create("bdpo", **parameters)
    winner, loser = pair_weights(objective, objective.errors(pair))
    return float(winner), float(loser)


@pytest.mark.parametrize("scale", [1.0, 3.0, 1000.0])
def test_value_and_weights_by_hand(scale: float) -> None:
    """A loser that has become worse by 0.02, a winner better by 0.01, β = 40."""
    mixed = 0.9 * math.exp(-scale * 0.02) + 0.1
    u = 20 * (-math.log(mixed) / scale + 0.01)
    pair = drifted(-0.01, 0.02)
    assert float(create("bdpo", beta=40.0, error_scale=scale)(pair).loss) == pytest.approx(
        math.log1p(math.exp(-u)), rel=1e-12
    )
    winner, loser = weights(pair, beta=40.0, error_scale=scale)
    assert winner == pytest.approx(20 / (1 + math.exp(u)), rel=1e-10)
    assert loser == pytest.approx(winner * 0.9 * math.exp(-scale * 0.02) / mixed, rel=1e-10)


def test_on_sums_it_is_bounded_dpo_of_densities() -> None:
    """Densities e^{−error} of sums over six values, the mixture taken by hand; β for means is six times as large."""
    pair = pairs(Draw(seed=3))
    values = {n: getattr(pair, n).detach() for n in ("policy_winner", "policy_loser", "reference_winner",
                                                     "reference_loser", "target_winner", "target_loser")}  # fmt: skip

    def density(who: str, side: str) -> torch.Tensor:
        return (-(values[f"{who}_{side}"] - values[f"target_{side}"]).square().flatten(1).sum(1)).exp()

    mixture = 0.7 * density("policy", "loser") + 0.3 * density("reference", "loser")
    winner = (density("policy", "winner") / density("reference", "winner")).log()
    expected = -torch.sigmoid(0.5 * 4.0 * (winner - (mixture / density("reference", "loser")).log())).log()
    found = create("bdpo", beta=24.0, mix=0.7, error_scale=6.0)(pair).loss
    torch.testing.assert_close(found, expected.mean(), rtol=1e-10, atol=0)


@pytest.mark.parametrize("scale", [0.5, 400.0])
def test_where_training_starts_it_is_dpo_with_mix_on_the_loser(scale: float) -> None:
    pair = pairs(Draw(moved=False))
    winner, loser = gradients(create("bdpo", beta=30.0, mix=0.8, error_scale=scale), pair)
    dpo_winner, dpo_loser = gradients(create("diffusion_dpo", beta=30.0), pair)
    torch.testing.assert_close(winner, dpo_winner, rtol=1e-12, atol=0)
    torch.testing.assert_close(loser, 0.8 * dpo_loser, rtol=1e-12, atol=0)
    assert float(create("bdpo", beta=30.0)(pair).loss) == pytest.approx(math.log(2), rel=1e-12)


def test_the_loser_counts_less_the_worse_it_gets_and_its_part_of_the_logit_is_bounded() -> None:
    """With s = ½β: at most −log(1 − mix) = 2.303 of u; half the mixture is the policy's at a drift of 4.39/β."""
    drifts = [0.0, math.log(9) / 20, 1.0, 3.0, 50.0]
    shares = [
        loser / winner for winner, loser in (weights(drifted(0.0, d), beta=40.0, error_scale=20.0) for d in drifts)
    ]
    assert shares[:2] == pytest.approx([0.9, 0.5], rel=1e-9)
    assert sorted(shares, reverse=True) == shares
    assert shares[3] < 1e-24
    assert shares[4] == pytest.approx(0.0, abs=1e-300)
    loss = float(create("bdpo", beta=40.0, error_scale=20.0)(drifted(0.0, 50.0)).loss)
    assert loss == pytest.approx(math.log1p(0.1), rel=1e-9)
    # Diffusion-DPO has nothing left to learn there.
    assert float(create("diffusion_dpo", beta=40.0)(drifted(0.0, 50.0)).loss) < 1e-300


def test_a_loser_that_gets_better_counts_whole_and_stays_finite() -> None:
    """Far below its reference e^{−s·d} overflows, the loss does not: u falls by s·|d| + log 0.9 over s."""
    pair = drifted(0.0, -0.9)
    u = -0.5 * 40.0 * (0.9 + math.log(0.9) / 5000.0)
    assert float(create("bdpo", beta=40.0, error_scale=5000.0)(pair).loss) == pytest.approx(-u, rel=1e-7)
    winner, loser = weights(pair, beta=40.0, error_scale=5000.0)
    assert loser == pytest.approx(winner, rel=1e-12)


def test_on_mean_errors_as_printed_the_bound_is_out_of_reach() -> None:
    """Drifts of images are thousandths: within one of them the loser's share stays at mix to a ten-thousandth."""
    winner, loser = weights(drifted(0.0, 1e-3), beta=2000.0)
    assert loser / winner == pytest.approx(0.9, abs=1e-4)
