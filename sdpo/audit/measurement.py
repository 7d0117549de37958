"""Gradients, limits of λ and real changes of the winners' error, of one model on micro-batches of a pair cache.

Everything is computed in float64: a small step changes the error by less than float32 resolves.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sdpo.audit.first_order import cosine, limit, predicted_change, scale
from sdpo.audit.settings import AuditSettings, StepSettings
from sdpo.audit.steps import State, adamw_step, clipped
from sdpo.training.order import Order

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from families.conditions import Conditions
    from sdpo.bases import Base
    from sdpo.objectives import Objective, PairPrediction
    from sdpo.pairs.cache import Pairs

Guard = tuple[str, float | None]
"""Where λ of a step comes from, and its slack: ``off`` (λ = 1, no slack), ``output`` (the safeguard as it is trained
with), ``parameter`` (‖∇A‖²/⟨∇A, ∇B⟩ by the parameters), ``objective`` (the exact limit of the objective's own gradient,
which differs from ``parameter`` where the objective weights pairs unequally)."""


@dataclass(frozen=True)
class MicroBatch:
    """B pairs, noised; both members of a pair share noise and timestep. Tensors are (2B, …), winners first."""

    noisy: Tensor
    timesteps: Tensor
    conditions: Conditions
    targets: Tensor
    reference: Tensor


@dataclass(frozen=True)
class Measured:
    """What one micro-batch says at unchanged weights; gradients are flat, (P,).

    Attributes:
        error_gradient: ∇A, of the mean winner error.
        gradients: gradient of the objective for each guard.
        scales: λ for each guard; its mean where it differs between pairs.
        figures: columns of contract ``audit`` that no step changes.
    """

    error_gradient: Tensor
    gradients: dict[Guard, Tensor]
    scales: dict[Guard, float]
    figures: dict[str, float]


class Auditor:
    """One model under audit.

    Args:
        base: the base the model descends from.
        denoiser: the model; it is converted to float64, and its weights are what they were after every call.
        reference: the frozen reference of the objective.
        pairs: pairs to draw from.
        objectives: the objective with the safeguard off (``None``) and on at each μ.
    """

    def __init__(
        self,
        base: Base,
        denoiser: torch.nn.Module,
        reference: torch.nn.Module,
        pairs: Pairs,
        objectives: Mapping[float | None, Objective],
        settings: AuditSettings,
        step: StepSettings,
    ) -> None:
        self.base, self.pairs, self.objectives = base, pairs, objectives
        self.settings, self.step = settings, step
        self.order = Order(pairs.shapes, step.batch_size, settings.seed)
        self.denoiser = denoiser.double().eval().requires_grad_(True)
        self.reference = reference.double().eval().requires_grad_(False)

    def rows(self, model: str) -> Iterator[dict[str, Any]]:
        """Rows of contract ``audit``, batch by batch."""
        settings, warmed = self.settings, self.warmed()
        for number in range(settings.batches):
            batch = self.micro_batch(number)
            measured = self.measure(batch)
            other = self.micro_batch(number + 1)
            other_error = self.winner_error(other)
            # Guards that agree on λ share their gradient, and with it the steps: each is taken once.
            taken: dict[tuple[int, int], list[dict[str, Any]]] = {}
            for (guard, mu), gradient in measured.gradients.items():
                state = warmed.get((guard, mu))
                key = id(gradient), id(state)
                if key not in taken:
                    taken[key] = [
                        {
                            "optimizer": optimizer,
                            "learning_rate": rate,
                            "update_norm": float(update.norm()),
                            "predicted_change": predicted_change(measured.error_gradient, update),
                            "real_change": self.winner_error(batch, update) - measured.figures["winner_error"],
                            "other_change": self.winner_error(other, update) - other_error,
                        }
                        for optimizer, rate, update in self._updates(gradient, state)
                    ]
                for step in taken[key]:
                    yield {
                        "model": model,
                        "batch": number,
                        "guard": guard,
                        "mu": mu,
                        "safe_scale": measured.scales[guard, mu],
                        **measured.figures,
                        **step,
                    }

    def micro_batch(self, number: int) -> MicroBatch:
        """Micro-batch ``number``, the same for every model of a pair set."""
        import torch

        from artifacts.random_streams import stream
        from families.conditions import converted, joined
        from sdpo.diffusion.noising import noised, target
        from sdpo.training.drawing import AUDIT

        pairs, seed = self.pairs, self.settings.seed
        rows = self.order.rows(self.step.batch_size, number + 1)
        random = stream(AUDIT, seed, number)
        sides, prompts = [pairs.winners(rows), pairs.losers(rows)], pairs.prompts(rows)
        noise = torch.randn(sides[0].latents.mean.shape, generator=random).double()
        timesteps = self.base.draw_timesteps(len(rows), random)
        process = noise, *self.base.coefficients(timesteps)
        latents = [side.latents.sampled(random).double() for side in sides]
        noisy = torch.cat([noised(x, *process) for x in latents])
        targets = torch.cat([target(self.base.parametrisation, x, *process) for x in latents])
        timesteps = torch.cat([timesteps] * 2)
        both = joined([{**prompts, **self.base.image_conditions(side.sizes)} for side in sides])
        conditions = converted(both, torch.float64)
        with torch.no_grad():
            reference = self.base.predict(self.reference, noisy, timesteps, conditions)
        return MicroBatch(noisy, timesteps, conditions, targets, reference)

    def measure(self, batch: MicroBatch) -> Measured:
        """Gradients and λ of one micro-batch."""
        import torch

        from sdpo.diffusion.errors import pair_errors

        pair = self._predicted(batch)
        errors = pair_errors(pair)
        assert pair.policy_loser is not None and errors.policy_loser is not None and errors.loser_residual is not None
        winner, loser = errors.policy_winner.mean(), errors.policy_loser.mean()
        error_gradient, loser_gradient = self._gradient(winner), self._gradient(loser)
        plain = self.objectives[None](pair)
        whole = self._gradient(plain.loss)
        at_output = torch.autograd.grad(plain.loss, pair.policy_loser, retain_graph=True, materialize_grads=True)[0]
        loser_part = self._gradient(pair.policy_loser, at_output)
        winner_part = whole - loser_part

        residuals = errors.winner_residual.detach().flatten(), errors.loser_residual.detach().flatten()
        output_limit = limit(residuals[0], residuals[0], -residuals[1])
        limits = {
            "parameter": limit(error_gradient, error_gradient, -loser_gradient),
            "objective": limit(error_gradient, winner_part, loser_part),
        }
        gradients: dict[Guard, Tensor] = {("off", None): whole}
        scales: dict[Guard, float] = {("off", None): 1.0}
        for mu in self.settings.mu:
            guarded = self.objectives[mu](pair)
            scales["output", mu] = float(guarded.metrics["safe_scale_mean"])
            everywhere = bool((guarded.metrics["safe_scale"] == 1).all())
            gradients["output", mu] = whole if everywhere else self._gradient(guarded.loss)
            by_scale = {1.0: whole}
            for space, largest in limits.items():
                scales[space, mu] = scale(largest, mu)
                # The two limits are one but for rounding where the objective weights all pairs equally.
                alike = round(scales[space, mu], 12)
                gradients[space, mu] = by_scale.setdefault(alike, winner_part + scales[space, mu] * loser_part)
        figures = {
            "output_cosine": cosine(*residuals),
            "parameter_cosine": cosine(error_gradient, loser_gradient),
            "output_limit": output_limit,
            **{f"{space}_limit": largest for space, largest in limits.items()},
            "winner_error": float(winner.detach()),
            "loser_error": float(loser.detach()),
            "winner_gradient_norm": float(error_gradient.norm()),
            "loser_gradient_norm": float(loser_gradient.norm()),
        }
        return Measured(error_gradient, gradients, scales, figures)

    def warmed(self) -> dict[Guard, State]:
        """State of AdamW for each guard, after the gradients of micro-batches that are not measured."""
        states: dict[Guard, State] = {}
        parameters = self.parameters()
        first = self.settings.batches
        for number in range(first, first + self.settings.warmed_batches):
            # As for steps: guards that have agreed so far share their state.
            shared: dict[tuple[int, int], State] = {}
            for guard, gradient in self.measure(self.micro_batch(number)).gradients.items():
                before = states.get(guard)
                key = id(before), id(gradient)
                if key not in shared:
                    gradient = clipped(gradient, self.step.max_grad_norm)
                    _, shared[key] = adamw_step(gradient, parameters, self.step.weight_decay, before)
                states[guard] = shared[key]
        return states

    def winner_error(self, batch: MicroBatch, update: Tensor | None = None) -> float:
        """Mean winner error of the micro-batch, with the parameters moved by ``update``, (P,), if it is given."""
        import torch
        from torch.nn.utils import vector_to_parameters

        from families.conditions import picked

        count = len(batch.targets) // 2
        parameters = list(self.denoiser.parameters())
        before = self.parameters()
        with torch.no_grad():
            try:
                vector_to_parameters(before if update is None else before + update, parameters)
                winners = slice(count)
                predicted = self.base.predict(
                    self.denoiser, batch.noisy[winners], batch.timesteps[winners], picked(batch.conditions, winners)
                )
            finally:
                vector_to_parameters(before, parameters)
            return float((predicted - batch.targets[:count]).square().mean())

    def parameters(self) -> Tensor:
        """A copy of all parameters, (P,)."""
        import torch
        from torch.nn.utils import parameters_to_vector

        with torch.no_grad():
            vector: Tensor = parameters_to_vector(self.denoiser.parameters())
            return vector.clone()

    def _updates(self, gradient: Tensor, warmed: State | None) -> Iterator[tuple[str, float, Tensor]]:
        """Optimizer, learning rate and update (P,) of every step to be taken."""
        gradient = clipped(gradient, self.step.max_grad_norm)
        for rate in self.settings.sgd:
            yield "sgd", rate, -rate * gradient
        states = {"adamw": None, **({} if warmed is None else {"adamw_warmed": warmed})}
        for name, state in states.items() if self.settings.adamw else ():
            direction, _ = adamw_step(gradient, self.parameters(), self.step.weight_decay, state)
            for rate in self.settings.adamw:
                yield name, rate, -rate * direction

    def _predicted(self, batch: MicroBatch) -> PairPrediction:
        from sdpo.objectives import PairPrediction

        policy = self.base.predict(self.denoiser, batch.noisy, batch.timesteps, batch.conditions).chunk(2)
        reference, targets = batch.reference.chunk(2), batch.targets.chunk(2)
        return PairPrediction(policy[0], policy[1], reference[0], reference[1], targets[0], targets[1])

    def _gradient(self, value: Tensor, weight: Tensor | None = None) -> Tensor:
        """Gradient (P,) of ``value`` by the parameters, or of its inner product with ``weight``."""
        import torch

        parts = torch.autograd.grad(
            value, list(self.denoiser.parameters()), weight, retain_graph=True, materialize_grads=True
        )
        return torch.cat([part.flatten() for part in parts])
