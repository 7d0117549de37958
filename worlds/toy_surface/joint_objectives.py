"""The project's objectives on the models of a stack, many at once.

Where the loss of a pair depends on that pair alone, the pairs of several models can be one batch, provided that each
pair meets the β of its own model and the λ of its own micro-batch: variants that differ in such numbers only are called
together, with tensors in the place of these numbers. Every other objective is called model by model.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields, replace
from itertools import groupby
from typing import TYPE_CHECKING, Any

from sdpo.objectives import Objective, PairErrors, PairPrediction
from sdpo.safeguard import refuse_not_finite, safe_scale

if TYPE_CHECKING:
    from torch import Tensor

    from sdpo.safeguard import Safeguard

PAIRWISE: dict[str, frozenset[str]] = {
    "anchored_dpo": frozenset({"beta", "weight"}),
    "chi_po": frozenset({"beta", "values"}),
    "diffusion_dpo": frozenset({"beta"}),
    "linear_dpo": frozenset({"beta"}),
    "sft": frozenset(),
    "thermo_dpo": frozenset({"beta"}),
}
"""Objectives whose loss of a pair depends on that pair alone, with the hyperparameters that may be tensors, one value
a pair. Those not named may look at the whole micro-batch, as `diffusion_kto` and form `sdxl` of `dspo` do, or compute
with plain numbers, as `dmpo` does."""


@dataclass(frozen=True)
class Predictions:
    """What M models and their references predicted, and what they should have.

    Each coordinate lies in a row of memory: means over three values that lie apart are twice as fast.

    Attributes:
        policy, reference, target: (2, 3, M, B) each, winners before losers; (1, 3, M, B) without losers.
        reference_error: (2 or 1, M, B), of the reference: a base's serve many models.
        time: (M, B), share of noise.
    """

    policy: Tensor
    reference: Tensor
    target: Tensor
    reference_error: Tensor
    time: Tensor

    def of(self, models: slice) -> Predictions:
        """Those of some models."""
        policy, reference, target = (x[:, :, models] for x in (self.policy, self.reference, self.target))
        return Predictions(policy, reference, target, self.reference_error[:, models], self.time[models])

    def pairs(self) -> PairPrediction:
        """The pairs of all models as one batch of M·B, (M·B, 3)."""
        parts: list[Tensor | None] = [None] * 6
        for kind, values in enumerate((self.policy, self.reference, self.target)):
            for branch, side in enumerate(values):
                parts[2 * kind + branch] = side.flatten(1).t()
        policy_w, policy_l, reference_w, reference_l, target_w, target_l = parts
        assert policy_w is not None and reference_w is not None and target_w is not None
        return PairPrediction(
            policy_w, policy_l, reference_w, reference_l, target_w, target_l, time=self.time.reshape(-1)
        )

    def errors(self, sides: Sequence[Sequence[Tensor]]) -> PairErrors:
        """The errors of all pairs as one batch of M·B.

        Args:
            sides: the policy's errors, (M·B,), its residuals and its shifts, (3, M, B) each, of the winners, and of
                the losers if there are any.
        """
        known: dict[str, Tensor] = {}
        every = zip(("winner", "loser"), sides, self.reference_error.flatten(1), strict=False)
        for side, (error, residual, shift), reference in every:
            known |= {f"policy_{side}": error, f"reference_{side}": reference}
            known |= {f"{side}_residual": residual.flatten(1).t(), f"{side}_shift": shift.flatten(1).t()}
        return PairErrors(**known, time=self.time.reshape(-1))


class JointGroup:
    """Objectives of some variants in a row, each with S seeds, that are called together.

    Args:
        models: the variants' models in the stack, all seeds of a variant in a row.
        alike: one objective a variant, of one kind (:func:`_kind`).
        seeds: S.
        batch: pairs of one model's micro-batch, B.
    """

    def __init__(self, models: slice, alike: Sequence[Objective], seeds: int, batch: int) -> None:
        import torch

        self.models, self.batch, first = models, batch, alike[0]
        self.losers = first.module.HAS_LOSER
        self.own = [objective for objective in alike for _ in range(seeds)]
        self.pairwise = first.name in PAIRWISE
        # Checked one by one already: tensors would not pass for numbers.
        values = {name: getattr(first.parameters, name) for name in type(first.parameters).model_fields}
        for name in PAIRWISE.get(first.name, ()):
            numbers = [float(getattr(o.parameters, name)) for o in alike]
            if len(set(numbers)) > 1:
                values[name] = torch.tensor(numbers, dtype=torch.float64).repeat_interleave(seeds * batch)
        self._together = replace(first, parameters=type(first.parameters).model_construct(**values))

    def __len__(self) -> int:
        return len(self.own)

    def __iter__(self) -> Iterator[int]:
        """Numbers of the models in the stack."""
        return iter(range(self.models.start, self.models.stop))

    def gradient(self, part: Predictions) -> Tensor:
        """Gradient of every model's own mean loss with respect to its predictions, (M, 2 or 1, B, 3).

        Args:
            part: predictions of this group's M models.

        Raises:
            InputError: a prediction is not finite.
        """
        return self._at_once(part) if self.pairwise else self._one_by_one(part)

    def _at_once(self, part: Predictions) -> Tensor:
        """By autograd from the loss to errors, residuals and shifts, and by hand from these to the predictions."""
        import torch

        residuals, shifts = part.policy.double() - part.target, part.policy - part.reference
        errors = residuals.square().mean(1).flatten(1)
        if not errors.sum().isfinite():
            refuse_not_finite("policy", part.policy)
        sides = [[x[branch].requires_grad_() for x in (errors, residuals, shifts)] for branch in range(len(errors))]
        scale = None if self._together.safeguard is None else self._scales(part)
        loss = self._together.loss(part.errors(sides), scale) * len(self)
        slopes = torch.autograd.grad(loss, [leaf for side in sides for leaf in side], allow_unused=True)
        gradient = part.policy.new_zeros(len(self), len(sides), self.batch, 3)
        for branch, residual in enumerate(residuals):
            # A loss may use neither residuals nor shifts, and leave out losers that it is given.
            by_error, *terms = slopes[3 * branch : 3 * branch + 3]
            if by_error is not None:
                # An error is the mean of three squares.
                terms.append(residual * (by_error * (2 / 3)).view(len(self), self.batch))
            used = [term for term in terms if term is not None]
            if used:
                gradient[:, branch] = sum(used[1:], used[0]).float().permute(1, 2, 0)
        return gradient

    def _one_by_one(self, part: Predictions) -> Tensor:
        """By autograd alone, with one call of each model's objective."""
        import torch

        pair = part.pairs()
        leaves = [side.requires_grad_() for side in (pair.policy_winner, pair.policy_loser) if side is not None]
        parts = zip(self.own, _split(pair, self.batch), strict=True)
        total = torch.stack([objective(own).loss for objective, own in parts]).sum()
        sides = torch.autograd.grad(total, leaves, allow_unused=True, materialize_grads=True)
        return torch.stack([side.view(len(self), self.batch, 3) for side in sides], dim=1)

    def _scales(self, part: Predictions) -> Tensor:
        """λ of each pair from the micro-batch of its own model and by its own objective, (models · B,)."""
        import torch

        guard = self.own[0].safeguard
        assert guard is not None
        if guard.granularity == "microbatch" and _plain(guard):
            # The residuals of a micro-batch as those of one pair.
            winner, loser = (part.policy - part.target).transpose(1, 2).flatten(2)
            scale = safe_scale(winner, loser, mu=guard.mu, granularity="sample", formula=guard.formula)
            return scale.repeat_interleave(self.batch)
        scales = []
        with torch.no_grad():
            for model, objective in enumerate(self.own):
                errors = objective.errors(part.of(slice(model, model + 1)).pairs())
                scales.append(objective.scale(errors).expand(self.batch))
        return torch.cat(scales)


