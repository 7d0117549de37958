"""The published prompt sets in a config."""

from __future__ import annotations

from typing import Any

import pytest

from artifacts.block import checked
from evals.tables.comparison import CompareSpec, Comparison
from pipeline.config import ConfigError, validate
from pipeline.jobs import Plan


def test_published_sets_are_sources(config: dict[str, Any]) -> None:
    config["prompt_sets"] = {
        "pap50": {"source": "papv2", "limit": 50},
        "styles": {"source": "hpdv2", "options": {"per_category": 10, "offline": True}},
        "parti": {"source": "partiprompts", "options": {"breakdown": "challenge"}},
        "draw": {"source": "drawbench", "options": {"path": "sheet.csv", "sha256": "0" * 64}},
    }
    plan = Plan(validate(config, check_files=False))
    spec = plan.prompts_spec("pap50")
    assert {name: spec[name] for name in ("prompt_set", "source", "limit", "options")} == {
        "prompt_set": "pap50",
        "source": "papv2",
        "limit": 50,
        "options": {},
    }


def test_unknown_options_are_found(config: dict[str, Any]) -> None:
    config["prompt_sets"] = {"pap": {"source": "papv2", "options": {"per_category": 10}}}
    with pytest.raises(ConfigError) as caught:
        validate(config, check_files=False)
    assert caught.value.lines == (
        "prompt_sets.pap.options.per_category: unknown key: expected one of path, sha256, cache, offline",
    )


GUIDED = {
    "seen-g1": {"shows": "seen", "generation": {"guidance_scale": 1.0}},
    "seen-g2": {"shows": "seen", "generation": {"guidance_scale": 2.0, "steps": 5}},
}


def test_sets_that_show_anothers_prompts_under_other_settings(config: dict[str, Any]) -> None:
    config["prompt_sets"] |= GUIDED
    config["execution"]["prompt_sets_per_job"] = 4
    plan = Plan(validate(config, check_files=False))
    first, second = (plan.prompts_spec(name) for name in ("seen", "seen-g1"))
    # The same prompts with the same identifiers, from which the start noise derives, in a file of their own.
    assert {key for key in first if first[key] != second[key]} == {"out"}
    spec = plan.generate_spec(["miniature/base"], ["seen", "seen-g1", "seen-g2"])
    assert set(spec["apart"]) == {"seen-g1", "seen-g2"}
    usual = spec["generation"]
    changed = {n: {k: v for k, v in own.items() if v != usual[k]} for n, own in spec["apart"].items()}
    assert changed == {"seen-g1": {"guidance_scale": 1.0}, "seen-g2": {"guidance_scale": 2.0, "steps": 5}}
    comparison = checked(CompareSpec, plan.compare_spec(), "evals compare").comparison
    assert comparison.pooled == ("seen", "own")
    assert Comparison.to_spec(comparison)["apart"]["seen-g1"]["shows"] == "seen"
    assert any(file.endswith("figures/guidance.png") for file in plan.report_files())
    # A curve is of the sets that one scorer rates, all of them.
    config["prompt_sets"]["seen-g3"] = {"shows": "seen", "generation": {"guidance_scale": 3.0}}
    config["scorers"]["oracle"]["prompt_sets"] = ["seen", "own", "seen-g1", "seen-g2"]
    config["scorers"]["pickscore"]["prompt_sets"] = ["seen", "own", "seen-g3"]
    assert not any("guidance" in file for file in Plan(validate(config, check_files=False)).report_files())
    for name in ("oracle", "pickscore"):
        del config["scorers"][name]["prompt_sets"]
    del config["prompt_sets"]["seen-g3"]
    # Another number of steps is another factor.
    del config["prompt_sets"]["seen-g1"]
    assert not any("guidance" in file for file in Plan(validate(config, check_files=False)).report_files())


def test_images_a_prompt_reach_those_who_draw_score_and_compare(config: dict[str, Any]) -> None:
    config["execution"]["prompt_sets_per_job"] = 4
    plain = Plan(validate(config, check_files=False))
    config["prompt_sets"]["own"]["images_per_prompt"] = 4
    config["prompt_sets"]["own-g1"] = {"shows": "own", "generation": {"guidance_scale": 1.0}}
    plan = Plan(validate(config, check_files=False))
    models = ["miniature/base"]
    # What a set shows has as many images: it differs by its settings alone.
    counts = {"images_per_prompt": {"own": 4, "own-g1": 4}}
    sets = ["seen", "own", "own-g1"]
    drawn, rated = plan.generate_spec(models, sets), plan.score_spec(models, sets, ["oracle"])
    assert counts.items() <= drawn.items() and counts.items() <= rated.items()
    assert counts.items() <= plan.collect_spec(models, sets).items()
    assert checked(CompareSpec, plan.compare_spec(), "evals compare").comparison.images_of("own-g1") == 4
    # Prompts are the same, and jobs of other sets have no such key.
    assert plan.prompts_spec("own") == plain.prompts_spec("own")
    assert plan.generate_spec(models, ["seen"]) == plain.generate_spec(models, ["seen"])
    assert "images_per_prompt" not in plain.compare_spec()


@pytest.mark.parametrize(
    ("sets", "line"),
    [
        ({"a": {"limit": 3}}, "prompt_sets.a.source: missing: expected a prompt source, or `shows`"),
        (
            {"a": {"shows": "sen", "generation": {"steps": 3}}},
            "prompt_sets.a.shows = \"sen\": unknown prompt set with a source: expected seen; did you mean 'seen'?",
        ),
        (
            {"a": {"shows": "seen", "limit": 2, "generation": {"steps": 3}}},
            "prompt_sets.a.limit: is that of 'seen', which this set shows; leave it out",
        ),
        (
            {"a": {"shows": "seen", "images_per_prompt": 4, "generation": {"steps": 3}}},
            "prompt_sets.a.images_per_prompt: is that of 'seen', which this set shows; leave it out",
        ),
        (
            {"a": {"source": "miniature_seen", "images_per_prompt": 0}},
            "prompt_sets.a.images_per_prompt = 0: expected a number of at least 1",
        ),
        (
            {"a": {"shows": "seen"}},
            "prompt_sets.a.generation: missing: expected what is drawn otherwise than there",
        ),
        (
            {"a": {"shows": "seen", "generation": {"guidance_scale": -1.0}}},
            "prompt_sets.a.generation.guidance_scale = -1.0: expected a number of at least 0.0",
        ),
        (
            {"a": {"shows": "seen", "generation": {"dtype": "float16"}}},
            "prompt_sets.a.generation.dtype: unknown key: expected one of guidance_scale, steps, scheduler, seed",
        ),
        (
            {"seen": {"source": "miniature_seen", "generation": {"steps": 3}}},
            "prompt_sets: expected one at least without a `generation` of its own",
        ),
    ],
)
def test_what_a_set_cannot_be(config: dict[str, Any], sets: dict[str, Any], line: str) -> None:
    config["prompt_sets"] = {"seen": {"source": "miniature_seen", "limit": 4}, **sets}
    with pytest.raises(ConfigError) as caught:
        validate(config, check_files=False)
    assert caught.value.lines == (line,)
