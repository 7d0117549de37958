from __future__ import annotations

import numpy as np
import pytest

from worlds.miniature.quality import agreement, shortfalls


def test_pairs_of_a_prompt_are_not_independent() -> None:
    # Six pairs a prompt that all agree or all disagree are worth one: a share of 0.75 of 400 prompts has a standard
    # error of sqrt(0.75 * 0.25 / 400) = 0.0217, where 2400 independent pairs would have 0.0088.
    groups = np.repeat(np.arange(400) + 7, 6)
    found = agreement(np.repeat(np.arange(400) % 4 != 0, 6), groups)
    assert (found["agreement"], found["pairs"], found["prompts"]) == (0.75, 2400, 400)
    assert found["ci_high"] - found["ci_low"] == pytest.approx(2 * 1.96 * 0.0217, rel=0.1)
    # One pair a prompt is the plain bootstrap.
    single = agreement(np.arange(2400) % 4 != 0, np.arange(2400))
    assert single["ci_high"] - single["ci_low"] == pytest.approx(2 * 1.96 * 0.0088, rel=0.1)


def test_shortfalls_name_what_is_missing_and_how_much() -> None:
    good = {"background": 0.99, "colour": 0.9, "size": 0.95, "shape": 0.8}
    base = {"one_object": good, "two_objects": {"relation": 0.5}}
    scorers = {"scorers": {name: {"agreement": 0.75} for name in ("pickscore", "hpsv2", "imagereward")}}
    assert shortfalls({"base": base}, scorers) == []
    base = {"one_object": {**good, "shape": 0.799}, "two_objects": {"relation": 0.3}}
    scorers["scorers"]["hpsv2"] = {"agreement": 0.7}
    lines = shortfalls({"flow": base}, scorers)
    assert len(lines) == 3
    assert lines[0].startswith("flow: ")
    assert "shape is right on 0.799" in lines[0]
    assert "relation is right on 0.300" in lines[1]
    assert lines[2].startswith("hpsv2: agrees with the oracle on 0.700")
