"""An objective on the models of one variant, all seeds at once.

Where the loss of a pair depends on that pair alone, the pairs of all models are one batch, provided that each meets the
λ of its own model's micro-batch. Every other objective is called model by model.
"""

from __future__ import annotations

from dataclasses import fields, replace
from typing import TYPE_CHECKING, TypeVar

from sdpo.diffusion.errors import PairErrors, PairPrediction

if TYPE_CHECKING:
    from torch import Tensor

    from sdpo.objectives import Objective

PAIRWISE = frozenset({"anchored_dpo", "bdpo", "chi_po", "diffusion_dpo", "linear_dpo", "poly_dpo", "sft", "thermo_dpo"})
"""Objectives whose loss of a pair depends on that pair alone. Those not named may look at the whole micro-batch, as
`diffusion_kto` and form `sdxl` of `dspo` do."""

_Pairs = TypeVar("_Pairs", PairErrors, PairPrediction)


def joint_pairs(policy: Tensor, reference: Tensor, target: Tensor, time: Tensor) -> PairPrediction:
    """The pairs of M models as one batch of M·B, model after model.

    Args:
        policy, reference, target: (M, 3, 2·B) each, winners before losers; (M, 3, B) without losers.
        time: (M, B), share of noise.
    """
    count = time.shape[1]
    sides = []
    for values in (policy, reference, target):
        both = [side.mT.reshape(-1, 3) for side in values.split(count, dim=2)]
        sides += both if len(both) == 2 else [*both, None]
    policy_w, policy_l, reference_w, reference_l, target_w, target_l = sides
    assert policy_w is not None and reference_w is not None and target_w is not None
    return PairPrediction(policy_w, policy_l, reference_w, reference_l, target_w, target_l, time=time.reshape(-1))


def of_each(pairs: _Pairs, models: int) -> list[_Pairs]:
    """From the M·B pairs of M models, those of each, B."""
    values = {field.name: value for field in fields(pairs) if (value := getattr(pairs, field.name)) is not None}
    chunks = {name: value.chunk(models) for name, value in values.items()}
    return [replace(pairs, **{name: own[model] for name, own in chunks.items()}) for model in range(models)]


def joint_loss(objective: Objective, pairs: PairPrediction, models: int) -> Tensor:
    """Sum of the M models' losses, (): to each model its gradient is that of its own loss.

    Args:
        objective: of all M models.
        pairs: of :func:`joint_pairs`.
        models: M.

    Raises:
        InputError: a prediction is not finite.
    """
    import torch

    errors = objective.errors(pairs)
    each = of_each(errors, models)
    guarded = objective.safeguard is not None
    with torch.no_grad():
        scales = [objective.scale(own) if guarded else None for own in each]
    if objective.name not in PAIRWISE:
        return torch.stack([objective.loss(own, scale) for own, scale in zip(each, scales, strict=True)]).sum()
    count = len(errors.policy_winner) // models
    joint = torch.cat([scale.expand(count) for scale in scales if scale is not None]) if guarded else None
    return models * objective.loss(errors, joint)
