"""The project's objectives on the models of a stack, all at once.

Losses are per pair, so the pairs of several models can be one batch, provided that each pair meets the β of its own
model and the λ of its own micro-batch: variants that differ in numbers only are called together with tensors in the
place of these numbers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from typing import TYPE_CHECKING, Any

from sdpo.objectives import Objective, PairPrediction

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Predictions:
    """What M models and their references predicted, and what they should have.

    Attributes:
        policy, reference, target: (M, 2, B, 3) each, winners before losers; (M, 1, B, 3) without losers.
        time: (M, B), share of noise.
    """

    policy: Tensor
    reference: Tensor
    target: Tensor
    time: Tensor

    def of(self, models: slice) -> Predictions:
        """Those of some models."""
        return Predictions(self.policy[models], self.reference[models], self.target[models], self.time[models])

    def pairs(self) -> PairPrediction:
        """The pairs of all models as one batch of M·B."""
        parts: list[Tensor | None] = [None] * 6
        for branch in range(self.policy.shape[1]):
            for kind, values in enumerate((self.policy, self.reference, self.target)):
                parts[2 * kind + branch] = values[:, branch].reshape(-1, values.shape[-1])
        policy_w, policy_l, reference_w, reference_l, target_w, target_l = parts
        assert policy_w is not None and reference_w is not None and target_w is not None
        return PairPrediction(
            policy_w, policy_l, reference_w, reference_l, target_w, target_l, time=self.time.reshape(-1)
        )


class JointObjectives:
    """Objectives of V variants with S seeds each, in a stack of V·S models, all seeds of a variant in a row.

    Args:
        objectives: one a variant.
        seeds: S.
        batch: pairs of one model's micro-batch, B.
    """

    def __init__(self, objectives: Sequence[Objective], seeds: int, batch: int) -> None:
        import torch

        self.batch = batch
        self._groups: list[tuple[slice, Objective, list[Objective]]] = []
        start = 0
        for _, group in groupby(objectives, key=_kind):
            alike = list(group)
            stop = start + len(alike) * seeds
            numbers = {
                name: torch.tensor([float(getattr(o.parameters, name)) for o in alike]).repeat_interleave(seeds * batch)
                for name in _numbers(alike[0])
                if len({getattr(o.parameters, name) for o in alike}) > 1
            }
            # Checked one by one already: tensors would not pass for numbers.
            values = {name: getattr(alike[0].parameters, name) for name in type(alike[0].parameters).model_fields}
            joint = type(alike[0].parameters).model_construct(**{**values, **numbers})
            own = [objective for objective in alike for _ in range(seeds)]
            self._groups.append((slice(start, stop), replace(alike[0], parameters=joint), own))
            start = stop

    def gradient(self, predictions: Predictions) -> Tensor:
        """Gradient of every model's own mean loss with respect to its predictions, (M, 2 or 1, B, 3)."""
        import torch

        gradient = torch.empty_like(predictions.policy)
        for models, objective, own in self._groups:
            part = predictions.of(models)
            policy = part.policy.detach().requires_grad_()
            scale = None if objective.safeguard is None else self._scales(part, own)
            mean = objective(replace(part, policy=policy).pairs(), scale=scale).loss
            (gradient[models],) = torch.autograd.grad(mean * len(policy), policy)
        return gradient

    def _scales(self, part: Predictions, own: Sequence[Objective]) -> Tensor:
        """λ of each pair from the micro-batch of its own model and by its own objective, (models · B,)."""
        import torch

        scales = []
        with torch.no_grad():
            for model, objective in enumerate(own):
                errors = objective.errors(part.of(slice(model, model + 1)).pairs())
                scales.append(objective.scale(errors).expand(self.batch))
        return torch.cat(scales)


def _numbers(objective: Objective) -> list[str]:
    """Hyperparameters that are numbers."""
    return [n for n in type(objective.parameters).model_fields if _is_number(getattr(objective.parameters, n))]


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _kind(objective: Objective) -> tuple[Any, ...]:
    """What objectives that are called together have in common."""
    rest = objective.parameters.model_dump(exclude=set(_numbers(objective)))
    return objective.name, objective.safeguard, tuple(_numbers(objective)), tuple(sorted(rest.items()))
