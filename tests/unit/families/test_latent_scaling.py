"""The one formula between an autoencoder's latents and those that a denoiser sees."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from artifacts.errors import InputError
from families.latent_scaling import LatentScaling

FILE = Path("vae/config.json")
OF_CHANNELS = {"latents_mean": [1.0, 2.0, 3.0, 4.0], "latents_std": [1.0, 2.0, 4.0, 8.0], "scaling_factor": 0.5}


def test_values_by_hand() -> None:
    scaling = LatentScaling.of(OF_CHANNELS, FILE)
    latents = torch.full((1, 4, 1, 1), 5.0)
    # (5 − mean) / std / 2
    assert scaling.seen(latents).flatten().tolist() == [2.0, 0.75, 0.25, 0.0625]
    assert scaling.seen_deviation(latents).flatten().tolist() == [2.5, 1.25, 0.625, 0.3125]
    torch.testing.assert_close(scaling.raw(scaling.seen(latents)), latents)
    shifted = LatentScaling.of({"shift_factor": 0.25, "scaling_factor": 2.0}, FILE)
    assert shifted.seen(latents).flatten().tolist() == [9.5] * 4
    assert shifted.raw(torch.full((1, 4, 1, 1), 9.5)).flatten().tolist() == [5.0] * 4


@pytest.mark.parametrize(
    ("config", "factor"),
    [
        ({"_class_name": "AutoencoderKL"}, 0.18215),
        ({"_class_name": "AutoencoderTiny", "shift_factor": 0.0}, 1.0),
        (
            {"_class_name": "AutoencoderKL", "scaling_factor": 0.13025, "latents_mean": None, "latents_std": None},
            0.13025,
        ),
    ],
)
def test_what_a_configuration_leaves_out(config: dict[str, Any], factor: float) -> None:
    assert LatentScaling.of(config, FILE) == LatentScaling(factor)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"latents_std": None}, "has only one of latents_mean and latents_std"),
        ({"latents_mean": [0.0]}, r"latents_mean is \[0\.0\], expected 4 finite numbers"),
        ({"latents_std": [1.0, 1.0, 0.0, 1.0]}, "latents_std is 0"),
        ({"latents_std": [1.0, 1.0, float("nan"), 1.0]}, "latents_std is .*expected 4 finite numbers"),
        ({"scaling_factor": 0}, "scaling_factor or latents_std is 0"),
        ({"scaling_factor": "0.2"}, "scaling_factor is"),
        ({"shift_factor": 0.1}, "latents_mean and shift_factor, which are two ways"),
    ],
)
def test_what_is_no_formula(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        LatentScaling.of({**OF_CHANNELS, **changes}, FILE)
