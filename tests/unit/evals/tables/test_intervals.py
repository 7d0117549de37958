from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
import pytest
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st

from evals.tables.intervals import Floats, Prompts, estimate, log_odds, rate

TRIALS, PROMPTS, LEVEL, REQUIRED = 2500, 80, 0.95, 0.93
"""The Monte-Carlo error of a coverage near 0.95 is 0.0044 at 2500 trials, so 0.93 is more than four away."""

SIZES = np.random.default_rng(11).geometric(0.25, 25)
TEXTS = {"alike": np.repeat(np.arange(len(SIZES)), SIZES), "different": np.arange(PROMPTS)}


def trials(seeds: int, ratio: float, rest: float, texts: np.ndarray) -> Iterator[Floats]:
    """Random effects of seed and text and a rest, in chunks ``(trials, seeds, prompts)``, of expectation zero.

    ``ratio`` is the standard error that seeds give the mean over that which texts give it; ``rest`` the standard
    deviation of what neither explains over that of texts.
    """
    generator = np.random.default_rng([seeds, round(10 * ratio), round(10 * rest), len(texts)])
    share = np.bincount(texts) / len(texts)
    spread = ratio * math.sqrt((share**2).sum() * seeds)
    for _ in range(TRIALS // 500):
        of_text = generator.standard_normal((500, 1, len(share)))[..., texts]
        values = spread * generator.standard_normal((500, seeds, 1)) + of_text
        yield values + rest * generator.standard_normal((500, seeds, len(texts))) if rest else values


def covered(seeds: int, ratio: float, rest: float, alike: str) -> float:
    prompts = Prompts(TEXTS[alike], np.zeros(len(TEXTS[alike]), np.int64))
    found = [estimate(values, prompts) for values in trials(seeds, ratio, rest, prompts.texts)]
    return float(np.mean([np.abs(e.mean) <= e.half_width(LEVEL) for e in found]))


@pytest.mark.parametrize("seeds", [2, 3, 5, 10])
@pytest.mark.parametrize(
    ("rest", "alike"), [(0.0, "different"), (1.0, "different"), (3.0, "different"), (0.5, "alike")]
)
def test_intervals_of_few_seeds_cover(seeds: int, rest: float, alike: str) -> None:
    """Also with a part that neither seed nor prompt explains, and with prompts of equal text in unequal numbers."""
    found = {ratio: covered(seeds, ratio, rest, alike) for ratio in (0.0, 1.0, 3.0, 10.0)}
    assert min(found.values()) >= REQUIRED, found


@pytest.mark.parametrize("seeds", [2, 3, 5, 10])
@pytest.mark.parametrize("offset", [0.0, 0.5])
def test_intervals_of_win_rates_cover(seeds: int, offset: float) -> None:
    found = {}
    for ratio in (0.0, 1.0, 3.0, 10.0):
        spread = ratio * math.sqrt(seeds / PROMPTS)
        # A prompt and a seed win where the sum of normal effects is above zero.
        share = scipy.stats.norm.cdf(offset / math.sqrt(spread**2 + 1 + 0.5**2))
        odds = math.log(share / (1 - share))
        outcomes = ((np.sign(values + offset) + 1) / 2 for values in trials(seeds, ratio, 0.5, TEXTS["different"]))
        estimates = [log_odds(values) for values in outcomes]
        found[ratio] = float(np.mean([np.abs(e.mean - odds) <= e.half_width(LEVEL) for e in estimates]))
    assert min(found.values()) >= REQUIRED, found


def test_one_seed_is_the_student_interval_over_prompts() -> None:
    values = np.random.default_rng(0).normal(1.0, 2.0, (1, 40))
    low, high = estimate(values).interval(0.9)
    expected = scipy.stats.t.interval(0.9, 39, values.mean(), values.std(ddof=1) / math.sqrt(40))
    assert (low, high) == pytest.approx(expected)
    assert estimate(values).p_value(0.5) == pytest.approx(scipy.stats.ttest_1samp(values[0], 0.5).pvalue, rel=1e-6)


def test_equal_prompts_leave_the_student_interval_over_seeds() -> None:
    values = np.repeat([[1.0], [2.0], [4.0]], 50, axis=1)
    assert estimate(values).interval(0.95) == pytest.approx(
        scipy.stats.t.interval(0.95, 2, 7 / 3, np.std([1, 2, 4], ddof=1) / 3**0.5)
    )


def test_parts_by_hand() -> None:
    """Two seeds by three prompts: rows 2 and 4, columns 1, 3, 5, and a rest of ±1 in the first and the last."""
    values = np.array([[-1.0, 2.0, 5.0], [3.0, 4.0, 5.0]])
    found = estimate(values)
    assert found.mean == 3.0
    assert found.seeds == pytest.approx(2.0 / 2)  # variance of 2 and 4, over two
    # Columns' variance 4 over 3 prompts, less the rest's: sum of squares 4, (S - 1)(P - 1) = 2, over 6 values.
    assert found.prompts == pytest.approx(4 / 3 - 4 / 2 / 6)
    assert (found.seeds_df, found.prompts_df) == (1, pytest.approx(2.0))
    half = math.hypot(scipy.stats.t.ppf(0.975, 1) * 1.0, scipy.stats.t.ppf(0.975, 2) * math.sqrt(1.0))
    assert found.half_width(0.95) == pytest.approx(half)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10_000), st.integers(1, 5), st.integers(2, 20), st.floats(-1, 1))
