"""DMPO (arXiv 2507.07510): the divergence KL(σ(u) ‖ 1 − α), u = −½β(d_w − d_l).

Follows ``train.py`` of Diffusion-SDPO, branch ``dmpo``; the authors of DMPO published no code.

The loss is least at ``u* = log((1 − α)/α)``: 4.595 for α = 0.01. Up to there it lowers the winner's error and raises
the loser's; beyond, it does the reverse and pulls the pair back, and the premise of the safeguard (winner descends,
loser ascends) no longer holds. The reference code scales the loser's gradient by λ on both sides of u*, and so does
the safeguard's setting ``pulled_back: scale``; with ``exempt``, pairs beyond u* take no part in λ.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from pydantic import BaseModel, ConfigDict, Field

if TYPE_CHECKING:
    from torch import Tensor

    from sdpo.diffusion.errors import PairErrors

HAS_LOSER = True

SMALLEST_ALPHA = 1e-6
"""α is raised to this value, as in the reference code; with α = 0 the target would be at infinity."""


class Parameters(BaseModel):
    """Hyperparameters of DMPO."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    beta: float = Field(
        gt=0,
        allow_inf_nan=False,
        description="β > 0, for errors averaged over the latent's values and a logit with the factor ½. "
        "Published: 2000 (SD 1.5), 6000 (SDXL).",
    )
    alpha: float = Field(
        default=0.01,
        ge=0,
        lt=0.5,
        allow_inf_nan=False,
        description="Probability α in [0, 0.5) left to the loser; the target is 1 − α. Values below 1e-6 count as "
        "1e-6. Published: 0.01, as in the default (the reference code's own default is 0).",
    )


def loss(errors: PairErrors, parameters: Parameters) -> Tensor:
    """KL(σ(u) ‖ 1 − α) of each pair, (B,).

    Its slope is ``σ(u)·σ(−u)·(u − u*)``, so both gradients carry the weight ½β·σ(u)·σ(−u)·(u* − u).
    """
    import torch
    import torch.nn.functional as F

    alpha = max(parameters.alpha, SMALLEST_ALPHA)
    u = errors.logit(parameters.beta)
    winner = torch.sigmoid(u) * (F.logsigmoid(u) - math.log1p(-alpha))
    loser = torch.sigmoid(-u) * (F.logsigmoid(-u) - math.log(alpha))
    return winner + loser
