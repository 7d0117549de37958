"""Diffusion-KTO (arXiv 2404.04465): utility of each image on its own, liked or disliked.

The reward of an image is ``g = (R − L) − kl``, with ``kl = max(0, mean of R − L over all images)``, a fixed reference
point. With s = +1 for a liked and −1 for a disliked image, the loss is ``w·(1 − U(s·β·g))``, U being the utility:

- ``kahneman_tversky``: σ(z), saturating on both sides; the published default.
- ``loss_averse``: log σ(z), concave. ``risk_seeking``: −log σ(−z), convex.

The published data are single images with a label. Here the winner of a pair is its liked image and the loser its
disliked one, and the loss of a pair is the mean over the two, so that the mean over pairs is the mean over images. The
two share a timestep and noise, which the published code draws for each image; this changes no expectation. The
reference point is a mean over the micro-batch's images on all processes, as in the published code.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from pydantic import BaseModel, ConfigDict, Field

if TYPE_CHECKING:
    from torch import Tensor

    from sdpo.diffusion.errors import PairErrors

HAS_LOSER = True
REDUCES = True


class Parameters(BaseModel):
    """Hyperparameters of Diffusion-KTO."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    beta: float = Field(
        gt=0,
        allow_inf_nan=False,
        description="β > 0, for errors averaged over the latent's values, without a factor ½. Published: 1000 "
        "(SD 1.5).",
    )
    utility: Literal["kahneman_tversky", "loss_averse", "risk_seeking"] = Field(
        default="kahneman_tversky", description="Utility of an image's reward; published: `kahneman_tversky`."
    )
    liked_weight: float = Field(default=1.0, ge=0, allow_inf_nan=False, description="Weight w of liked images.")
    disliked_weight: float = Field(default=1.0, ge=0, allow_inf_nan=False, description="Weight w of disliked images.")


def loss(errors: PairErrors, parameters: Parameters) -> Tensor:
    """Mean loss of the liked and the disliked image of each pair, (B,); ½ where policy and reference agree.

    ``a_w = ½·w·β·U'(z_w)`` and ``a_l = ½·w·β·U'(z_l)`` differ, so only ``weights: objective`` gives the exact bound.
    """
    import torch
    import torch.nn.functional as F

    liked, disliked = -errors.winner_drift, -errors.loser_drift
    point = _mean_over_processes(torch.cat([liked, disliked]).detach()).clamp(min=0)

    def utility(z: Tensor) -> Tensor:
        if parameters.utility == "loss_averse":
            return F.logsigmoid(z)
        return -F.logsigmoid(-z) if parameters.utility == "risk_seeking" else torch.sigmoid(z)

    winner = parameters.liked_weight * (1.0 - utility(parameters.beta * (liked - point)))
    loser = parameters.disliked_weight * (1.0 - utility(-parameters.beta * (disliked - point)))
    return 0.5 * (winner + loser)


def _mean_over_processes(values: Tensor) -> Tensor:
    """Mean of the values of all processes, which may have different numbers of them."""
    import torch
    import torch.distributed as dist

    total = torch.stack([values.sum(), torch.full_like(values[0], len(values))])
    if dist.is_available() and dist.is_initialized():
        dist.all_reduce(total)
    return total[0] / total[1]