def joint_groups(objectives: Sequence[Objective], seeds: int, batch: int) -> list[JointGroup]:
    """Objectives of V variants with S seeds each, in a stack of V·S models, all seeds of a variant in a row.

    Args:
        objectives: one a variant.
        seeds: S.
        batch: pairs of one model's micro-batch, B.
    """
    groups, start = [], 0
    for _, group in groupby(objectives, key=_kind):
        alike = list(group)
        stop = start + len(alike) * seeds
        groups.append(JointGroup(slice(start, stop), alike, seeds, batch))
        start = stop
    return groups


def _split(pair: PairPrediction, batch: int) -> list[PairPrediction]:
    """The pairs of each model, from those of all."""
    values = [getattr(pair, field.name) for field in fields(pair)]
    count = len(pair.policy_winner) // batch
    split = [[None] * count if x is None else x.split(batch) for x in values]
    return [PairPrediction(*own) for own in zip(*split, strict=True)]


def _plain(guard: Safeguard) -> bool:
    """Whether all pairs count alike and nothing is added, so that a micro-batch is to λ what one long pair is."""
    return guard.weights == "none" and guard.pulled_back == "scale" and guard.added_epsilon == 0.0


def _kind(objective: Objective) -> tuple[Any, ...]:
    """What objectives that are called together have in common."""
    rest = objective.parameters.model_dump(exclude=set(PAIRWISE.get(objective.name, ())))
    return objective.name, objective.safeguard, tuple(sorted(rest.items()))
