"""From an autoencoder's latents to those that a denoiser sees, and back: one formula for training and for drawing.

``seen = scaling_factor · (z − mean) / std``, as diffusers has it. ``latents_mean`` and ``latents_std``
are given together or not at all; ``shift_factor`` is a mean of all channels. All stand in ``vae/config.json``.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from artifacts.errors import InputError

if TYPE_CHECKING:
    import torch

_DEFAULT_FACTORS = {"AutoencoderKL": 0.18215, "AutoencoderTiny": 1.0}
"""``scaling_factor`` of configurations that have none, by class, as in diffusers."""


@dataclass(frozen=True)
class LatentScaling:
    """Numbers of the formula.

    Attributes:
        factor: over all channels.
        mean: of each channel, or one for all.
        std: of each channel, or one for all.
    """

    factor: float
    mean: tuple[float, ...] = (0.0,)
    std: tuple[float, ...] = (1.0,)

    @classmethod
    def of(cls, config: Mapping[str, Any], file: Path) -> LatentScaling:
        """Read from the configuration of an autoencoder.

        Args:
            config: content of its ``config.json``.
            file: it, for messages.

        Raises:
            InputError: a number is missing, not finite, zero where it divides, or of other channels.
        """
        default = _DEFAULT_FACTORS.get(str(config.get("_class_name")), 1.0)
        factor = default if config.get("scaling_factor") is None else config["scaling_factor"]
        mean, std, shift = (config.get(key) for key in ("latents_mean", "latents_std", "shift_factor"))
        if (mean is None) != (std is None):
            raise InputError(f"{file}: has only one of latents_mean and latents_std; fetch the autoencoder again")
        if mean is not None and shift:
            raise InputError(f"{file}: has latents_mean and shift_factor, which are two ways to say one thing")
        channels = int(config.get("latent_channels", 4))
        found = cls(
            _numbers([factor], 1, f"{file}: scaling_factor")[0],
            _numbers([shift or 0.0], 1, f"{file}: shift_factor")
            if mean is None
            else _numbers(mean, channels, f"{file}: latents_mean"),
            _numbers([1.0] if std is None else std, 1 if std is None else channels, f"{file}: latents_std"),
        )
        if found.factor == 0 or 0 in found.std:
            raise InputError(f"{file}: scaling_factor or latents_std is 0; fetch the autoencoder again")
        return found

    def difference(self, expected: LatentScaling) -> str | None:
        """The first number that is another one, in words; ``None`` if both are one formula."""
        for key, ours, theirs in (
            ("scaling_factor", (self.factor,), (expected.factor,)),
            ("shift_factor or latents_mean", self.mean, expected.mean),
            ("latents_std", self.std, expected.std),
        ):
            if len(ours) != len(theirs) or not all(map(math.isclose, ours, theirs)):
                said, wanted = (", ".join(f"{x:g}" for x in numbers) for numbers in (ours, theirs))
                return f"{key} is {said}, expected {wanted}"
        return None

    def seen(self, latents: torch.Tensor) -> torch.Tensor:
        """What the denoiser sees of an autoencoder's latents (N, C, H, W)."""
        return (latents - self._channels(self.mean, latents)) * self.factor / self._channels(self.std, latents)

    def seen_deviation(self, deviation: torch.Tensor) -> torch.Tensor:
        """The same of standard deviations (N, C, H, W), which nothing shifts."""
        return deviation * self.factor / self._channels(self.std, deviation)

    def raw(self, seen: torch.Tensor) -> torch.Tensor:
        """Latents (N, C, H, W) for the autoencoder to decode: the inverse of :meth:`seen`."""
        return seen * self._channels(self.std, seen) / self.factor + self._channels(self.mean, seen)

    @staticmethod
    def _channels(values: tuple[float, ...], like: torch.Tensor) -> torch.Tensor | float:
        # One number for all channels stays a number: nothing to move to a device.
        return values[0] if len(values) == 1 else like.new_tensor(values).view(1, -1, 1, 1)


def _numbers(values: Sequence[Any], count: int, where: str) -> tuple[float, ...]:
    right = isinstance(values, Sequence) and len(values) == count
    if not right or not all(isinstance(x, int | float) and math.isfinite(x) for x in values):
        raise InputError(f"{where} is {values!r}, expected {count} finite numbers; fetch the autoencoder again")
    return tuple(float(x) for x in values)