def test_the_p_value_is_where_the_interval_ends(seed: int, seeds: int, prompts: int, null: float) -> None:
    values = np.random.default_rng(seed).normal(size=(seeds, prompts))
    found = estimate(values)
    p_value = float(found.p_value(null))
    ends = found.interval(1 - p_value)
    assert min(abs(end - null) for end in ends) == pytest.approx(0.0, abs=1e-6)
    for confidence in (0.5, 0.9, 0.95, 0.99):
        low, high = found.interval(confidence)
        assert (low <= null <= high) == (p_value >= 1 - confidence)


def test_prompts_of_equal_text_are_one_unit() -> None:
    generator = np.random.default_rng(3)
    values = generator.normal(size=(1, 30)) + 0.1 * generator.normal(size=(3, 30))
    doubled = np.concatenate([values, values], axis=1)
    twice = Prompts(np.tile(np.arange(30), 2), np.zeros(60, np.int64))
    assert estimate(doubled, twice).interval(0.95) == pytest.approx(estimate(values).interval(0.95))
    # Taken for different prompts, the same numbers would claim to be surer.
    assert estimate(doubled).half_width(0.95) < 0.9 * estimate(values).half_width(0.95)


def test_a_text_in_two_sets_is_one_unit_and_sets_are_fixed() -> None:
    generator = np.random.default_rng(4)
    one, other = generator.normal(size=(1, 50)), generator.normal(size=(1, 50)) + 100.0
    sets = np.repeat([0, 1], 50)
    apart = estimate(np.concatenate([one, other], axis=1), Prompts(np.arange(100), sets))
    # Sets 100 apart: their distance is no chance.
    assert apart.prompts == pytest.approx((one.var(ddof=1) + other.var(ddof=1)) / 4 / 50)
    same = estimate(np.concatenate([one, one + 100.0], axis=1), Prompts(np.tile(np.arange(50), 2), sets))
    assert same.prompts == pytest.approx(one.var(ddof=1) / 50)


def test_one_text_says_nothing_of_others() -> None:
    for prompts in (None, Prompts(np.zeros(4, np.int64), np.zeros(4, np.int64))):
        found = estimate(np.ones((3, 1 if prompts is None else 4)), prompts)
        assert found.interval(0.95) == (-math.inf, math.inf)
        assert found.p_value() == 1.0


def test_where_all_prompts_have_one_value_nothing_says_how_others_would_do() -> None:
    """Scores of a few steps are often equal by chance."""
    for value in (0.0, 0.1, 1.0):
        found = estimate(np.full((3, 5), value))
        assert found.interval(0.95) == (-math.inf, math.inf)
        assert (found.p_value(), found.detectable(0.95)) == (1.0, math.inf)
    # Each matrix for itself.
    both = estimate(np.stack([np.full((1, 3), 0.1), np.array([[0.0, 0.1, 0.2]])]))
    assert np.isinf(both.half_width(0.95)).tolist() == [True, False]


