"""Diff-BDPO, Bounded-DPO (arXiv 2506.12725) on denoising errors (ICLR 2026, "Diffusion Negative Preference
Optimization Made Simple"): the loser is compared in a mixture of policy and reference, so that driving it away pays
only so much.

Bounded-DPO is ``−log σ(β·[log π(w)/π_ref(w) − log π_mix(l)/π_ref(l)])`` with ``π_mix = mix·π + (1 − mix)·π_ref``. The
mixture is one of densities. With an error for minus a log-density, up to a factor s, ``log π/π_ref = −s·d`` with the
drift d, and the reference's error cancels: ``log π_mix/π_ref = log(mix·e^{−s·d_l} + 1 − mix)``. Hence::

    −log σ(½β·[h(d_l) − d_w]),    h(d) = −log(mix·e^{−s·d} + 1 − mix)/s

- **Signs.** Errors stand for minus log-densities, so the difference of the two changes its order: h(d_l) − d_w.
- **Slopes.** The winner carries a_w = ½β·σ(−u), the loser ``a_l = q·a_w``, where q = σ(log(mix/(1 − mix)) − s·d_l) is
  the policy's share of the mixture. At policy = reference ``q = mix``, whatever s is, and β is that of
  ``diffusion_dpo``; mix → 1 is ``diffusion_dpo``. Where the loser's error grows, q and its gradient vanish, and h
  stays below ``−log(1 − mix)/s``.
- **Scale.** A loss of sums over the latent's N values is this one with s = N (and β for means). s = 1 takes the mean
  error for minus the log-density: for mix = 0.9 the bound is a drift of 2.3, which images never have, and the loss is
  Diffusion-DPO with 0.9 of the loser's gradient. s = ½β takes the logit's own units: the loser adds at most 2.3 to u,
  and q is ½ at d_l = 4.4/β.

No code is published. Chosen here: the factor ½, as in ``diffusion_dpo``; the division by s, which keeps β's meaning
at any s; s = 1 as the default, the formula as printed on mean errors.

Winner and loser weigh differently, and the loser never more: the published rule for λ, which ignores weights, is
stricter than needed, and ``weights: objective`` gives the exact bound.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from pydantic import BaseModel, ConfigDict, Field

if TYPE_CHECKING:
    from torch import Tensor

    from sdpo.diffusion.errors import PairErrors

HAS_LOSER = True


class Parameters(BaseModel):
    """Hyperparameters of Diff-BDPO."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    beta: float = Field(
        gt=0,
        allow_inf_nan=False,
        description="β > 0, for errors averaged over the latent's values and a logit with the factor ½. Published: "
        "2000 and 5000, assumed to be of this convention.",
    )
    mix: float = Field(
        default=0.9,
        gt=0,
        lt=1,
        allow_inf_nan=False,
        description="The policy's share in (0, 1) of the mixture that the loser is compared in; the rest is the "
        "reference's. Published: 0.9.",
    )
    error_scale: float = Field(
        default=1.0,
        gt=0,
        allow_inf_nan=False,
        description="Factor s > 0 on mean errors in the exponents of the mixture: the loser's drift counts up to "
        "−log(1 − mix)/s. 1: the formula as printed, on mean errors. The number of the latent's values: on sums. ½β: "
        "the loser's part of the logit stays below −log(1 − mix).",
    )


def loss(errors: PairErrors, parameters: Parameters) -> Tensor:
    """The loss of each pair, (B,); ln 2 when policy and reference agree."""
    import torch
    import torch.nn.functional as F

    policy = math.log(parameters.mix) - parameters.error_scale * errors.loser_drift
    reference = torch.full_like(policy, math.log1p(-parameters.mix))
    bounded = -torch.logaddexp(policy, reference) / parameters.error_scale
    return -F.logsigmoid(0.5 * parameters.beta * (bounded - errors.winner_drift))
