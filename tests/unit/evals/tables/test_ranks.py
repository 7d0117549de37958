from __future__ import annotations

import numpy as np
import pytest
import scipy.stats

from evals.tables.comparison import ComparedModel, Comparison, Statistics
from evals.tables.intervals import Floats, Prompts
from evals.tables.matrices import ScoreMatrices
from evals.tables.ranks import rank_rows, rivals
from evals.tables.rows import RankRow


def table(
    values: dict[str, Floats], *, lower: bool = False, seeds: dict[str, list[int]] | None = None
) -> list[RankRow]:
    """Ranks of variants with such scores ``(seeds, prompts)``; one row is a model that was not trained here."""
    models = {
        variant: tuple(
            ComparedModel(name=f"b/{variant}/{seed}", base="b", variant=variant, seed=seed)
            for seed in ((seeds or {}).get(variant) or ([None] if len(rows) == 1 else range(len(rows))))
        )
        for variant, rows in values.items()
    }
    prompts = next(iter(values.values())).shape[1]
    comparison = Comparison(
        "toy",
        root=None,  # type: ignore[arg-type]
        models=tuple(model for listed in models.values() for model in listed),
        prompt_sets=("seen",),
        scorers={"oracle": "exact"},
        statistics=Statistics(),
        lower_is_better=frozenset({"oracle"} if lower else ()),
    )
    matrices = ScoreMatrices(
        models, {("seen",): Prompts.separate(prompts)}, {(v, "seen", "oracle"): rows for v, rows in values.items()}, {}
    )
    return [row for row in rank_rows(comparison, matrices) if row.prompt_set == "seen"]


def spread(mean: float, shift: float = 0.0) -> Floats:
    """Two seeds that agree, ten prompts; the paired difference of two of these varies by their shifts alone."""
    prompts = np.arange(10.0)
    return np.stack([mean + prompts + shift * np.where(prompts % 2, 1, -1)] * 2)


def test_ranks_and_ties_by_hand() -> None:
    rows = {row.variant: row for row in table({"a": spread(0.0, 0.01), "b": spread(1.0), "c": spread(0.99, 0.5)})}
    assert {name: (row.rank, row.rank_low, row.rank_high, row.of) for name, row in rows.items()} == {
        "b": (1, 1, 2, 3),
        "c": (2, 1, 2, 3),
        "a": (3, 3, 3, 3),
    }
    assert {name: row.tied for name, row in rows.items()} == {"a": False, "b": True, "c": True}
    c = rows["c"]
    assert (c.best, c.n_seeds, c.minus_best) == ("b", 2, pytest.approx(-0.01))
    # Prompts of two equal seeds: a plain t interval.
    values = (spread(0.99, 0.5) - spread(1.0))[0]
    expected = scipy.stats.t.interval(0.95, 9, values.mean(), scipy.stats.sem(values))
    assert (c.ci_low, c.ci_high) == pytest.approx(expected)
    assert (rows["b"].minus_best, rows["b"].ci_low) == (None, None)


def test_low_scores_may_be_good_and_equal_means_share_a_rank() -> None:
    rows = {row.variant: row for row in table({"a": spread(0), "b": spread(0), "c": spread(5, 0.1)}, lower=True)}
    assert [rows[name].rank for name in "abc"] == [1, 1, 3]
    assert [(rows[name].rank_low, rows[name].rank_high) for name in "abc"] == [(1, 2), (1, 2), (3, 3)]
    assert (rows["c"].minus_best, rows["c"].tied) == (pytest.approx(5.0), False)


def test_variants_without_a_common_seed_decide_nothing_about_each_other() -> None:
    values = {"base": spread(0)[:1], "a": spread(1, 0.1), "b": spread(9, 0.1)}
    rows = {row.variant: row for row in table(values, seeds={"a": [0, 1], "b": [2, 3]})}
    assert {name: (row.rank_low, row.rank_high) for name, row in rows.items()} == {
        "base": (3, 3),
        "a": (1, 2),
        "b": (1, 2),
    }
    assert (rows["a"].minus_best, rows["a"].tied, rows["a"].n_seeds) == (None, True, 0)


@pytest.mark.parametrize(("seeds", "seed_sd"), [(2, 0.3), (5, 0.1)])
def test_rank_intervals_hold_all_true_ranks_as_often_as_they_say(seeds: int, seed_sd: float) -> None:
    """Five variants, two of them equal; a rank's interval is to hold each rank that the truth allows."""
    truth = np.array([0.0, 0.0, 0.2, 0.5, 1.0])
    generator = np.random.default_rng(3)
    held = []
    for _ in range(400):
        scores = {
            str(i): mean
            + generator.normal(0, seed_sd, (seeds, 1))
            + generator.normal(0, 0.3, (1, 60))
            + generator.normal(0, 0.3, (seeds, 60))
            for i, mean in enumerate(truth)
        }
        for row in table(scores):
            own = truth[int(row.variant)]
            best, worst = 1 + int((truth > own).sum()), int((truth >= own).sum())
            held.append(row.rank_low <= best and worst <= row.rank_high)
    assert np.mean(held) >= 0.95


def test_every_two_variants_are_compared_as_a_pair_is() -> None:
    generator = np.random.default_rng(0)
    values = {"a": generator.normal(size=(3, 20)), "b": generator.normal(size=(3, 20))}
    models = {v: tuple(ComparedModel(name=v, base="b", variant=v, seed=s) for s in range(3)) for v in values}
    units = {("seen",): Prompts.separate(20)}
    matrices = ScoreMatrices(models, units, {(v, "seen", "x"): rows for v, rows in values.items()}, {})
    found = rivals(matrices, ["a", "b"], ("seen",), "x", 0.95)
    assert found.mean[0, 1] == -found.mean[1, 0] == pytest.approx((values["a"] - values["b"]).mean())
    # Of two, one interval is all there is.
    assert found.half[0, 1] == found.joint[0, 1]
