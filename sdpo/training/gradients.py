"""Gradients of one optimizer step: predictions of policy and reference, loss, backward pass, metrics."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import TYPE_CHECKING

from sdpo.training.accumulation import accumulate_gradients
from sdpo.training.time_budget import StepDropped

if TYPE_CHECKING:
    import torch

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


class PairGradients:
    """Computes the gradients of steps.

    Args:
        base: the family's own part of a prediction.
        objective: loss and safeguard.
        policy: gets the gradients.
        precision: in which the denoisers compute.
        processes: those that share each step.
    """

    def __init__(
        self, base: Base, objective: Objective, policy: Policy, precision: Precision, processes: Processes
    ) -> None:
        self.base, self.objective, self.policy = base, objective, policy
        self.precision, self.processes = precision, processes

    def predicted(self, drawn: Drawn, *, apart: bool = False) -> PairPrediction:
        """Predictions and targets; ``apart``: winners and losers pass through the policy one after the other.

        Losers of an objective that does not learn from them are predicted without gradients, and so apart.
        """
        import torch

        from sdpo.diffusion.conditions import joined
        from sdpo.diffusion.noising import noised, target
        from sdpo.objectives import PairPrediction

        drawn = drawn.to(self.precision.device)
        alpha, sigma = self.base.coefficients(drawn.timesteps)
        branches = [drawn.winner, drawn.loser]
        noisy = [noised(x, drawn.noise, alpha, sigma) for x in branches]
        targets = [target(self.base.parametrisation, x, drawn.noise, alpha, sigma) for x in branches]
        conditions = [drawn.winner_conditions, drawn.loser_conditions]
        both = torch.cat(noisy), torch.cat([drawn.timesteps] * 2), joined(conditions)
        predict = partial(self.precision.predict, self.base)
        with torch.no_grad(), self.policy.as_reference() as denoiser:
            reference = predict(denoiser, *both).chunk(2)
        denoiser = self.policy.denoiser
        if apart or not self.objective.module.HAS_LOSER:
            winner = predict(denoiser, noisy[0], drawn.timesteps, conditions[0])
            with torch.set_grad_enabled(self.objective.module.HAS_LOSER):
                policy = [winner, predict(denoiser, noisy[1], drawn.timesteps, conditions[1])]
        else:
            policy = list(predict(denoiser, *both).chunk(2))
        time = sigma if self.base.parametrisation == "flow" else None
        return PairPrediction(policy[0], policy[1], reference[0], reference[1], targets[0], targets[1], time)

    def fill(
        self, parts: Sequence[Drawn], pairs: int, *, turns: int = 0, leaving: Callable[[], bool] = bool
    ) -> tuple[float, dict[str, float | None]]:
        """Fill the gradients of what trains, summed over all processes.

        Args:
            parts: micro-batches of this process.
            pairs: of the step, in all processes.
            turns: micro-batches of the process that has most of them.
            leaving: whether this process wants to leave; asked between micro-batches.

        Returns:
            The loss and the logged metrics, means over the pairs of the step.

        Raises:
            InputError: a prediction is not finite, or objective and pairs do not fit.
            StepDropped: a process wants to leave.
        """
        guard = self.objective.safeguard
        going_on = self._while_all_stay(parts, max(turns, len(parts)), leaving)
        if guard is not None and guard.granularity == "global":
            outputs, scale = accumulate_gradients(
                self.objective,
                (partial(self.predicted, part, apart=True) for part in going_on),
                self.policy.trained,
                pairs=pairs,
            )
            for out in outputs:
                out.metrics.update(safe_scale_mean=scale, safe_scale_min=scale)
        else:
            outputs = []
            for part in going_on:
                out = self.objective(self.predicted(part))
                (out.loss * (len(part) / pairs)).backward()
                outputs.append(out)
        self.processes.add_up(p.grad for p in self.policy.trained if p.grad is not None)
        return self._means(outputs, [len(part) / pairs for part in parts])

    def _while_all_stay(self, parts: Sequence[Drawn], turns: int, leaving: Callable[[], bool]) -> Iterator[Drawn]:
        """The micro-batches; between them all processes find out whether one wants to leave, each as often."""
        for turn in range(turns):
            if turn and self.processes.any(leaving()):
                raise StepDropped
            if turn < len(parts):
                yield parts[turn]

    def _means(
        self, outputs: Sequence[ObjectiveOutput], shares: Sequence[float]
    ) -> tuple[float, dict[str, float | None]]:
        """Read from the device once a step."""
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
        self.processes.add_up([means])
        loss, *values = means.tolist()
        metrics: dict[str, float | None] = dict.fromkeys(LOGGED) | dict(zip(present, values, strict=True))
        if "safe_scale_min" in present:
            least = torch.stack([out.metrics["safe_scale_min"].detach().double() for out in outputs]).min()
            self.processes.least(least)
            metrics["safe_scale_min"] = float(least)
        return loss, metrics
