"""Variants of a job: listed in its rule, or one that a wildcard stands for."""

from __future__ import annotations

from types import SimpleNamespace

from pipeline.wildcards import named, title


def test_a_wildcard_names_the_one_variant_and_a_list_names_itself() -> None:
    wildcards = SimpleNamespace(variant="dmpo+sdpo")
    assert named(("{variant}",), wildcards) == ["dmpo+sdpo"]
    assert named(("sft", "dmpo"), SimpleNamespace()) == ["sft", "dmpo"]
    assert title(("{variant}",)) == "{wildcards.variant}"
    assert title(("sft", "dmpo")) == "sft, dmpo"
