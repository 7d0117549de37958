"""MaPO, margin-aware preference optimisation without a reference (arXiv 2406.06424).

``L_w − β·log σ(T·[f(L_w) − f(L_l)])`` with ``f(x) = s·x/(e^{s·x} − 1)``, T the number of training timesteps. f falls
from 1, so the second term lowers the winner's error and raises the loser's; the first is supervised fine-tuning. With
z the argument of σ, ``a_w = 1 + βT·σ(−z)·|f'(L_w)|`` and ``a_l = βT·σ(−z)·|f'(L_l)|`` differ: the published rule for λ,
which ignores weights, is stricter than needed here, and ``weights: objective`` gives the exact bound.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import BaseModel, ConfigDict, Field

if TYPE_CHECKING:
    from torch import Tensor

    from sdpo.diffusion.errors import PairErrors

HAS_LOSER = True
USES_REFERENCE = False


class Parameters(BaseModel):
    """Hyperparameters of MaPO."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    beta: float = Field(
        default=0.1, gt=0, allow_inf_nan=False, description="Weight β > 0 of the margin term. Published: 0.1 (SDXL)."
    )
    slope: float = Field(
        default=0.5, gt=0, allow_inf_nan=False, description="s > 0 in f(x) = s·x/(e^{s·x} − 1). Published: 0.5."
    )
    timesteps: int = Field(default=1000, ge=1, description="T, training timesteps of the base's schedule.")


def bounded(error: Tensor, slope: float) -> Tensor:
    """f(x) = s·x/(e^{s·x} − 1) in [0, 1], of errors x ≥ 0; 1 at 0, where the quotient is continued."""
    import torch

    x = slope * error
    small = x < 1e-2
    # Each form has harmless numbers where it is not used, or it would make the gradient not a number.
    near, far = torch.where(small, x, 0.0), torch.where(small, 1.0, x)
    # Near 0 the gradient of the quotient is a difference of large numbers; the series is exact to fp64 there, and so is
    # its slope. Far out e^x would overflow, e^{−x} does not.
    series = 1.0 - near / 2.0 + near**2 / 12.0 - near**4 / 720.0
    return torch.where(small, series, far * torch.exp(-far) / -torch.expm1(-far))


def loss(errors: PairErrors, parameters: Parameters) -> Tensor:
    """The loss of each pair, (B,); L_w + β·ln 2 where winner and loser have equal errors.

    Raises:
        InputError: the pair has no loser.
    """
    import torch.nn.functional as F

    from artifacts.errors import InputError

    if errors.policy_loser is None:
        raise InputError("the pair has no loser: expected policy_loser, reference_loser and target_loser")
    margin = bounded(errors.policy_winner, parameters.slope) - bounded(errors.policy_loser, parameters.slope)
    return errors.policy_winner - parameters.beta * F.logsigmoid(parameters.timesteps * margin)
