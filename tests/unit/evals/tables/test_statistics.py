from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evals.tables.intervals import Prompts
from evals.tables.statistics import (
    holm,
    preferences,
    prompt_signs,
    sign_test,
    t_interval,
    win_rate,
)


@pytest.mark.parametrize(
    ("wins", "losses", "expected"),
    [
        (0, 0, 1.0),
        (1, 0, 1.0),  # 2 * 1/2
        (5, 0, 2 / 32),
        (0, 6, 2 / 64),
        (8, 2, 2 * (1 + 10 + 45) / 1024),
        (3, 3, 1.0),  # the two tails overlap: without the bound it would be 2 * 42/64
    ],
)
def test_sign_test_by_hand(wins: int, losses: int, expected: float) -> None:
    assert sign_test(wins, losses) == pytest.approx(expected, rel=1e-12)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 300), st.integers(0, 300))
def test_sign_test_counts_every_split_as_uneven(wins: int, losses: int) -> None:
    trials = wins + losses
    uneven = sum(math.comb(trials, k) for k in range(trials + 1) if abs(2 * k - trials) >= abs(wins - losses))
    assert sign_test(wins, losses) == pytest.approx(uneven / 2**trials, rel=1e-9)
    assert sign_test(wins, losses) == pytest.approx(sign_test(losses, wins), rel=1e-9)


def test_sign_test_of_thousands_of_prompts_neither_overflows_nor_loses_digits() -> None:
    uneven = sum(math.comb(3600, k) for k in range(1701)) * 2
    assert sign_test(1900, 1700) == pytest.approx(uneven / 2**3600, rel=1e-9)
    assert sign_test(3600, 0) == 0.0  # below the smallest double


def test_holm_by_hand() -> None:
    # Sorted: 0.01 * 4, 0.02 * 3, 0.03 * 2, 0.04 * 1, then made monotone: 0.04, 0.06, 0.06, 0.06.
    assert holm([0.04, 0.01, 0.03, 0.02]) == pytest.approx([0.06, 0.04, 0.06, 0.06])
    assert holm([0.6, 0.5]) == [1.0, 1.0]
    assert holm([0.03]) == [0.03]
    assert holm([]) == []


@given(st.lists(st.floats(0, 1), min_size=1, max_size=8))
def test_holm_never_lowers_and_is_bounded_by_bonferroni(p_values: list[float]) -> None:
    adjusted = holm(p_values)
    for p_value, q_value in zip(p_values, adjusted, strict=True):
        assert p_value <= q_value <= 1.0
        # Between its own bound and Bonferroni's: the running maximum belongs to a smaller p-value.
        assert q_value <= min(1.0, len(p_values) * p_value) + 1e-15
    order = np.argsort(p_values, kind="stable")
    assert all(np.diff(np.array(adjusted)[order]) >= 0)


def test_ties_count_half() -> None:
    np.testing.assert_array_equal(preferences(np.array([[0.3, 0.0, -2.0]])), [[1.0, 0.5, 0.0]])
    assert win_rate(wins=1, ties=2, losses=1) == 0.5
    assert win_rate(wins=3, ties=1, losses=0) == 0.875
    with pytest.raises(ValueError, match="at least one"):
        win_rate(0, 0, 0)


def test_prompt_signs_take_the_majority_of_seeds_not_the_sum_of_scores() -> None:
    difference = np.array([[9.0, 1.0, 0.0, 1.0], [-1.0, 1.0, 0.0, -1.0], [-1.0, -5.0, 0.0, 0.0]])
    # Prompt 0: one win, two losses, though its mean is positive; 1: two wins; 2 and 3: net ties.
    assert prompt_signs(difference) == (1, 1)
    # Were prompts 0 and 1 of one text, it would win three times of six.
    assert prompt_signs(difference, Prompts(np.array([0, 0, 1, 2]), np.zeros(4, np.int64))) == (0, 0)


def test_t_interval_by_hand() -> None:
    # Mean 2, standard deviation 1, t(0.975; 2) = 4.302653.
    low, high = t_interval([1.0, 2.0, 3.0], 0.95) or (0.0, 0.0)
    assert (low, high) == pytest.approx((2 - 4.302653 / math.sqrt(3), 2 + 4.302653 / math.sqrt(3)), abs=1e-6)
    assert t_interval([1.0], 0.95) is None
