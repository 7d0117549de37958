"""χPO on denoising errors (arXiv 2608.20011, App. E.1): −log σ(β·[h(d_w) − h(d_l)]), h(d) = e^{−d} − d.

The drift d stands for minus the log-ratio of policy and reference, so h is the link function of χPO (arXiv
2407.13399), ratio + log-ratio. h is not homogeneous: its argument must be the sum of squares that the paper means,
hence the parameter ``values``. No factor ½.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import BaseModel, ConfigDict, Field

if TYPE_CHECKING:
    from torch import Tensor

    from sdpo.diffusion.errors import PairErrors

HAS_LOSER = True


class Parameters(BaseModel):
    """Hyperparameters of χPO."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    beta: float = Field(gt=0, allow_inf_nan=False, description="β > 0, for a logit without the factor ½.")
    values: float = Field(
        default=1.0,
        gt=0,
        allow_inf_nan=False,
        description="Factor on the mean errors before h; the number of the latent's values makes sums of them.",
    )


def loss(errors: PairErrors, parameters: Parameters) -> Tensor:
    """The loss of each pair, (B,); ln 2 when policy and reference agree.

    The gradients carry the weights β·σ(−u)·(1 + e^{−d}), larger for the side that has come closer to its target:
    winner and loser weigh differently.
    """
    import torch.nn.functional as F

    winner, loser = parameters.values * errors.winner_drift, parameters.values * errors.loser_drift
    return -F.logsigmoid(parameters.beta * (((-winner).exp() - winner) - ((-loser).exp() - loser)))
