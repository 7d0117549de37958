"""Objectives and settings of training that do not fit one another, or the base, are found before the first job."""

from __future__ import annotations

from typing import Any

import pytest

from pipeline.config import ConfigError, validate

Config = dict[str, Any]


def lines(config: Config, family: str, first: dict[str, Any], **training: Any) -> list[str]:
    """Errors of a benchmark of one variant."""
    config["base"]["family"] = family
    config["generation"] = {"scheduler": "euler" if family == "sd3" else "ddim"}
    config["training"] |= training
    config["variants"] = [{"name": "first", "pairs": "renders", **first}]
    # What else the config says of variants is not looked at here.
    for key in ("audit", "comparisons"):
        config.pop(key, None)
    try:
        validate(config, check_files=False)
    except ConfigError as error:
        return list(error.lines)
    return []


def test_a_schedule_that_is_none_of_a_flow_does_not_shift(config: Config) -> None:
    own = {"objective": "sft", "training": {"timesteps": {"shift": 3.0}}}
    for family in ("sd15", "sdxl", "miniature"):
        assert lines(config, family, own) == [
            "variants[0].training.timesteps.shift = 3.0 (variant 'first'): expected it left out: only a flow's "
            f"schedule shifts, and base family '{family}' is none"
        ]
    assert lines(config, "sd3", own) == []


def test_a_pair_of_a_base_that_is_no_flow_has_no_time(config: Config) -> None:
    own = {"objective": "thermo_dpo", "parameters": {"beta": 1.0}}
    assert lines(config, "sd15", own) == [
        "variants[0].objective = \"thermo_dpo\" (variant 'first'): it asks for the time of a pair, which base "
        "family 'sd15' does not have; expected another, or a base of rectified flow"
    ]
    for family in ("sd3", "toy_surface"):
        assert lines(config, family, own) == []


@pytest.mark.parametrize("where", ["defaults", "variant"])
def test_adapters_have_no_reference_that_follows(config: Config, where: str) -> None:
    """Their reference is the base, which no decay moves."""
    lora = {"lora": {"rank": 4}}
    own = {"objective": "linear_dpo", "parameters": {"beta": 100.0}, "training": lora if where == "variant" else {}}
    shared = lora if where == "defaults" else {}
    (line,) = lines(config, "sd15", own, **shared)
    assert line.startswith("variants[0].training.lora = ")
    assert line.endswith(
        "(variant 'first'): the reference of objective 'linear_dpo' follows the policy, which needs its own "
        "copy; expected null, or parameters.reference_decay: 1.0"
    )
    assert lines(config, "sd15", {**own, "parameters": {"beta": 100.0, "reference_decay": 1.0}}, **shared) == []
    assert lines(config, "sd15", {**own, "objective": "diffusion_dpo"}, **shared) == []


@pytest.mark.parametrize("first", ["optimizer", "channels_last"])
def test_moments_in_eight_bits_lay_weights_one_after_another(config: Config, first: str) -> None:
    """Whichever of the two the variant says itself."""
    settings = {"optimizer": "adamw_8bit", "channels_last": True}
    own = {"objective": "sft", "training": {first: settings.pop(first)}}
    assert lines(config, "sd15", own, **settings) == [
        "variants[0].training.channels_last = true (variant 'first'): expected false: optimizer adamw_8bit lays the "
        "weights one after another"
    ]
