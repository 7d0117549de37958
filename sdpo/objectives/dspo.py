"""DSPO, direct score preference optimisation, in the two forms of its reference code.

The code of DSPO, and that of Diffusion-SDPO after it (``train.py``, branch ``dspo``), trains a different loss on
each base. With ``u = −½β(d_w − d_l)``, winner residual ``r_w`` and shift ``Δ_w = policy − reference``:

- ``sd15``: ``mean ‖r_w − β·σ(−u)·Δ_w‖²``, score matching to the winner, as in the paper. The gradient also passes
  through σ(−u), and the loser enters through it alone: its gradient is O(β²) of the winner's, at the published
  β = 0.001 about 1e-8. There the loss is supervised fine-tuning to working precision and a safeguard has no
  visible effect.
- ``sdxl``: ``mean σ(−u)²``, unless the mean of Δ_w² over the micro-batch reaches 0.1, where it is
  ``mean ‖σ(−u)·Δ_w‖²``. Training practically never goes there, so this is Diffusion-DPO with another weight,
  β·σ(u)·σ(−u)² on both errors.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from pydantic import BaseModel, ConfigDict, Field

if TYPE_CHECKING:
    from torch import Tensor

    from sdpo.diffusion.errors import PairErrors

HAS_LOSER = True

SHIFT_THRESHOLD = 0.1
"""Mean of Δ_w² over the micro-batch from which form ``sdxl`` weights the shift instead."""


class Parameters(BaseModel):
    """Hyperparameters of DSPO."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    beta: float = Field(
        gt=0,
        allow_inf_nan=False,
        description="β > 0, for errors averaged over the latent's values and a logit with the factor ½; in form `sd15` "
        "also the strength of the shift. Published: 0.001 (`sd15`), 5000 (`sdxl`).",
    )
    form: Literal["sd15", "sdxl"] = Field(
        default="sd15",
        description="`sd15`: score matching to the winner, as in the paper. `sdxl`: the loss that the reference code "
        "uses for SDXL.",
    )


def loss(errors: PairErrors, parameters: Parameters) -> Tensor:
    """The loss of each pair, (B,). With policy = reference: L_w for ``sd15``, ¼ for ``sdxl``."""
    import torch

    doubt = torch.sigmoid(-errors.logit(parameters.beta))  # 1 − σ(u), without its cancellation at large u
    shift = errors.winner_shift

    def mean(values: Tensor) -> Tensor:
        return values.reshape(len(values), -1).mean(1)

    if parameters.form == "sd15":
        weight = doubt.to(shift.dtype).reshape(-1, *[1] * (shift.ndim - 1))
        return mean((errors.winner_residual - parameters.beta * weight * shift).square())
    shifted = shift.detach().square().mean() >= SHIFT_THRESHOLD
    return doubt.square() * torch.where(shifted, mean(shift.square()), 1.0)


def weights(errors: PairErrors, parameters: Parameters) -> tuple[Tensor, Tensor]:
    """a_w and a_l of each pair, (B,); see :func:`sdpo.objectives.pair_weights`.

    For ``sd15`` the winner's residual carries 1 and both sides β²·σ(u)·σ(−u)·mean(·) through u, of either sign; the
    part of its gradient along Δ_w, which is no multiple of the residual, is left out.
    """
    import torch

    doubt = torch.sigmoid(-errors.logit(parameters.beta))
    shift = errors.winner_shift.reshape(len(doubt), -1)
    if parameters.form == "sdxl":
        shifted = shift.square().mean() >= SHIFT_THRESHOLD
        weight = parameters.beta * doubt.square() * (1.0 - doubt)
        return (weight := weight * torch.where(shifted, shift.square().mean(1), 1.0)), weight
    residual = errors.winner_residual.reshape(len(doubt), -1)
    along = ((residual - parameters.beta * doubt[:, None] * shift) * shift).mean(1)
    through = -(parameters.beta**2) * doubt * (1.0 - doubt) * along
    return 1.0 + through, through
