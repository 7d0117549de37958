"""How much of the loser's gradient a step may use, to first order, in any space in which gradients are given.

A step follows ``−(G_w + λ·G_l)``, where the winners' part ``G_w`` and the losers' part ``G_l`` of an objective's
gradient are fixed. It leaves the winners' error A non-increasing, with slack μ, iff

    ⟨∇A, G_w⟩ + λ·⟨∇A, G_l⟩ ≥ μ·⟨∇A, G_w⟩,    that is    λ ≤ (1 − μ)·⟨∇A, G_w⟩ / ⟨∇A, −G_l⟩

while the losers' part raises A (⟨∇A, −G_l⟩ > 0), and for every λ ≥ 0 otherwise. The quotient is the *limit*. With
``G_w = ∇A`` and ``G_l = −∇B`` (objective A − λB) it is ‖∇A‖²/⟨∇A, ∇B⟩, of which :func:`sdpo.safeguard.safe_scale` takes
the gradients at the output, arXiv 2511.03317, Eq. 15-17. Here they may as well be gradients by the parameters.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor


def cosine(first: Tensor, second: Tensor) -> float:
    """Cosine in [−1, 1] of the angle between two tensors of one shape; not a number if one of them is zero."""
    norms = float(first.norm()) * float(second.norm())
    return max(-1.0, min(1.0, _product(first, second) / norms)) if norms > 0 else math.nan


def limit(error_gradient: Tensor, winner_part: Tensor, loser_part: Tensor) -> float:
    """Largest λ that does not raise the winners' error to first order, before slack and clipping.

    Args:
        error_gradient: ∇A, (N,).
        winner_part: G_w, the winners' part of the objective's gradient, (N,).
        loser_part: G_l, the losers' part at λ = 1, (N,); −∇B for the objective A − B.

    Returns:
        ⟨∇A, G_w⟩/⟨∇A, −G_l⟩, or ∞ where the losers' part does not raise the error by more than rounding. It is
        negative where the winners' part alone raises the error: then no λ ≥ 0 is safe.
    """
    import torch

    raised = -_product(error_gradient, loser_part)
    rounding = torch.finfo(error_gradient.dtype).eps * float(error_gradient.norm()) * float(loser_part.norm())
    return _product(error_gradient, winner_part) / raised if raised > rounding else math.inf


def scale(limit: float, mu: float) -> float:
    """λ = clip((1 − μ)·limit, 0, 1); 1 where there is no limit, as published."""
    return 1.0 if math.isinf(limit) else max(0.0, min(1.0, (1.0 - mu) * limit))


def slack_needed(true_limit: float, assumed_limit: float) -> float:
    """Least μ in [0, 1] at which the λ made from one limit keeps within another.

    Args:
        true_limit: what λ must not exceed.
        assumed_limit: what λ is made from: λ = scale(assumed_limit, μ).

    Returns:
        0 where λ is safe without slack; not a number where no μ makes it safe, because there is no assumed limit
        (λ = 1 for every μ) or no λ ≥ 0 is safe.
    """
    if true_limit >= 1.0 or scale(assumed_limit, 0.0) <= true_limit:
        return 0.0
    if math.isinf(assumed_limit) or true_limit < 0.0:
        return math.nan
    return 1.0 - true_limit / assumed_limit


def predicted_change(error_gradient: Tensor, update: Tensor) -> float:
    """⟨∇A, Δθ⟩: change of the error A by an update Δθ of the parameters, to first order."""
    return _product(error_gradient, update)


def _product(first: Tensor, second: Tensor) -> float:
    return float((first * second).sum())
