"""Gradients of one optimizer step whose λ is that of all its micro-batches (granularity ``global``).

λ is known only after the last micro-batch, and scaling the loser's gradient needs it before. But no weight in any loss
depends on λ, so the gradient of a step is ``G_w + λ·G_l``, with G_w what passes through the winners' predictions and
G_l what passes through the losers': both are summed over the micro-batches, and put together once λ is known. This
costs a second buffer of gradients, and no second forward pass.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING

from artifacts.errors import InputError

if TYPE_CHECKING:
    from torch import Tensor
    from torch.distributed import ProcessGroup

    from sdpo.objectives import Objective, ObjectiveOutput, PairPrediction


def accumulate_gradients(
    objective: Objective,
    micro_batches: Iterable[Callable[[], PairPrediction]],
    parameters: Sequence[Tensor],
    *,
    pairs: int,
    group: ProcessGroup | None = None,
) -> tuple[list[ObjectiveOutput], Tensor]:
    """Add the gradient of the mean loss over ``pairs`` pairs to ``.grad`` of the parameters.

    The loss is the mean over micro-batches weighted by their sizes. With several processes each handles its own
    micro-batches, and λ is theirs together: the gradient is the sum of the processes', which is left to the caller.

    Args:
        objective: one with a safeguard and a loser.
        micro_batches: each call predicts one micro-batch, with gradients; the winners' and the losers' predictions
            should come from two forward passes, since the gradients of each are asked for in turn.
        parameters: of the policy, those that train.
        pairs: pairs of the step, in all micro-batches of all processes.
        group: processes that share λ; all by default.

    Returns:
        The outputs of the micro-batches, whose metrics on λ are those of λ = 1, and λ, ().

    Raises:
        InputError: no micro-batch, or objective and pairs do not fit.
    """
    import torch

    total, outputs = None, []
    losers: list[Tensor | None] = [None] * len(parameters)
    for predict in micro_batches:
        pair = predict()
        errors = objective.errors(pair)
        sums, exempt = objective.residual_sums(errors)
        total = sums if total is None else total + sums
        out = objective(pair, scale=torch.ones_like(errors.policy_winner[0].detach()))
        outputs.append(out)
        if pair.policy_loser is None:
            raise InputError("the pair has no loser: expected policy_loser, reference_loser and target_loser")
        share = len(pair.policy_winner) / pairs
        winner_grad, loser_grad = torch.autograd.grad(
            out.loss * share, [pair.policy_winner, pair.policy_loser], allow_unused=True
        )
        if winner_grad is not None:
            _add(parameters, _pulled(pair.policy_winner, winner_grad, parameters))
        if loser_grad is None:
            continue
        if exempt is not None and bool(exempt.any()):
            free = exempt.reshape(-1, *[1] * (loser_grad.ndim - 1))
            _add(parameters, _pulled(pair.policy_loser, loser_grad * free, parameters, again=True))
            loser_grad = loser_grad * ~free
        for i, grad in enumerate(_pulled(pair.policy_loser, loser_grad, parameters)):
            if grad is not None:
                before = losers[i]
                losers[i] = grad if before is None else before + grad
    if total is None:
        raise InputError("no micro-batch: expected at least one")
    scale = objective.scale_of(total.all_reduced(group))
    _add(parameters, [None if grad is None else scale.to(grad) * grad for grad in losers])
    return outputs, scale


def _pulled(
    prediction: Tensor, grad: Tensor, parameters: Sequence[Tensor], *, again: bool = False
) -> tuple[Tensor | None, ...]:
    """The gradient at the prediction, carried back to the parameters; ``again``: the graph is needed once more."""
    import torch

    return torch.autograd.grad(prediction, parameters, grad, retain_graph=again, allow_unused=True)


def _add(parameters: Sequence[Tensor], grads: Sequence[Tensor | None]) -> None:
    for parameter, grad in zip(parameters, grads, strict=True):
        if grad is not None:
            parameter.grad = grad if parameter.grad is None else parameter.grad + grad
