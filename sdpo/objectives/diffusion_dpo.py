"""Diffusion-DPO (arXiv 2311.12908, Eq. 14): −log σ(u), u = −½β(d_w − d_l)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import BaseModel, ConfigDict, Field

if TYPE_CHECKING:
    from torch import Tensor

    from sdpo.objectives.pair import PairErrors

HAS_LOSER = True


class Parameters(BaseModel):
    """Hyperparameters of Diffusion-DPO."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    beta: float = Field(
        gt=0,
        allow_inf_nan=False,
        description="β > 0, for errors averaged over the latent's values and a logit with the factor ½. "
        "Published: 5000 (SD 1.5 and SDXL).",
    )


def loss(errors: PairErrors, parameters: Parameters) -> Tensor:
    """−log σ(u) of each pair, (B,); ln 2 when policy and reference agree.

    Both gradients carry the weight ½β·σ(−u), so the unweighted safe scale is exact for a single pair.
    """
    import torch.nn.functional as F

    return -F.logsigmoid(errors.logit(parameters.beta))
