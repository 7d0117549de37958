"""One optimizer step as a direction: the update is −η·direction for every learning rate η.

``sgd`` follows the gradient. ``adamw`` is AdamW (arXiv 1711.05101) with PyTorch's defaults, β = (0.9, 0.999) and
ε = 1e-8, whose weight decay is decoupled; its direction does not depend on η either. Everything is a flat vector.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

BETAS = (0.9, 0.999)
EPSILON = 1e-8


def clipped(gradient: Tensor, max_norm: float | None) -> Tensor:
    """The gradient (N,) scaled down to an L2 norm of ``max_norm``, as :func:`torch.nn.utils.clip_grad_norm_` does."""
    if max_norm is None:
        return gradient
    return gradient * min(1.0, max_norm / (float(gradient.norm()) + 1e-6))


@dataclass(frozen=True)
class Moments:
    """State of AdamW after ``steps`` gradients.

    Attributes:
        first, second: running means of gradient and squared gradient, (N,), not corrected for their start at zero.
        steps: gradients seen.
    """

    first: Tensor
    second: Tensor
    steps: int = 0

    @staticmethod
    def fresh(like: Tensor) -> Moments:
        """State before the first gradient."""
        import torch

        return Moments(torch.zeros_like(like), torch.zeros_like(like))

    def after(self, gradient: Tensor) -> Moments:
        """State after one more gradient (N,)."""
        return Moments(
            self.first * BETAS[0] + gradient * (1 - BETAS[0]),
            self.second * BETAS[1] + gradient.square() * (1 - BETAS[1]),
            self.steps + 1,
        )


def adamw_direction(gradient: Tensor, parameters: Tensor, before: Moments, weight_decay: float) -> Tensor:
    """Direction (N,) of the step that AdamW takes on ``gradient`` from the state ``before``."""
    state = before.after(gradient)
    mean = state.first / (1 - BETAS[0] ** state.steps)
    square = state.second / (1 - BETAS[1] ** state.steps)
    return mean / (square.sqrt() + EPSILON) + weight_decay * parameters
