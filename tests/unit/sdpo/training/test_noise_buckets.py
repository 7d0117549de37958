"""Drifts and λ by share of noise, worked out by hand."""

from __future__ import annotations

import pytest
import torch

from artifacts.contracts import CONTRACTS, NOISE_BUCKETS
from sdpo.objectives import ObjectiveOutput, PairPrediction, create
from sdpo.training.noise_buckets import bucket_columns, bucket_sums, noise_share


def output(*, losers: bool = True) -> ObjectiveOutput:
    """Four pairs of one value: targets 0, references 1, so that d = policy² − 1; winners 0, 1, 0, 0, losers 3."""
    winner = torch.tensor([[1.0], [2.0**0.5], [1.0], [1.0]], dtype=torch.float64)
    loser, one, zero = torch.full_like(winner, 2.0), torch.ones_like(winner), torch.zeros_like(winner)
    if not losers:
        return create("sft")(PairPrediction(winner, None, one, None, zero, None))
    guard = {"mu": 0.6, "granularity": "sample"}
    return create("diffusion_dpo", beta=1.0, safeguard=guard)(PairPrediction(winner, loser, one, one, zero, zero))


def test_share_of_noise_is_the_time_of_rectified_flow() -> None:
    time = torch.tensor([0.0, 0.3, 1.0], dtype=torch.float64)
    torch.testing.assert_close(noise_share(1 - time, time), time)
    # As much noise as data, by the variance-preserving coefficients.
    half = torch.tensor([0.5**0.5])
    assert noise_share(half, half).tolist() == [0.5]


def test_means_by_hand() -> None:
    """λ = 0.4·r_w²/(r_w·r_l): 0.4·1/2 = 0.2, and 0.4·√2/2 for the second pair."""
    share = torch.tensor([0.1, 0.19, 0.2, 1.0])
    columns = bucket_columns(bucket_sums(share, output()).tolist(), output())
    assert set(columns) <= set(CONTRACTS["training"].columns)
    assert [columns[f"pairs_noise_{k}"] for k in range(1, NOISE_BUCKETS + 1)] == [2, 1, 0, 0, 1]
    assert columns["winner_drift_noise_1"] == pytest.approx(0.5)
    assert columns["loser_drift_noise_1"] == pytest.approx(3.0)
    assert columns["safe_scale_noise_1"] == pytest.approx((0.2 + 0.2 * 2**0.5) / 2)
    assert columns["safe_scale_noise_2"] == pytest.approx(0.2)
    assert [columns[f"{name}_noise_3"] for name in ("winner_drift", "loser_drift", "safe_scale")] == [None] * 3
    # Nothing but noise belongs to the last.
    assert columns["winner_drift_noise_5"] == pytest.approx(0.0)


def test_without_losers_there_is_no_loser_drift() -> None:
    out = output(losers=False)
    columns = bucket_columns(bucket_sums(torch.full((4,), 0.5), out).tolist(), out)
    assert columns["loser_drift_noise_3"] is None
    assert columns["winner_drift_noise_3"] == pytest.approx(0.25)
    assert columns["safe_scale_noise_3"] == 1.0
