"""Which held-out pairs measure the drift, and which prompts are drawn: a sample, the same for every model."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from sdpo.diffusion.latents import Latents
from sdpo.pairs.cache import Pairs, Side
from sdpo.training.heldout_drift import HeldoutProbe
from sdpo.training.precision import Precision
from sdpo.training.sample_images import SampleImages


class Numbered:
    """Images and prompts that are their own numbers."""

    def images(self, rows: torch.Tensor, mirrored: torch.Tensor | None) -> Side:
        return Side(Latents(rows[:, None, None, None].float()), rows[:, None].repeat(1, 6))

    def prompts(self, rows: torch.Tensor) -> dict[str, torch.Tensor]:
        return {"text": rows[:, None].float()}


@dataclass
class Base:
    """A family of one number a latent; the denoiser predicts nothing."""

    parametrisation: str = "epsilon"
    seen: list[Any] = field(default_factory=list)

    def spread_timesteps(self, count: int) -> torch.Tensor:
        return torch.arange(count)

    def coefficients(self, timesteps: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return torch.ones(len(timesteps)), torch.ones(len(timesteps))

    def image_conditions(self, sizes: torch.Tensor) -> dict[str, torch.Tensor]:
        return {}

    def load_denoiser(self) -> torch.nn.Module:
        return torch.nn.Identity()

    def decode_latents(self, latents: torch.Tensor) -> list[Any]:
        return []

    def predict(self, denoiser: Any, noisy: torch.Tensor, timesteps: torch.Tensor, conditions: Any) -> torch.Tensor:
        return torch.zeros_like(noisy)


def heldout(count: int, of_each_prompt: int = 1) -> Pairs:
    """Pair i has the images 2i + 1 and 2i + 2, and the prompt 1 + i // ``of_each_prompt``."""
    numbers = torch.arange(count)
    prompts, shapes = 1 + numbers // of_each_prompt, torch.zeros_like(numbers)
    return Pairs(2 * numbers + 1, 2 * numbers + 2, prompts, Numbered(), (1, 1, 1), shapes)


def measured(count: int, limit: int) -> list[int]:
    base: Any = Base()
    probe = HeldoutProbe(base, heldout(count), limit)
    winners = [int(x) for batch in probe.batches for x in batch.winner]
    losers = [int(x) for batch in probe.batches for x in batch.loser]
    assert [w + 1 for w in winners] == losers
    assert [2 * int(x) - 1 for batch in probe.batches for x in batch.winner_conditions["text"]] == winners
    return [(w - 1) // 2 for w in winners]


def test_drift_is_measured_on_a_sample() -> None:
    rows = measured(1000, 100)
    assert rows == measured(1000, 100)
    assert len(set(rows)) == 100
    assert rows == sorted(rows)
    # About ten come from each tenth; the bounds are four standard deviations away.
    tenths = torch.tensor(rows).div(100, rounding_mode="floor").bincount(minlength=10)
    assert int(tenths.min()) >= 1 and int(tenths.max()) <= 22
    assert 350 < sum(rows) / 100 < 650


def test_all_are_measured_where_all_fit() -> None:
    assert measured(10, 10) == measured(10, 256) == list(range(10))


def drawn(pairs: Pairs, count: int, tmp_path: Path) -> list[int]:
    base: Any = Base()
    (part,) = SampleImages(base, pairs, count, 7.5, Precision(), tmp_path).parts
    return [int(x) for x in part.conditions["text"]]


def test_prompts_that_are_drawn_are_a_sample_too(tmp_path: Path) -> None:
    prompts = drawn(heldout(400, of_each_prompt=4), 12, tmp_path)
    assert prompts == drawn(heldout(400, of_each_prompt=4), 12, tmp_path)
    assert len(set(prompts)) == 12
    assert prompts == sorted(prompts)
    assert max(prompts) > 50
    assert drawn(heldout(8, of_each_prompt=4), 12, tmp_path) == [1, 2]
