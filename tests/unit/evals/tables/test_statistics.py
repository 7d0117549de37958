from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evals.tables.comparison import Statistics
from evals.tables.intervals import Prompts
from evals.tables.resampling import Resampling
from evals.tables.statistics import (
    holm,
    labelled_rng,
    percentile_interval,
    preferences,
    prompt_signs,
    resample_counts,
    resampled_means,
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


def test_resample_counts_draw_as_many_items_as_there_are() -> None:
    counts = resample_counts(5, 4000, np.random.default_rng(0))
    assert counts.shape == (4000, 5)
    assert (counts.sum(axis=1) == 5).all()
    # Each count is binomial(5, 1/5): mean 1, variance 0.8.
    np.testing.assert_allclose(counts.mean(axis=0), 1.0, atol=0.05)
    np.testing.assert_allclose(counts.var(axis=0), 0.8, atol=0.07)
    with pytest.raises(ValueError, match="at least one item"):
        resample_counts(0, 10, np.random.default_rng(0))


def test_resampled_means_equal_the_definition() -> None:
    values = np.array([[1.0, 2.0, 4.0], [10.0, 20.0, 60.0]])
    prompt_counts = np.array([[1, 1, 1], [0, 0, 3], [2, 1, 0]], dtype=np.uint16)
    means = resampled_means(values, prompt_counts)
    np.testing.assert_allclose(means, [[7 / 3, 4.0, 4 / 3], [30.0, 60.0, 40 / 3]])


def test_resampled_means_do_not_depend_on_the_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(1)
    values, counts = rng.normal(size=(3, 50)), resample_counts(50, 101, rng)
    whole = resampled_means(values, counts)
    monkeypatch.setattr("evals.tables.statistics._CHUNK_ELEMENTS", 7 * 50)
    np.testing.assert_allclose(resampled_means(values, counts), whole, rtol=1e-13)


def one_model(values: np.ndarray, prompts: Prompts, confidence: float) -> tuple[float, float]:
    resampling = Resampling(Statistics(confidence=confidence, resamples=20000, seed=7), {"seen": prompts})
    ((low, high),) = resampling.intervals(values[None], "seen")
    return low, high


def test_the_interval_of_one_model_resamples_prompts() -> None:
    values = np.random.default_rng(6).exponential(size=400)
    low, high = one_model(values, Prompts.separate(400), 0.9)
    assert (high - low) / 2 == pytest.approx(1.645 * values.std() / 20.0, rel=0.04)
    # Prompts of equal text are drawn together: half as many units, and the same spread of each.
    low, high = one_model(np.repeat(values, 2), Prompts(np.repeat(np.arange(400), 2), np.zeros(800, np.int64)), 0.9)
    assert (high - low) / 2 == pytest.approx(1.645 * values.std() / 20.0, rel=0.04)
    assert one_model(values[:3], Prompts(np.zeros(3, np.int64), np.zeros(3, np.int64)), 0.9) == (-math.inf, math.inf)


def test_percentile_interval() -> None:
    low, high = percentile_interval(np.arange(101.0), 0.9)
    assert (low, high) == pytest.approx((5.0, 95.0))
    for confidence in (0.0, 1.0, 95.0):
        with pytest.raises(ValueError, match="strictly between 0 and 1"):
            percentile_interval(np.arange(3.0), confidence)


def test_labelled_rng_depends_on_seed_and_labels_alone() -> None:
    first = labelled_rng(0, "prompts", "seen").integers(1 << 60)
    assert labelled_rng(0, "prompts", "seen").integers(1 << 60) == first
    others = [labelled_rng(1, "prompts", "seen"), labelled_rng(0, "prompts", "unseen"), labelled_rng(0, "promptsseen")]
    assert first not in [other.integers(1 << 60) for other in others]


def test_t_interval_by_hand() -> None:
    # Mean 2, standard deviation 1, t(0.975; 2) = 4.302653.
    low, high = t_interval([1.0, 2.0, 3.0], 0.95) or (0.0, 0.0)
    assert (low, high) == pytest.approx((2 - 4.302653 / math.sqrt(3), 2 + 4.302653 / math.sqrt(3)), abs=1e-6)
    assert t_interval([1.0], 0.95) is None
