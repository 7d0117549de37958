"""Diffusion-DPO with an anchor: −log σ(u) + weight · anchor, u = ½β(d_l − d_w) (arXiv 2608.20011, App. E.1).

Anchors, per pair and averaged over the latent's values like the errors:

- ``winner``: L_w, supervised fine-tuning on the winner ("+RFT").
- ``reference``: ½·(‖Δ_w‖ + ‖Δ_l‖) with the shift Δ = policy − reference and the root of the mean square as norm
  ("+KL" as printed; the paper writes a norm, and does not say of which member of the pair).
- ``reference_square``: ½·(mean Δ_w² + mean Δ_l²), which is what the divergence of two Gaussians would be.

The paper gives no weights.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from pydantic import BaseModel, ConfigDict, Field

if TYPE_CHECKING:
    from torch import Tensor

    from sdpo.diffusion.errors import PairErrors

HAS_LOSER = True

LEAST_SQUARE = 1e-12
"""Added under the root of the norm, whose slope at zero, where training starts, does not exist."""


class Parameters(BaseModel):
    """Hyperparameters of Diffusion-DPO with an anchor."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    beta: float = Field(gt=0, allow_inf_nan=False, description="β > 0, as in `diffusion_dpo`.")
    anchor: Literal["winner", "reference", "reference_square"] = Field(
        description="`winner`: the winner's error. `reference`: distance of the predictions from the reference's. "
        "`reference_square`: its mean square."
    )
    weight: float = Field(default=1.0, ge=0, allow_inf_nan=False, description="Factor on the anchor.")


def loss(errors: PairErrors, parameters: Parameters) -> Tensor:
    """The loss of each pair, (B,). With policy = reference: ln 2, and for ``winner`` weight · L_w in addition."""
    import torch.nn.functional as F

    return -F.logsigmoid(errors.logit(parameters.beta)) + parameters.weight * _anchor(errors, parameters.anchor)


def weights(errors: PairErrors, parameters: Parameters) -> tuple[Tensor, Tensor]:
    """a_w and a_l of each pair, (B,); see :func:`sdpo.objectives.pair_weights`.

    Both errors carry ½β·σ(−u), and the winner's as anchor ``weight`` in addition. What the other anchors pull along the
    shifts is no multiple of a residual and is left out.
    """
    import torch

    weight = 0.5 * parameters.beta * torch.sigmoid(-errors.logit(parameters.beta))
    return (weight + parameters.weight if parameters.anchor == "winner" else weight), weight


def _anchor(errors: PairErrors, kind: str) -> Tensor:
    """(B,), differentiable."""
    if kind == "winner":
        return errors.policy_winner
    assert errors.loser_shift is not None
    squares = [shift.square().reshape(len(shift), -1).mean(1) for shift in (errors.winner_shift, errors.loser_shift)]
    if kind == "reference":
        squares = [(square + LEAST_SQUARE).sqrt() for square in squares]
    return (squares[0] + squares[1]) / 2.0
