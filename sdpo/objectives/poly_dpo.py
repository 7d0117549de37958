"""Poly-DPO (arXiv 2604.24953): −log p + α·(1 − p), p = σ(u), u = ½β(d_l − d_w).

Both gradients carry the weight ½β·(1 − p)·(1 + αp), Diffusion-DPO's times 1 + αp. For α > 0 a pair that the policy is
unsure of counts more beside one that it has wrong, which is meant for labels that contradict one another: with α > 1
the weight is greatest at p = ½ − 1/(2α). For α < 0 a pair that it has right counts less. α = 0 is Diffusion-DPO. The
published α is 8 on Pick-a-Pic v2 and goes to 0 on clean data. Below −1 pairs would be pulled back, which is refused.
There is no reference code; errors are means over the latent's values and u has the factor ½, as in ``diffusion_dpo``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import BaseModel, ConfigDict, Field

if TYPE_CHECKING:
    from torch import Tensor

    from sdpo.diffusion.errors import PairErrors

HAS_LOSER = True


class Parameters(BaseModel):
    """Hyperparameters of Poly-DPO."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    beta: float = Field(
        gt=0,
        allow_inf_nan=False,
        description="β > 0, for errors averaged over the latent's values and a logit with the factor ½, as in "
        "`diffusion_dpo`.",
    )
    alpha: float = Field(
        default=8.0,
        ge=-1,
        allow_inf_nan=False,
        description="Factor α ≥ −1 on 1 − p; 0 is `diffusion_dpo`. Published: 8 on Pick-a-Pic v2, going to 0 on clean "
        "data and below on trivial pairs.",
    )


def loss(errors: PairErrors, parameters: Parameters) -> Tensor:
    """The loss of each pair, (B,); ln 2 + α/2 when policy and reference agree.

    Winner and loser carry the same weight, so the unweighted safe scale is exact for a single pair.
    """
    import torch
    import torch.nn.functional as F

    u = errors.logit(parameters.beta)
    return parameters.alpha * torch.sigmoid(-u) - F.logsigmoid(u)
