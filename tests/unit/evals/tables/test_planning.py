from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import scipy.stats

from artifacts.errors import InputError
from evals import cli
from evals.tables.comparison import Comparison
from evals.tables.intervals import Floats, Prompts, estimate
from evals.tables.planning import Components, components, to_text


def drawn(generator: np.random.Generator, seeds: int, prompts: int, sd: tuple[float, float, float]) -> Floats:
    return (
        generator.normal(0, sd[0], (seeds, 1))
        + generator.normal(0, sd[1], (1, prompts))
        + generator.normal(0, sd[2], (seeds, prompts))
    )


def test_components_by_hand() -> None:
    """Rows 0 and 4, columns -1, 0 and 1, and no rest."""
    found = components(np.array([[-1.0, 0.0, 1.0], [3.0, 4.0, 5.0]]), Prompts.separate(3))
    assert found == Components(mean=2.0, seeds=8.0, prompts=1.0, rest=0.0, n_seeds=2, n_prompts=3)
    # The variance of the mean is that of the interval.
    interval = estimate(np.array([[-1.0, 0.0, 1.0], [3.0, 4.0, 5.0]]))
    assert (float(interval.seeds), float(interval.prompts)) == (8.0 / 2, pytest.approx(1.0 / 3))


def test_components_are_those_that_made_the_table() -> None:
    generator = np.random.default_rng(0)
    found = [components(drawn(generator, 4, 60, (0.5, 1.0, 2.0)), Prompts.separate(60)) for _ in range(800)]
    assert np.mean([one.rest for one in found]) == pytest.approx(4.0, rel=0.02)
    assert np.mean([one.prompts for one in found]) == pytest.approx(1.0, rel=0.05)
    assert np.mean([one.seeds for one in found]) == pytest.approx(0.25, rel=0.1)


def test_equal_texts_are_one_prompt_and_sets_are_fixed() -> None:
    prompts = Prompts(np.array([0, 0, 1, 2, 3]), np.array([0, 0, 0, 1, 1]))
    # Of the first set 1 and 3, of the second 11 and 13: the ten between sets is no variance of prompts.
    found = components(np.array([[0.0, 2.0, 3.0, 11.0, 13.0]]), prompts)
    assert (found.n_prompts, found.prompts, found.n_seeds) == (4, 2.0, 1)
    with pytest.raises(InputError, match="two different prompts"):
        components(np.array([[1.0, 2.0]]), Prompts(np.array([0, 1]), np.array([0, 1])))


def test_a_pilot_whose_differences_are_all_equal_plans_nothing() -> None:
    with pytest.raises(InputError, match=r"all 20 differences of the pilot are 0\.1, which says nothing"):
        components(np.full((2, 10), 0.1), Prompts.separate(10))


@pytest.mark.parametrize(
    ("seeds", "prompts", "sd"), [(3, 400, (0.05, 1, 1)), (5, 200, (0.2, 1, 1)), (8, 1000, (0.1, 1, 2))]
)
def test_what_is_planned_is_found_about_as_often_as_asked(
    seeds: int, prompts: int, sd: tuple[float, float, float]
) -> None:
    plan = Components(0.0, *(value**2 for value in sd), n_seeds=3, n_prompts=100)
    truth = plan.detectable(seeds, prompts, 0.95, 0.8)
    generator = np.random.default_rng(prompts)
    found = [estimate(truth + drawn(generator, seeds, prompts, sd)).interval(0.95)[0] > 0 for _ in range(600)]
    assert 0.73 < np.mean(found) < 0.88


def test_the_fewest_prompts_are_enough_and_one_less_is_not() -> None:
    plan = Components(0.0, 0.0, 1.0, 0.5, n_seeds=3, n_prompts=100)
    needed = plan.prompts_needed(0.1, 5, 0.95, 0.8)
    assert needed is not None
    assert plan.detectable(5, needed, 0.95, 0.8) <= 0.1 < plan.detectable(5, needed - 1, 0.95, 0.8)
    # Where seeds alone are too uncertain no number of prompts helps.
    of_seeds = Components(0.0, 0.04, 1.0, 0.0, n_seeds=3, n_prompts=100)
    t = scipy.stats.t(2)
    floor = (t.ppf(0.975) + t.ppf(0.8)) * 0.2 / 3**0.5
    assert of_seeds.prompts_needed(0.99 * floor, 3, 0.95, 0.8) is None
    assert of_seeds.prompts_needed(1.01 * floor, 3, 0.95, 0.8) is not None


def test_one_model_a_side_is_planned_by_prompts_alone() -> None:
    values = np.random.default_rng(2).normal(size=(1, 50))
    found = components(values, Prompts.separate(50))
    assert found.detectable(1, 50, 0.95, 0.8) == pytest.approx(float(estimate(values).detectable(0.95)))
    assert "Nothing was trained" in to_text(found, difference=0.1, confidence=0.95, power=0.8)


def test_command(tiny_benchmark: Comparison, capsys: pytest.CaptureFixture[str]) -> None:
    root = Path(tiny_benchmark.root)
    asked = ["plan", "--from", str(root), "--variant", "dmpo+sdpo", "--against", "dmpo", "--scorer", "oracle"]
    assert cli.main([*asked, "--difference", "0.05"]) == 0
    printed = capsys.readouterr().out
    assert printed.startswith("Pilot: 2 seeds, ")
    header = next(line for line in printed.splitlines() if "prompts for 0.05" in line)
    assert "100 prompts" in header and "5000 prompts" in header
    assert "may be 0.45 to 32 times the pilot's (95% interval)" in printed
    for wrong, message in (
        (["--scorer", "orcle"], "--scorer orcle: expected one of pickscore, oracle; did you mean 'oracle'?"),
        (["--power", "1"], "--power 1.0: expected a share from 0.5 to below 1"),
        (["--power", "0.2"], "--power 0.2: expected a share from 0.5 to below 1"),
        (["--confidence", "0.05"], "--confidence 0.05: expected a share from 0.5 to below 1"),
        (["--difference", "-1"], "--difference -1.0: expected a number above 0"),
        (["--against", "dmpo+sdpo"], "--against dmpo+sdpo: expected another variant"),
    ):
        assert cli.main([*asked, *wrong]) == 2
        assert message in capsys.readouterr().err