def test_differences_of_a_coarse_scorer_are_decided_no_oftener_than_they_should_be() -> None:
    """Judges that give 1 to 5, no true difference, three prompts."""
    generator = np.random.default_rng(5)
    scores = generator.integers(1, 6, (2, 4000, 1, 3)).astype(float)
    found = estimate(scores[0] - scores[1])
    assert (found.p_value() < 0.05).mean() < 0.05


def test_a_set_of_one_prompt_leaves_the_others_their_interval() -> None:
    values = np.random.default_rng(6).normal(size=(3, 100))
    alone = estimate(values)
    with_one = estimate(
        np.concatenate([values, [[0.3], [0.2], [0.4]]], axis=1),
        Prompts(np.arange(101), np.concatenate([np.zeros(100, np.int64), [1]])),
    )
    assert float(with_one.half_width(0.95)) == pytest.approx(float(alone.half_width(0.95)), rel=0.05)
    # Such sets vary together, where there are several.
    three = estimate(np.array([[1.0, 2.0, 4.0]]), Prompts.separate(3).of(np.arange(3)))
    apart = estimate(np.array([[1.0, 2.0, 4.0]]), Prompts(np.arange(3), np.arange(3)))
    assert apart.interval(0.95) == three.interval(0.95)


def test_a_few_unanimous_prompts_are_no_certainty() -> None:
    few, many = rate(np.ones((1, 5))), rate(np.ones((1, 40)))
    assert (few.share, many.share) == (1.0, 1.0)
    low, high = few.interval(0.95)
    assert low < 0.5 and high == 1.0 and few.p_value() > 0.05
    low, high = many.interval(0.95)
    assert 0.8 < low < 1.0 and high == 1.0 and many.p_value() < 0.01


def test_win_rates_stay_between_zero_and_one() -> None:
    outcomes = np.zeros((2, 30))
    outcomes[:, :2] = 1.0
    low, high = rate(outcomes).interval(0.999)
    assert 0.0 < low < 2 / 30 < high < 1.0
    # Nor does the level overflow them.
    low, high = rate(np.array([[1.0, 0.0, 1.0], [0.0, 0.0, 0.0]])).interval(0.9999)
    assert low == 0.0 and high == 1.0


def test_confidence_is_a_share() -> None:
    for confidence in (0.0, 1.0, 95.0):
        with pytest.raises(ValueError, match="strictly between 0 and 1"):
            estimate(np.zeros((1, 3))).half_width(confidence)


def drawn(generator: np.random.Generator, seeds: int, prompts: int, sd: tuple[float, float, float]) -> Floats:
    """Differences without a true one: normal effects of seeds, of prompts and of neither."""
    return (
        generator.normal(0, sd[0], (seeds, 1))
        + generator.normal(0, sd[1], (1, prompts))
        + generator.normal(0, sd[2], (seeds, prompts))
    )


@pytest.mark.parametrize(
    ("seeds", "sd"),
    [(1, (0, 1, 0.5)), (3, (0.05, 1, 0.5)), (5, (0.2, 1, 0.5)), (10, (0.3, 1, 1)), (3, (0.3, 1, 0.5))],
)
def test_a_detectable_difference_is_decided_about_as_often_as_asked(seeds: int, sd: tuple[float, float, float]) -> None:
    """The truth set at the typical detectable difference; its square is what is unbiased about a width."""
    generator = np.random.default_rng(seeds)
    estimates = [estimate(drawn(generator, seeds, 200, sd)) for _ in range(1500)]
    truth = np.sqrt(np.mean([float(found.detectable(0.95)) ** 2 for found in estimates]))
    decided = np.mean([abs(float(found.mean) + truth) > float(found.half_width(0.95)) for found in estimates])
    assert 0.72 < decided < 0.9


def test_a_detectable_difference_of_prompts_alone_is_the_textbook_s() -> None:
    values = np.random.default_rng(1).normal(size=(1, 25))
    t = scipy.stats.t(24)
    expected = (t.ppf(0.975) + t.ppf(0.8)) * scipy.stats.sem(values[0])
    assert float(estimate(values).detectable(0.95)) == pytest.approx(expected)
    assert float(estimate(values).detectable(0.95, power=0.5)) == pytest.approx(
        t.ppf(0.975) * scipy.stats.sem(values[0])
    )
