"""Gradients of one optimizer step: predictions of policy and reference, loss, backward pass, metrics."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from itertools import islice
from typing import TYPE_CHECKING

from artifacts.errors import InputError
from sdpo.training.micro_batches import parts_together
from sdpo.training.noise_buckets import bucket_columns, bucket_sums, noise_share
from sdpo.training.sharding import own_piece
from sdpo.training.time_budget import StepDropped

if TYPE_CHECKING:
    import torch
    from torch.distributed import ProcessGroup

    from sdpo.bases import Base
    from sdpo.objectives import Objective, ObjectiveOutput, PairPrediction
    from sdpo.training.drawing import Drawn
    from sdpo.training.policy import Policy
    from sdpo.training.precision import Precision
    from sdpo.training.processes import Processes

LOGGED = (
    *("winner_drift", "loser_drift", "margin", "implicit_accuracy"),
    *("safe_scale_mean", "safe_scale_min", "residual_cosine"),
)


COMPARED = ("winner_drift", "loser_drift", "margin", "implicit_accuracy")
"""Beginnings of the names of metrics that compare policy and reference."""


class PairGradients:
    """Computes the gradients of steps.

    Args:
        base: the family's own part of a prediction.
        objective: loss and safeguard.
        policy: gets the gradients.
        precision: in which the denoisers compute.
        processes: those that share each step.
        values: of :func:`accumulate_gradients`.
    """

    def __init__(
        self,
        base: Base,
        objective: Objective,
        policy: Policy,
        precision: Precision,
        processes: Processes,
        *,
        values: int | None = None,
    ) -> None:
        self.base, self.objective, self.policy = base, objective, policy
        self.precision, self.processes, self.values = precision, processes, values
        self.uses_reference = bool(getattr(objective.module, "USES_REFERENCE", True))

    def predicted(self, drawn: Drawn, *, apart: bool = False, logged: bool = True) -> PairPrediction:
        """Predictions and targets.

        Losers of an objective that does not learn from them are predicted without gradients, and so apart.

        Args:
            drawn: the pairs.
            apart: winners and losers pass through the policy one after the other.
            logged: whether drifts are asked for. If not, what the objective does not look at is not predicted: losers
                are left out, and the policy stands for the reference.
        """
        import torch

        from families.conditions import joined
        from sdpo.diffusion.noising import noised, target
        from sdpo.objectives import PairPrediction

        drawn = drawn.to(self.precision.device)
        alpha, sigma = self.base.coefficients(drawn.timesteps)
        branches = [drawn.winner, drawn.loser]
        noisy = [noised(x, drawn.noise, alpha, sigma) for x in branches]
        targets = [target(self.base.parametrisation, x, drawn.noise, alpha, sigma) for x in branches]
        conditions = [drawn.winner_conditions, drawn.loser_conditions]
        time = sigma if self.base.parametrisation == "flow" else None
        both = torch.cat(noisy), torch.cat([drawn.timesteps] * 2), joined(conditions)
        predict = partial(self.precision.predict, self.base)
        compared = logged or self.uses_reference
        if compared:
            with torch.no_grad(), self.policy.as_reference() as denoiser:
                reference = list(predict(denoiser, *both).chunk(2))
        denoiser = self.policy.denoiser
        if apart or not self.objective.module.HAS_LOSER:
            winner = predict(denoiser, noisy[0], drawn.timesteps, conditions[0])
            if not (compared or self.objective.module.HAS_LOSER):
                return PairPrediction(winner, None, winner.detach(), None, targets[0], None, time)
            with torch.set_grad_enabled(self.objective.module.HAS_LOSER):
                policy = [winner, predict(denoiser, noisy[1], drawn.timesteps, conditions[1])]
        else:
            policy = list(predict(denoiser, *both).chunk(2))
        if not compared:
            reference = [x.detach() for x in policy]
        return PairPrediction(policy[0], policy[1], reference[0], reference[1], targets[0], targets[1], time)

    def fill(
        self,
        parts: Sequence[Drawn],
        pairs: int,
        *,
        turns: int = 0,
        leaving: Callable[[], bool] = bool,
        logged: bool = True,
    ) -> tuple[float, dict[str, float | None]]:
        """Fill the gradients of what trains, summed over all processes.

        Args:
            parts: micro-batches of this process.
            pairs: of the step, in all processes.
            turns: micro-batches of the process that has most of them.
            leaving: whether this process wants to leave; asked between micro-batches.
            logged: whether the metrics are asked for.

        Returns:
            The loss and the logged metrics, means over the pairs of the step; null what was not computed.

        Raises:
            InputError: a prediction is not finite, or objective and pairs do not fit.
            StepDropped: a process wants to leave.
        """
        outputs: list[ObjectiveOutput] = []
        going_on = self._while_all_stay(parts, max(turns, len(parts)), leaving)
        granularity = None if self.objective.safeguard is None else self.objective.safeguard.granularity
        together = len(parts) if granularity == "global" else parts_together(granularity, len(parts[0]))
        if granularity == "global" or together > 1:
            for first in range(0, len(parts), together):
                # The last takes what is left, on which the processes have to agree to stay.
                group = going_on if first + together >= len(parts) else islice(going_on, together)
                found, _ = accumulate_gradients(
                    self.objective,
                    (partial(self.predicted, part, apart=True, logged=logged) for part in group),
                    self.policy.trained,
                    pairs=pairs,
                    alike=self.processes.sharded,
                    values=self.values,
                )
                outputs += found
        else:
            for part in going_on:
                out = self.objective(self.predicted(part, logged=logged))
                (out.loss * (len(part) / pairs)).backward()
                outputs.append(out)
        if not self.processes.sharded:
            self.processes.add_up(p.grad for p in self.policy.trained if p.grad is not None)
        shares = [noise_share(*self.base.coefficients(part.timesteps.to(self.precision.device))) for part in parts]
        loss, metrics = self._means(outputs, [len(part) / pairs for part in parts], shares)
        if not (logged or self.uses_reference):
            metrics |= dict.fromkeys(name for name in metrics if name.startswith(COMPARED))
        return loss, metrics

    def _while_all_stay(self, parts: Sequence[Drawn], turns: int, leaving: Callable[[], bool]) -> Iterator[Drawn]:
        """The micro-batches; between them all processes find out whether one wants to leave, each as often."""
        for turn in range(turns):
            if turn and self.processes.any(leaving()):
                raise StepDropped
            if turn < len(parts):
                yield parts[turn]

    def _means(
        self, outputs: Sequence[ObjectiveOutput], shares: Sequence[float], noise: Sequence[torch.Tensor]
    ) -> tuple[float, dict[str, float | None]]:
        """Read from the device once a step.

        Args:
            outputs: of the micro-batches.
            shares: of the step's pairs that each has.
            noise: share of noise of each pair, (B,), by micro-batch.
        """
        import torch

        def column(values: Sequence[torch.Tensor]) -> torch.Tensor:
            found = torch.zeros((), dtype=torch.float64, device=self.precision.device)
            for share, value in zip(shares, values, strict=True):
                found = found + share * value.detach().double()
            return found

        present = [key for key in LOGGED if key in outputs[0].metrics]
        means = torch.stack(
            [column([out.loss for out in outputs]), *(column([o.metrics[key] for o in outputs]) for key in present)]
        )
        by_noise = torch.stack([bucket_sums(x, out) for x, out in zip(noise, outputs, strict=True)]).sum(0)
        self.processes.add_up([means, by_noise])
        loss, *values = means.tolist()
        metrics: dict[str, float | None] = dict.fromkeys(LOGGED) | dict(zip(present, values, strict=True))
        if "safe_scale_min" in present:
            least = torch.stack([out.metrics["safe_scale_min"].detach().double() for out in outputs]).min()
            self.processes.least(least)
            metrics["safe_scale_min"] = float(least)
        return loss, metrics | bucket_columns(by_noise.tolist(), outputs[0])


def accumulate_gradients(
    objective: Objective,
    micro_batches: Iterable[Callable[[], PairPrediction]],
    parameters: Sequence[torch.Tensor],
    *,
    pairs: int,
    alike: bool = False,
    values: int | None = None,
    group: ProcessGroup | None = None,
) -> tuple[list[ObjectiveOutput], torch.Tensor]:
    """Add the gradient of the mean loss over ``pairs`` pairs to ``.grad``, with one λ for all micro-batches.

    That λ is known only after the last of them, and scaling the loser's gradient needs it before. But no weight in any
    loss depends on λ, so the gradient of a step is ``G_w + λ·G_l``, with G_w what passes through the winners'
    predictions and G_l what passes through the losers': both are summed, and put together once λ is known. This costs a
    second buffer of gradients, and no second forward pass.

    The loss is the mean over micro-batches weighted by their sizes. With several processes each handles its own
    micro-batches, and under ``global`` λ is theirs together: the gradient is the sum of the processes', which is left
    to the caller.

    Args:
        objective: one with a safeguard and a loser.
        micro_batches: each call predicts one micro-batch, with gradients; the winners' and the losers' predictions
            should come from two forward passes, since the gradients of each are asked for in turn.
        parameters: of the policy, those that train.
        pairs: pairs of the step, in all micro-batches of all processes.
        alike: whether as many passes are made whatever the pairs are, since other processes make them too.
        values: as many as each pair's residuals count for in λ, the same for all that share one; left out, as many as
            they have.
        group: processes that share λ under ``global``; all by default.

    Returns:
        The outputs of the micro-batches, with λ among their metrics, and λ, ().

    Raises:
        InputError: no micro-batch, or objective and pairs do not fit.
    """
    import torch

    total, outputs, exempted = None, [], []
    losers: list[torch.Tensor | None] = [None] * len(parameters)
    for predict in micro_batches:
        pair = predict()
        errors = objective.errors(pair)
        sums, exempt = objective.residual_sums(errors)
        if values is not None:
            sums = sums.counted_as(values * len(errors.policy_winner))
        total = sums if total is None else total + sums
        out = objective(pair, scale=torch.ones_like(errors.policy_winner[0].detach()))
        outputs.append(out)
        exempted.append(torch.zeros_like(errors.policy_winner, dtype=torch.bool) if exempt is None else exempt)
        if pair.policy_loser is None:
            raise InputError("the pair has no loser: expected policy_loser, reference_loser and target_loser")
        share = len(pair.policy_winner) / pairs
        winner_grad, loser_grad = torch.autograd.grad(
            out.loss * share, [pair.policy_winner, pair.policy_loser], allow_unused=True
        )
        if winner_grad is not None:
            torch.autograd.backward(pair.policy_winner, winner_grad)
        if loser_grad is None:
            continue
        if exempt is not None and (alike or bool(exempt.any())):
            free = exempt.reshape(-1, *[1] * (loser_grad.ndim - 1))
            torch.autograd.backward(pair.policy_loser, loser_grad * free, retain_graph=True)
            loser_grad = loser_grad * ~free
        with _exchanged(parameters, losers):
            torch.autograd.backward(pair.policy_loser, loser_grad)
    if total is None:
        raise InputError("no micro-batch: expected at least one")
    if objective.safeguard is not None and objective.safeguard.granularity == "global":
        total = total.all_reduced(group)
    scale = objective.scale_of(total)
    for out, exempt in zip(outputs, exempted, strict=True):
        own = torch.where(exempt, 1.0, scale)
        out.metrics.update(safe_scale=own, safe_scale_mean=own.mean(), safe_scale_min=own.min())
    for parameter, grad in zip(parameters, losers, strict=True):
        if grad is not None:
            held = own_piece(grad)
            held *= scale.to(held)
            parameter.grad = grad if parameter.grad is None else parameter.grad.add_(grad)
    return outputs, scale


@contextmanager
def _exchanged(parameters: Sequence[torch.Tensor], held: list[torch.Tensor | None]) -> Iterator[None]:
    """Within, what is added to ``.grad`` is added to what is held, in place; two sets of gradients are all there is."""
    own = [parameter.grad for parameter in parameters]
    for parameter, grad in zip(parameters, held, strict=True):
        parameter.grad = grad
    try:
        yield
    finally:
        held[:] = [parameter.grad for parameter in parameters]
        for parameter, grad in zip(parameters, own, strict=True):
            parameter.grad = grad
