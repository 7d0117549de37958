"""Which timesteps training draws: the density of the share of noise, and its shift."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, Protocol

from pydantic import Field

from artifacts.block import Block
from artifacts.errors import InputError

if TYPE_CHECKING:
    import torch

    from sdpo.diffusion.noising import Parametrisation


class TimestepSettings(Block):
    """Density of timesteps in training."""

    density: Literal["uniform", "logit_normal"] = Field(
        default="uniform",
        description="`uniform` over the schedule, as Diffusion-DPO and Diffusion-SDPO are trained. `logit_normal`: "
        "the logit of the share of noise is normal (arXiv 2403.03206), which draws the middle more often.",
    )
    mean: float = Field(default=0.0, description="Mean of the logit.")
    std: float = Field(default=1.0, gt=0, description="Standard deviation of the logit.")
    shift: float = Field(
        default=1.0,
        gt=0,
        description="Of flow models: σ becomes `shift·σ / (1 + (shift − 1)·σ)`, more noise for more than 1. SD3's "
        "sampler has 3.",
    )


UNIFORM = TimestepSettings()


class Timesteps(Protocol):
    """What of a base says its timesteps."""

    @property
    def parametrisation(self) -> Parametrisation:
        """What the denoiser predicts."""
        ...

    def draw_timesteps(self, count: int, generator: torch.Generator) -> torch.Tensor:
        """Random timesteps (count,), as this base is trained with."""
        ...

    def timesteps_at(self, shares: torch.Tensor) -> torch.Tensor:
        """Timesteps (N,) at shares of the schedule (N,) in [0, 1), 0 is data."""
        ...


def drawn_timesteps(
    base: Timesteps, count: int, generator: torch.Generator, settings: TimestepSettings
) -> torch.Tensor:
    """Random timesteps (count,) of a base.

    Raises:
        InputError: a shift for a schedule that is none of a flow.
    """
    import torch

    if settings == UNIFORM:
        return base.draw_timesteps(count, generator)
    if settings.shift != 1 and base.parametrisation != "flow":
        raise InputError(
            f"training.timesteps.shift is {settings.shift:g}, but the base's denoiser predicts {base.parametrisation}; "
            "only a flow's schedule shifts: leave it out"
        )
    if settings.density == "uniform":
        shares = torch.rand(count, generator=generator)
    else:
        shares = (settings.mean + settings.std * torch.randn(count, generator=generator)).sigmoid()
    # arXiv 2403.03206, Eq. 23: the signal-to-noise ratio of `shift` times as many pixels a side.
    shares = settings.shift * shares / (1 + (settings.shift - 1) * shares)
    # A logit of 17 is 1 in float32, which is beyond the last timestep.
    return base.timesteps_at(shares.clamp(max=1 - 2**-24))
