"""Diffusion-DPO (arXiv 2311.12908, Eq. 14), and two other losses on the same margin.

With ``x = (R_w − L_w) − (R_l − L_l) = d_l − d_w``, errors averaged over the latent's values:

- ``sigmoid``: −log σ(½βx), the published loss. Both gradients carry the weight ½β·σ(−½βx).
- ``hinge``: max(0, 1 − βx) (SLiC, arXiv 2305.10425). Weight β up to the margin 1/β, and none beyond.
- ``ipo``: (x − 1/(2β))² (arXiv 2310.12036). Weight 1/β − 2x: beyond ``x = 1/(2β)`` the pair is pulled back.

``hinge`` and ``ipo`` have no factor ½, as in the LoRA script of diffusers; that script leaves it out of ``sigmoid``
too, so its β = 2500 is 5000 here.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from pydantic import BaseModel, ConfigDict, Field

if TYPE_CHECKING:
    from torch import Tensor

    from sdpo.diffusion.errors import PairErrors

HAS_LOSER = True


class Parameters(BaseModel):
    """Hyperparameters of Diffusion-DPO."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    beta: float = Field(
        gt=0,
        allow_inf_nan=False,
        description="β > 0, for errors averaged over the latent's values and, for `sigmoid`, a logit with the factor "
        "½. Published: 5000 (SD 1.5 and SDXL).",
    )
    loss_type: Literal["sigmoid", "hinge", "ipo"] = Field(
        default="sigmoid",
        description="`sigmoid` is Diffusion-DPO as published; `hinge` stops at the margin 1/β; `ipo` pulls back pairs "
        "beyond 1/(2β).",
    )


def loss(errors: PairErrors, parameters: Parameters) -> Tensor:
    """The loss of each pair, (B,). With policy = reference: ln 2 (``sigmoid``), 1 (``hinge``), 1/(4β²) (``ipo``).

    Winner and loser carry the same weight, so the unweighted safe scale is exact for a single pair.
    """
    import torch.nn.functional as F

    if parameters.loss_type == "hinge":
        return F.relu(1.0 - parameters.beta * errors.margin)
    if parameters.loss_type == "ipo":
        return (errors.margin - 0.5 / parameters.beta).square()
    return -F.logsigmoid(errors.logit(parameters.beta))
