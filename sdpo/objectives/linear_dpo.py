"""Linear-DPO (arXiv 2605.21123): a bounded linear weight on the difference of the errors, and a moving reference.

``sg(c)·(L_w − L_l)`` with ``c = clip(0.2·β·(d_w − d_l) + 0.5, η, 1 − η)``: pairs that are still wrong weigh more, pairs
with a large margin keep the weight η instead of vanishing. The reference is an exponential moving average of the
policy. The paper and its toy experiment clip at 1 above, the published code at 1 − η.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

if TYPE_CHECKING:
    from torch import Tensor

    from sdpo.diffusion.errors import PairErrors

HAS_LOSER = True
STOPS_GRADIENT = True


class Parameters(BaseModel):
    """Hyperparameters of Linear-DPO."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    beta: float = Field(
        gt=0,
        allow_inf_nan=False,
        description="β > 0, for errors averaged over the latent's values. Published: 100 (SD 1.5), 500 (SDXL), 5000 "
        "(SD 3).",
    )
    eta: float = Field(
        default=1e-3,
        ge=0,
        lt=0.5,
        allow_inf_nan=False,
        description="Least weight η in [0, 0.5) of a pair. Published: 0.001 (SD 1.5), 0 (SDXL), 0.05 (SD 3).",
    )
    largest_weight: float | None = Field(
        default=None,
        gt=0,
        allow_inf_nan=False,
        description="Largest weight of a pair, above η; left out, 1 − η as in the published code. The paper has 1.",
    )
    reference_decay: float = Field(
        default=0.99,
        ge=0,
        le=1,
        allow_inf_nan=False,
        description="Decay in [0, 1] of the reference's moving average, applied after each optimizer step; 1 keeps the "
        "reference fixed. Published: 0.95, 0.99, 0.995.",
    )

    @model_validator(mode="after")
    def _weights_differ(self) -> Self:
        if self.largest_weight is not None and self.largest_weight <= self.eta:
            raise ValueError(f"largest_weight is {self.largest_weight}, expected more than eta, which is {self.eta}")
        return self


def loss(errors: PairErrors, parameters: Parameters) -> Tensor:
    """``sg(c)·(L_w − L_l)`` of each pair, (B,); ½(L_w − L_l) where policy and reference agree. Both gradients carry c.

    Raises:
        InputError: the pair has no loser.
    """
    from artifacts.errors import InputError

    if errors.policy_loser is None:
        raise InputError("the pair has no loser: expected policy_loser, reference_loser and target_loser")
    largest = 1.0 - parameters.eta if parameters.largest_weight is None else parameters.largest_weight
    weight = (0.5 - 0.2 * parameters.beta * errors.margin.detach()).clamp(parameters.eta, largest)
    return weight * (errors.policy_winner - errors.policy_loser)
