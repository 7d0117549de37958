"""λ: values by hand, the inequality it exists for, and inputs at the edge of the dtype."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from sdpo.safeguard import Safeguard, residual_sums, safe_scale, scale_of_sums

GRANULARITIES = ("microbatch", "sample", "global")
WINNER = torch.tensor([[1.0, 2.0], [3.0, 0.0]])
LOSER = torch.tensor([[2.0, 2.0], [4.0, 7.0]])
# squares of the winner: 5 and 9; products: 6 and 12


def residuals(seed: int, batch: int = 4, dtype: torch.dtype = torch.float32) -> tuple[torch.Tensor, torch.Tensor]:
    """Random residuals with every sign and size of agreement."""
    generator = torch.Generator().manual_seed(seed)
    winner = torch.randn(batch, 3, 2, 2, generator=generator, dtype=dtype)
    mixing = torch.randn(batch, 1, 1, 1, generator=generator, dtype=dtype)
    return winner, 2 * mixing * winner + torch.randn(batch, 3, 2, 2, generator=generator, dtype=dtype)


def test_values_by_hand() -> None:
    torch.testing.assert_close(safe_scale(WINNER, LOSER, mu=0.1), torch.tensor(0.9 * 14 / 18))
    torch.testing.assert_close(
        safe_scale(WINNER, LOSER, mu=0.1, granularity="sample"), torch.tensor([0.9 * 5 / 6, 0.9 * 9 / 12])
    )


def test_negative_products_count_in_the_sum_and_free_a_pair_of_its_own() -> None:
    loser = torch.tensor([[2.0, 2.0], [-1.0, 7.0]])  # products 6 and -3
    assert safe_scale(WINNER, loser, mu=0.9) == pytest.approx(0.1 * 14 / 3)
    assert safe_scale(WINNER, loser, mu=0.9, granularity="sample").tolist() == [pytest.approx(0.1 * 5 / 6), 1.0]
    assert safe_scale(WINNER, -LOSER, mu=1.0) == 1.0


def test_weights_by_hand() -> None:
    a_w, a_l = torch.tensor([1.0, 2.0]), torch.tensor([3.0, 0.5])
    # Σ a_w²·|r_w|² = 5 + 36; Σ a_w·a_l·⟨r_w, r_l⟩ = 18 + 12
    options: dict[str, Any] = {"mu": 0.5, "winner_weight": a_w, "loser_weight": a_l, "max_scale": 10.0}
    assert safe_scale(WINNER, LOSER, **options) == pytest.approx(0.5 * 41 / 30)
    by_pair = safe_scale(WINNER, LOSER, granularity="sample", **options)
    assert by_pair.tolist() == [pytest.approx(0.5 * (1 / 3) * 5 / 6), pytest.approx(0.5 * 4 * 9 / 12)]


def test_range_of_the_scale() -> None:
    assert safe_scale(WINNER, LOSER, mu=0.99, min_scale=0.2) == pytest.approx(0.2)
    assert safe_scale(WINNER, 0.1 * LOSER, mu=0.0, max_scale=3.0) == 3.0
    assert safe_scale(WINNER, -LOSER, mu=0.5, max_scale=3.0) == 3.0


def test_equal_weights_give_the_squared_weighting() -> None:
    weight = torch.tensor([1.0, 3.0])
    scale = safe_scale(WINNER, LOSER, mu=0.0, winner_weight=weight, loser_weight=weight)
    assert scale == pytest.approx((5 + 9 * 9) / (6 + 9 * 12))
    assert safe_scale(WINNER, LOSER, mu=0.0, winner_weight=7 * weight, loser_weight=7 * weight) == pytest.approx(scale)


def test_winners_without_weight_leave_nothing_to_losers_that_agree() -> None:
    nothing = torch.zeros(2)
    assert safe_scale(WINNER, LOSER, mu=0.5, winner_weight=nothing) == 0.0
    assert safe_scale(WINNER, LOSER, mu=0.5, winner_weight=nothing, granularity="sample").tolist() == [0.0, 0.0]
    assert safe_scale(WINNER, LOSER, mu=0.5, loser_weight=nothing) == 1.0
    winner, loser = torch.tensor([[1e38, 0.0]]), torch.tensor([[1e-31, 1e-30]])  # 10 · (1e68 → ∞) · 0
    assert safe_scale(winner, loser, mu=0.5, winner_weight=nothing[:1]) == 0.0


@pytest.mark.parametrize("granularity", GRANULARITIES)
@pytest.mark.parametrize("mu", [0.0, 0.2, 0.9, 1.0])
def test_equal_residuals_leave_one_minus_mu(mu: float, granularity: Any) -> None:
    scale = safe_scale(WINNER, WINNER, mu=mu, granularity=granularity)
    torch.testing.assert_close(scale, torch.full_like(scale, 1 - mu))


def test_shapes_and_detachment() -> None:
    winner, loser = (x.requires_grad_() for x in residuals(0))
    batch = safe_scale(winner, loser, mu=0.9)
    sample = safe_scale(winner, loser, mu=0.9, granularity="sample")
    assert (batch.shape, sample.shape) == ((), (4,))
    assert not batch.requires_grad and not sample.requires_grad


def test_half_precision_residuals_are_summed_in_fp32() -> None:
    winner = torch.ones(1, 5000, dtype=torch.bfloat16)  # 5000 is not a bf16 number
    loser = winner.clone()
    loser[0, ::2] = 3.0
    scale = safe_scale(winner, loser, mu=0.0)
    assert scale.dtype == torch.float32 and scale == pytest.approx(0.5)


def test_sample_equals_microbatch_for_one_pair() -> None:
    for seed in range(20):
        winner, loser = residuals(seed, batch=1)
        torch.testing.assert_close(
            safe_scale(winner, loser, mu=0.6, granularity="sample")[0], safe_scale(winner, loser, mu=0.6)
        )


def test_identical_pairs_share_the_scale_of_one() -> None:
    winner, loser = (x.repeat(5, 1) for x in (WINNER[:1], LOSER[:1]))
    assert safe_scale(winner, loser, mu=0.3) == pytest.approx(0.7 * 5 / 6)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10**6), st.floats(0, 1), st.sampled_from(GRANULARITIES), st.booleans())
def test_winner_does_not_get_worse_to_first_order(seed: int, mu: float, granularity: Any, weighted: bool) -> None:
    """−‖g_w‖² + λ⟨g_w, g_l⟩ ≤ −μ‖g_w‖², with g the weighted residuals, and no larger λ in the range does it."""
    winner, loser = residuals(seed, dtype=torch.float64)
    weights = torch.rand(2, 4, generator=torch.Generator().manual_seed(seed), dtype=torch.float64) + 0.1
    a_w, a_l = weights if weighted else torch.ones_like(weights)
    scale = safe_scale(winner, loser, mu=mu, granularity=granularity, winner_weight=a_w, loser_weight=a_l)
    g_w, g_l = a_w[:, None] * winner.flatten(1), a_l[:, None] * loser.flatten(1)
    square, product = (g_w * g_w).sum(1), (g_w * g_l).sum(1)
    if granularity != "sample":
        square, product = square.sum(), product.sum()
    slack = -mu * square - (-square + scale * product)
    assert (slack >= -1e-9 * square).all()
    assert ((scale == 1) | (slack <= 1e-9 * square)).all()


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10**6), st.floats(-35, 35), st.sampled_from(GRANULARITIES))
def test_scale_of_the_residuals_does_not_matter(seed: int, exponent: float, granularity: Any) -> None:
    winner, loser = residuals(seed)
    expected = safe_scale(winner, loser, mu=0.5, granularity=granularity)
    factor = 10.0**exponent
    torch.testing.assert_close(
        safe_scale(factor * winner, factor * loser, mu=0.5, granularity=granularity), expected, rtol=1e-4, atol=1e-6
    )


@pytest.mark.parametrize("granularity", GRANULARITIES)
def test_a_larger_loser_is_scaled_down_in_proportion(granularity: Any) -> None:
    once = safe_scale(WINNER, LOSER, mu=0.5, granularity=granularity)
    torch.testing.assert_close(safe_scale(WINNER, 1e6 * LOSER, mu=0.5, granularity=granularity), once * 1e-6)
    torch.testing.assert_close(safe_scale(1e25 * WINNER, 1e31 * LOSER, mu=0.5, granularity=granularity), once * 1e-6)


@pytest.mark.parametrize("granularity", GRANULARITIES)
@pytest.mark.parametrize("mu", [0.0, 0.9, 1.0])
@pytest.mark.parametrize("winner_size", [0.0, 1e-45, 1e-30, 1.0, 3e38])
@pytest.mark.parametrize("loser_size", [0.0, 1e-45, 1e-30, 1.0, 3e38])
def test_finite_and_in_range_for_any_size(winner_size: float, loser_size: float, mu: float, granularity: Any) -> None:
    winner = torch.full((2, 8), winner_size)
    loser = torch.full((2, 8), loser_size)
    scale = safe_scale(winner, loser, mu=mu, granularity=granularity)
    if winner_size == 0 or loser_size == 0:
        expected = 1.0
    else:
        ratio = winner[0, 0].item() / loser[0, 0].item()
        expected = min(1.0, (1 - mu) * ratio)
    torch.testing.assert_close(scale, torch.full_like(scale, expected), rtol=1e-5, atol=1e-37)


def test_residuals_orthogonal_but_for_rounding_leave_the_loser_alone() -> None:
    positive = 0
    for seed in range(50):
        winner, loser = torch.randn(2, 16, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
        loser = (loser - winner * (winner @ loser) / (winner @ winner)).float()[None]
        winner = winner.float()[None]
        positive += int((winner * loser).sum() > 0)
        assert safe_scale(winner, loser, mu=1.0) == 1.0
    assert positive > 5  # the sign of the product alone would have switched these losers off


def test_a_number_of_pairs_share_a_scale() -> None:
    """Two groups of two pairs: the second is the first, the other way round and twice as large."""
    winner, loser = torch.cat([WINNER, 2 * WINNER.flip(0)]), torch.cat([LOSER, 2 * LOSER.flip(0)])
    scale = safe_scale(winner, loser, mu=0.1, granularity=2)
    torch.testing.assert_close(scale, torch.full((4,), 0.9 * 14 / 18))
    winner, loser = residuals(7)
    by_pair = safe_scale(winner, loser, mu=0.4, granularity="sample")
    assert torch.equal(safe_scale(winner, loser, mu=0.4, granularity=1), by_pair)
    assert len(by_pair.unique()) > 1
    whole = safe_scale(winner, loser, mu=0.4)
    torch.testing.assert_close(safe_scale(winner, loser, mu=0.4, granularity=4), whole.expand(4))


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"mu": 1.5}, "mu = 1.5"),
        ({"mu": -0.1}, "mu = -0.1"),
        ({"mu": math.nan}, "mu = nan"),
        ({"max_scale": -1.0}, "max_scale = -1.0"),
        ({"max_scale": math.inf}, "max_scale = inf"),
        ({"min_scale": 1.5}, "min_scale = 1.5"),
        ({"formula": "ovi"}, "did you mean 'ovis'"),
        ({"added_epsilon": -1.0}, "added_epsilon = -1.0"),
        ({"granularity": "samples"}, "granularity = 'samples'.*did you mean 'sample'"),
        ({"granularity": 3}, "granularity = 3: expected a divisor of the number of pairs, 2"),
        ({"granularity": 0}, "granularity = 0: expected a name or a number of pairs, at least 1"),
        ({"granularity": True}, "granularity = True: expected a name or a number"),
        ({"winner_residual": torch.tensor([[1.0, math.nan], [0.0, 0.0]])}, "^winner_residual"),
        ({"loser_residual": torch.tensor([[1.0, 2.0], [-math.inf, 0.0]])}, "^loser_residual"),
        ({"loser_residual": torch.ones(2, 3)}, r"^loser_residual has shape \(2, 3\)"),
        ({"winner_residual": torch.ones(0, 2)}, "^winner_residual"),
        ({"winner_weight": torch.ones(3)}, "^winner_weight has shape"),
        ({"winner_weight": torch.tensor([1.0, -1.0])}, "^winner_weight has negative"),
        ({"loser_weight": torch.tensor([1.0, math.inf])}, "^loser_weight"),
        ({"winner_residual": WINNER.double() * 1e160}, "range of float64"),
    ],
)
def test_bad_arguments_are_named(change: dict[str, Any], named: str) -> None:
    arguments: dict[str, Any] = {"winner_residual": WINNER, "loser_residual": LOSER, "mu": 0.5} | change
    with pytest.raises(ValueError, match=named):
        safe_scale(**arguments)


@pytest.mark.parametrize(
    "values",
    [
        {"mu": 1.01},
        {"mu": math.nan},
        {},
        {"mu": 0.5, "granularity": "batch"},
        {"mu": 0.5, "granularity": 0},
        {"mu": 0, "m": 1},
    ],
)
def test_settings_refuse(values: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        Safeguard(**values)


def test_ovis_formula_by_hand() -> None:
    # Σ products 18, Σ losers² 8 + 65: λ = μ·18/73; one by one 6/8 and 12/65
    assert safe_scale(WINNER, LOSER, mu=0.5, formula="ovis") == pytest.approx(0.5 * 18 / 73)
    by_pair = safe_scale(WINNER, LOSER, mu=0.5, granularity="sample", formula="ovis")
    assert by_pair.tolist() == [pytest.approx(0.5 * 6 / 8), pytest.approx(0.5 * 12 / 65)]
    assert safe_scale(WINNER, -LOSER, mu=0.5, formula="ovis") == 0.0
    assert safe_scale(WINNER, -LOSER, mu=0.5, formula="ovis", min_scale=0.1) == pytest.approx(0.1)
    assert safe_scale(10 * LOSER, LOSER, mu=0.5, formula="ovis") == 1.0
    assert safe_scale(WINNER, 0 * LOSER, mu=0.5, formula="ovis") == 0.0


def test_a_fixed_scale_hangs_on_mu_alone() -> None:
    for loser in (LOSER, -LOSER, 0 * LOSER, 1e10 * LOSER):
        assert safe_scale(WINNER, loser, mu=0.75, formula="fixed") == 0.25
    assert safe_scale(WINNER, LOSER, mu=0.5, granularity="sample", formula="fixed").tolist() == [0.5, 0.5]
    assert safe_scale(WINNER, LOSER, mu=0.0, formula="fixed", max_scale=0.5) == 0.5


@pytest.mark.parametrize("granularity", GRANULARITIES)
@pytest.mark.parametrize("size", [1e-30, 1e-2, 1.0, 1e30])
def test_ovis_formula_does_not_depend_on_the_scale(size: float, granularity: Any) -> None:
    expected = safe_scale(WINNER, LOSER, mu=0.7, granularity=granularity, formula="ovis")
    found = safe_scale(size * WINNER, size * LOSER, mu=0.7, granularity=granularity, formula="ovis")
    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("size", [1.0, 1e-3])
def test_added_epsilon_is_that_of_the_published_code(size: float) -> None:
    """λ = (1 − μ)·Σ g_w² / (Σ g_w·g_l + 1e-9) of gradients g by autograd of the mean errors."""
    winner, loser = (size * x.double() for x in residuals(7, batch=3))
    loser = winner + 0.3 * loser
    output = torch.cat([winner, loser]).requires_grad_()
    (g_w,) = torch.autograd.grad(output[:3].square().mean(), output)
    (g_l,) = torch.autograd.grad(output[3:].square().mean(), output)
    product = float((g_w[:3] * g_l[3:]).sum())
    expected = 0.1 * float(g_w.square().sum()) / (product + 1e-9)
    found = safe_scale(winner, loser, mu=0.9, added_epsilon=1e-9)
    assert found == pytest.approx(expected, rel=1e-9)
    exact = safe_scale(winner, loser, mu=0.9)
    assert float(found / exact) == pytest.approx(1 / (1 + 1e-9 / product), rel=1e-9)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10**6), st.lists(st.integers(1, 3), min_size=1, max_size=4), st.floats(-30, 30))
def test_sums_of_parts_are_the_sums_of_the_whole(seed: int, sizes: list[int], exponent: float) -> None:
    """However the pairs are split, and with parts of very different magnitude."""
    winner, loser = residuals(seed, batch=sum(sizes))
    factors = torch.logspace(0, exponent, sum(sizes)).reshape(-1, 1, 1, 1)
    winner, loser = winner * factors, loser * factors
    whole = residual_sums(winner, loser).total()
    parts = [residual_sums(*part).total() for part in zip(winner.split(sizes), loser.split(sizes), strict=True)]
    joined = parts[0]
    for part in parts[1:]:
        joined = joined + part
    torch.testing.assert_close(scale_of_sums(joined, mu=0.3), scale_of_sums(whole, mu=0.3), rtol=1e-6, atol=1e-9)
    assert joined.values == whole.values == 12 * sum(sizes)
