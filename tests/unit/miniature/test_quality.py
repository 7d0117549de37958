from __future__ import annotations

import pytest

from miniature.quality import shortfalls, wilson


def test_wilson_interval_by_hand() -> None:
    # Newcombe 1998, table I: 81 of 263 and 15 of 148, rounded to four decimals.
    assert wilson(81, 263) == pytest.approx((0.2553, 0.3662), abs=5e-5)
    assert wilson(15, 148) == pytest.approx((0.0624, 0.1605), abs=5e-5)
    assert wilson(0, 20) == pytest.approx((0, 0.1611), abs=5e-5)
    assert wilson(20, 20)[1] == pytest.approx(1)


def test_shortfalls_name_what_is_missing_and_how_much() -> None:
    good = {"background": 0.99, "colour": 0.9, "size": 0.95, "shape": 0.8}
    base = {"one_object": good, "two_objects": {"relation": 0.5}}
    scorers = {"scorers": {name: {"agreement": 0.75} for name in ("pickscore", "hpsv2", "imagereward")}}
    assert shortfalls(base, scorers) == []
    base = {"one_object": {**good, "shape": 0.799}, "two_objects": {"relation": 0.3}}
    scorers["scorers"]["hpsv2"] = {"agreement": 0.7}
    lines = shortfalls(base, scorers)
    assert len(lines) == 3
    assert "shape is right on 0.799" in lines[0]
    assert "relation is right on 0.300" in lines[1]
    assert lines[2].startswith("hpsv2: agrees with the oracle on 0.700")
