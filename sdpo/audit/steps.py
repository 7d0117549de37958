"""One optimizer step as a direction: the update is −η·direction for every learning rate η.

``sgd`` follows the gradient. ``adamw`` is PyTorch's AdamW with its defaults, whose weight decay is decoupled, so that
its direction does not depend on η either. Everything is a flat vector.
"""

from __future__ import annotations

from copy import deepcopy
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor

State = dict[str, Any]
"""``state_dict`` of an optimizer."""


def clipped(gradient: Tensor, max_norm: float | None) -> Tensor:
    """The gradient (N,) scaled down to an L2 norm of ``max_norm``, as :func:`torch.nn.utils.clip_grad_norm_` does."""
    if max_norm is None:
        return gradient
    return gradient * min(1.0, max_norm / (float(gradient.norm()) + 1e-6))


def adamw_step(
    gradient: Tensor, parameters: Tensor, weight_decay: float, before: State | None = None
) -> tuple[Tensor, State]:
    """Direction (N,) of the step that AdamW takes on ``gradient``, and its state after it.

    Args:
        before: state after earlier gradients, which stays as it is; ``None`` has seen none.
    """
    import torch

    moved = parameters.clone().requires_grad_()
    # The update at a learning rate of 1 is the direction.
    optimizer = torch.optim.AdamW([moved], lr=1.0, weight_decay=weight_decay)
    if before is not None:
        # Loading shares the tensors, and the step changes them in place.
        optimizer.load_state_dict(deepcopy(before))
    moved.grad = gradient
    optimizer.step()
    return parameters - moved.detach(), optimizer.state_dict()
