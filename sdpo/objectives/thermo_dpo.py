"""THERMoDPO (arXiv 2608.20011, App. E.1): a soft maximum of zero, the preference and the winner's own error.

With ``d = d_w − d_l``, temperature ``τ = t/β`` and share of noise t of the pair::

    winner_weighted:  τ · log(1 + e^{d/τ} + e^{(1 − t)²·L_w/τ})          ("THERMoDPO-w")
    plain:            t² · τ · log(1 + e^{d/τ} + e^{L_w/τ})              ("THERMoDPO")

As printed; there is no reference code. Both are homogeneous: with errors averaged over C values instead of summed,
C·β gives the same loss divided by C (for ``plain`` too, since its t² stands outside). The last term keeps lowering
the winner's error when the preference is met, so winner and loser weigh differently.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from pydantic import BaseModel, ConfigDict, Field

if TYPE_CHECKING:
    from torch import Tensor

    from sdpo.diffusion.errors import PairErrors

HAS_LOSER = True
NEEDS_TIME = True

LEAST_TIME = 1e-4
"""t is raised to this value, so that τ is not zero."""


class Parameters(BaseModel):
    """Hyperparameters of THERMoDPO."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    beta: float = Field(gt=0, allow_inf_nan=False, description="β > 0 of the temperature τ = t/β.")
    form: Literal["winner_weighted", "plain"] = Field(
        default="winner_weighted",
        description="`winner_weighted`: the winner's error counts by (1 − t)². `plain`: it counts whole, and the loss "
        "of a pair by t².",
    )


def loss(errors: PairErrors, parameters: Parameters) -> Tensor:
    """The loss of each pair, (B,), ≥ 0.

    Raises:
        InputError: the pair has no time.
    """
    import torch

    time = errors.known_time
    temperature = time.clamp(min=LEAST_TIME) / parameters.beta
    weighted = parameters.form == "winner_weighted"
    kept = (1.0 - time).square() * errors.policy_winner if weighted else errors.policy_winner
    terms = torch.stack([torch.zeros_like(kept), -errors.margin / temperature, kept / temperature])
    values = temperature * torch.logsumexp(terms, dim=0)
    return values if weighted else time.square() * values
