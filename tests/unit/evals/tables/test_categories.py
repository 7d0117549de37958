from __future__ import annotations

import numpy as np
import pytest
import scipy.stats

from evals.tables.categories import category_rows, to_markdown
from evals.tables.comparison import ComparedModel, Comparison, Statistics
from evals.tables.intervals import Floats, Prompts
from evals.tables.matrices import ScoreMatrices

CATEGORIES = ["people", "", "food", "people", "food", "food"]


def compared(difference: Floats, categories: list[str], **changes: object) -> tuple[Comparison, ScoreMatrices]:
    """A variant of two seeds against its base, which scores 1 everywhere."""
    base = ComparedModel(name="m/base", base="m", variant="base")
    trained = tuple(ComparedModel(name=f"m/dpo/seed{s}", base="m", variant="dpo", seed=s) for s in (0, 1))
    comparison = Comparison(
        "toy",
        root=None,  # type: ignore[arg-type]
        models=(base, *trained),
        prompt_sets=("parti",),
        scorers={"oracle": "exact"},
        statistics=Statistics(),
        **changes,  # type: ignore[arg-type]
    )
    values = {("base", "parti", "oracle"): np.ones((1, 6)), ("dpo", "parti", "oracle"): 1.0 + difference}
    units = {("parti",): Prompts.separate(6)}
    models = {"base": (base,), "dpo": trained}
    return comparison, ScoreMatrices(models, units, values, {}, {"parti": categories})


DIFFERENCE = np.array([[1.0, 99.0, 0.0, 3.0, 0.5, 1.0]] * 2)


def test_categories_by_hand() -> None:
    people, food = category_rows(*compared(DIFFERENCE, CATEGORIES))
    assert (people.category, people.n_prompts, people.n_seeds) == ("people", 2, 2)
    assert (people.mean_a, people.mean_b, people.mean_difference) == (3.0, 1.0, 2.0)
    assert (food.category, food.n_prompts, food.mean_difference) == ("food", 3, 0.5)
    # Two seeds that agree leave the prompts' part alone.
    expected = scipy.stats.t.interval(0.95, 2, 0.5, scipy.stats.sem([0.0, 0.5, 1.0]))
    assert (food.ci_low, food.ci_high) == pytest.approx(expected)
    p_values = [people.p_value, food.p_value]
    assert [people.p_fdr, food.p_fdr] == pytest.approx(scipy.stats.false_discovery_control(p_values))


def test_scorers_that_describe_are_not_tested_by_category() -> None:
    rows = category_rows(*compared(DIFFERENCE, CATEGORIES, no_judges=frozenset({"oracle"})))
    assert [row.p_fdr for row in rows] == [None, None]


@pytest.mark.parametrize("categories", [[""] * 6, ["people"] * 6])
def test_a_set_of_one_category_has_no_rows(categories: list[str]) -> None:
    assert category_rows(*compared(DIFFERENCE, categories)) == []
    assert "No prompt set has two categories." in to_markdown([], 0.95)


def test_a_category_of_one_prompt_has_no_interval() -> None:
    rows = category_rows(*compared(DIFFERENCE, ["one", *["other"] * 5]))
    assert (rows[0].mean_difference, rows[0].ci_low, rows[0].p_value) == (1.0, -np.inf, 1.0)
    assert "+1 ± –" in to_markdown(rows, 0.95)


def test_the_page_has_categories_as_columns_and_marks_what_stays_after_adjustment() -> None:
    text = to_markdown(category_rows(*compared(DIFFERENCE + 50, CATEGORIES)), 0.95)
    header, _, row = (line for line in text.splitlines() if line.startswith("|"))
    assert "people (2)" in header and "food (3)" in header
    assert row.startswith("| dpo − base ") and row.count("†") == 2
    # Six degrees of freedom less than would be needed.
    assert "†" not in to_markdown(category_rows(*compared(DIFFERENCE, CATEGORIES)), 0.95).split("\n- ")[0]
