"""What holds for every objective, as checks on drawn pairs: run by ``sdpo check-objective`` and by the project's tests.

A check takes an objective and a :class:`Draw` and says in one line what is wrong; nothing if all is well. Computed in
float64, so that a tolerance of 1e-9 is that of the sums of a few values, not of the formula.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Any

from sdpo.objectives import Objective, PairPrediction, pair_losses, pair_weights

if TYPE_CHECKING:
    import torch

TOLERANCE = 1e-9


@dataclass(frozen=True)
class Draw:
    """Four drawn pairs and settings of the safeguard.

    Attributes:
        agreement: the losers' residuals are so many times the winners', plus noise.
        moved: whether the policy has left its reference, as it has not where training starts.
        mu: slack of the safeguard.
        granularity: of the safeguard.
        scale: λ, of all pairs or of each.
        order: another order of the pairs.
    """

    seed: int = 0
    agreement: float = 1.0
    moved: bool = True
    mu: float = 0.5
    granularity: str = "microbatch"
    scale: float | Sequence[float] = 0.3
    order: Sequence[int] = (2, 0, 3, 1)


def pairs(draw: Draw, *, batch: int = 4, dtype: torch.dtype | None = None) -> PairPrediction:
    """Drawn pairs; references are a little better than the policies, so that a reference point of KTO is 0."""
    import torch

    generator = torch.Generator().manual_seed(draw.seed)

    def normal() -> torch.Tensor:
        return torch.randn(batch, 2, 3, generator=generator, dtype=torch.float64)

    targets, residual = [normal(), normal()], 0.3 * normal() + 0.1
    residuals = [residual, draw.agreement * residual + 0.1 * normal()]
    policies = [t + r for t, r in zip(targets, residuals, strict=True)]
    references = [t + 0.9 * r + 0.005 * normal() for t, r in zip(targets, residuals, strict=True)]
    time = torch.rand(batch, generator=generator, dtype=torch.float64) * 0.8 + 0.1
    if not draw.moved:
        references = policies
    tensors = (x.to(dtype or torch.float64, copy=True) for x in (*policies, *references, *targets, time))
    made = PairPrediction(*tensors)
    for leaf in leaves(made):
        leaf.requires_grad_()
    return made


def leaves(pair: PairPrediction) -> list[torch.Tensor]:
    """The policy's predictions."""
    return [x for x in (pair.policy_winner, pair.policy_loser) if x is not None]


def rows(pair: PairPrediction, chosen: Any) -> PairPrediction:
    """Some of the pairs, by any index of tensors."""
    values: dict[str, Any] = {f.name: getattr(pair, f.name) for f in fields(pair)}
    taken: dict[str, Any] = {name: None if x is None else x[chosen] for name, x in values.items()}
    return PairPrediction(**taken)


def gradients(objective: Objective, pair: PairPrediction, **options: Any) -> list[torch.Tensor]:
    """Gradients of the mean loss by the policy's predictions; zero where the loss does not look."""
    import torch

    at = leaves(pair)
    found = torch.autograd.grad(objective(pair, **options).loss, at, allow_unused=True)
    return [torch.zeros_like(x) if g is None else g for x, g in zip(at, found, strict=True)]


def finite(objective: Objective, draw: Draw) -> str:
    """Losses and gradients are numbers, one loss a pair, in float64 and in float32."""
    import torch

    for dtype in (torch.float64, torch.float32):
        pair = pairs(draw, dtype=dtype)
        losses = pair_losses(objective, objective.errors(pair))
        found = {"loss": losses, "gradient": torch.cat(gradients(objective, pair))}
        for name, value in found.items():
            if not torch.isfinite(value).all():
                where = "" if draw.moved else " where policy and reference are equal, as they are when training starts"
                return f"the {name} is not finite in {str(dtype).removeprefix('torch.')}{where}"
    return ""


def repeated(objective: Objective, draw: Draw) -> str:
    """The same pairs have the same loss again, and are left as they were."""
    import torch

    pair, before = pairs(draw), pairs(draw)
    first, second = (pair_losses(objective, objective.errors(pair)).detach().clone() for _ in range(2))
    if not torch.equal(first, second):
        return "the same pairs have another loss the second time: all randomness is to come from the caller"
    if not all(torch.equal(getattr(pair, f.name), getattr(before, f.name)) for f in fields(pair)):
        return "the loss changes the predictions that it is given"
    return ""


def ordered(objective: Objective, draw: Draw) -> str:
    """Losses and gradients follow the order of the pairs."""
    order = list(draw.order)
    pair = pairs(draw)
    permuted = rows(pair, order)
    expected = [pair_losses(objective, objective.errors(pair))[order], *(g[order] for g in gradients(objective, pair))]
    found = [pair_losses(objective, objective.errors(permuted)), *gradients(objective, permuted)]
    if difference := _differ(found, expected):
        return f"pairs in another order have other losses or gradients ({difference})"
    return ""


def alone(objective: Objective, draw: Draw) -> str:
    """The loss of a pair does not depend on its neighbours, unless the module says ``REDUCES = True``."""
    import torch

    if getattr(objective.module, "REDUCES", False):
        return ""
    pair = pairs(draw)
    expected = pair_losses(objective, objective.errors(pair))
    single = [rows(pair, slice(i, i + 1)) for i in range(len(expected))]
    found = torch.cat([pair_losses(objective, objective.errors(one)) for one in single])
    if difference := _differ([found], [expected]):
        return (
            f"a pair alone has another loss than among others ({difference}); a loss that takes a mean over pairs says "
            "REDUCES = True"
        )
    return ""


def scaled(objective: Objective, draw: Draw) -> str:
    """λ changes no value and no winner's gradient; it multiplies the loser's."""
    import torch

    if not objective.module.HAS_LOSER:
        return ""
    pair, scale = pairs(draw), torch.tensor(draw.scale, dtype=torch.float64)
    plain, safe = objective(pair), objective(pair, scale=scale)
    if not torch.equal(plain.loss, safe.loss):
        return f"the safe scale changes the loss, from {plain.loss.item():.6g} to {safe.loss.item():.6g}"
    (winner, loser), (safe_winner, safe_loser) = gradients(objective, pair), gradients(objective, pair, scale=scale)
    if difference := _differ([safe_winner], [winner]):
        return f"the safe scale changes the winner's gradient ({difference})"
    if difference := _differ([safe_loser], [scale.reshape(-1, 1, 1) * loser]):
        return f"the loser's gradient is not multiplied by the safe scale ({difference})"
    return ""


def differentiated(objective: Objective, draw: Draw) -> str:
    """Gradients are those of finite differences, unless the module says ``STOPS_GRADIENT = True``."""
    import torch

    if getattr(objective.module, "STOPS_GRADIENT", False) or not draw.moved:
        return ""
    pair = pairs(draw)
    generator = torch.Generator().manual_seed(draw.seed)
    names = ("policy_winner", "policy_loser") if objective.module.HAS_LOSER else ("policy_winner",)
    for name, gradient in zip(names, gradients(objective, pair), strict=False):
        at = getattr(pair, name).detach()
        direction = torch.randn(at.shape, generator=generator, dtype=torch.float64)

        def value(step: float, name: str = name, by: torch.Tensor = direction, at: torch.Tensor = at) -> float:
            return objective(replace(pair, **{name: at + step * by})).loss.item()

        def slope(step: float, value: Callable[[float], float] = value) -> float:
            return (value(step) - value(-step)) / (2 * step)

        coarse, fine = slope(2e-5), slope(1e-5)
        # Without its error of second order; what is left is at most the difference of the two.
        expected = (4 * fine - coarse) / 3
        found = (gradient * direction).sum().item()
        if not abs(found - expected) <= max(1e-5 * abs(expected), abs(expected - fine), 1e-8):
            side = name.partition("_")[2]
            return (
                f"the gradient by the {side}'s prediction is {found:.6g} where finite differences give {expected:.6g}: "
                "part of the loss is detached, or its backward pass is wrong; a loss that holds a part on purpose says "
                "STOPS_GRADIENT = True"
            )
    return ""


def weighed(objective: Objective, draw: Draw) -> str:
    """The weights a_w and a_l are what the gradients have along the residuals, those of ``weights`` as any others.

    What passes through the shifts is left out, and of what passes through the residuals, what lies along the shifts.
    Gradients that leave the plane of the two, as of a loss of single values, do not say what a weight is.
    """
    import torch

    errors = objective.errors(pairs(draw))
    stated, own = pair_weights(objective, errors), hasattr(objective.module, "weights")
    values = {field.name: getattr(errors, field.name) for field in fields(errors)}
    fixed: dict[str, Any] = {name: None if value is None else value.detach() for name, value in values.items()}
    through = ("policy_winner", "winner_residual", "policy_loser", "loser_residual")
    free = {name: fixed[name].clone().requires_grad_() for name in through}
    losses = pair_losses(objective, replace(errors, **{**fixed, **free}))
    found = torch.autograd.grad(losses.sum(), list(free.values()), allow_unused=True)
    if not all(gradient is None or gradient.isfinite().all() for gradient in found):
        return ""
    for name, side, sign, weight, (error, residual) in (
        ("a_w", "winner", 1, stated[0], found[:2]),
        ("a_l", "loser", -1, stated[1], found[2:]),
    ):
        at, shift = (fixed[f"{side}_{kind}"].flatten(1) for kind in ("residual", "shift"))
        slope = torch.zeros_like(at) if residual is None else residual.flatten(1)
        if error is not None:
            slope = slope + 2.0 / at.shape[1] * error[:, None] * at
        plane = torch.stack([at, shift], 2)
        # Where policy and reference are equal there is no shift, and the plane is a line.
        along = torch.linalg.lstsq(plane, slope[..., None], driver="gelsd").solution
        outside = ((plane @ along)[..., 0] - slope).norm(dim=1) > 1e-6 * slope.norm(dim=1)
        expected = torch.where(outside, weight, sign * along[:, 0, 0] * at.shape[1] / 2)
        wrong = (weight - expected).abs() > 1e-5 * expected.abs() + TOLERANCE
        if wrong.any():
            first = int(wrong.long().argmax())
            return (
                f"{name} of a pair is {weight[first].item():.6g}, and its {side}'s gradient has "
                f"{expected[first].item():.6g} along the residual: "
                f"{'correct' if own else 'it passes by the errors, so define'} weights(errors, parameters), which "
                "returns ∂F/∂L_w and −∂F/∂L_l"
            )
    return ""


def started(objective: Objective, draw: Draw) -> str:
    """Where training starts no pair raises the winner's error or lowers the loser's, unless the module says so."""
    if draw.moved or getattr(objective.module, "STARTS_BACKWARDS", False):
        return ""
    winner, loser = pair_weights(objective, objective.errors(pairs(draw)))
    for name, weight, what in (("a_w", winner, "raised"), ("a_l", loser, "lowered")):
        if (least := weight.min().item()) < -TOLERANCE:
            side = "winner" if name == "a_w" else "loser"
            return (
                f"{name} is {least:.6g} where policy and reference are equal: the {side}'s error is {what} from the "
                "first step on; the sign is wrong, or the module says STARTS_BACKWARDS = True"
            )
    return ""


CHECKS: dict[str, Callable[[Objective, Draw], str]] = {
    "one finite loss a pair": finite,
    "the same again": repeated,
    "order of the pairs": ordered,
    "pairs alone": alone,
    "safe scale": scaled,
    "finite differences": differentiated,
    "weights": weighed,
    "direction": started,
}
"""Checks that hold for every draw."""


def _differ(found: Sequence[torch.Tensor], expected: Sequence[torch.Tensor]) -> str:
    """By how much tensors differ, if by more than rounding."""
    import torch

    for one, other in zip(found, expected, strict=True):
        if not torch.allclose(one, other, rtol=TOLERANCE, atol=1e-13):
            worst = (one - other).abs().argmax()
            return f"{one.flatten()[worst].item():.9g} instead of {other.flatten()[worst].item():.9g}"
    return ""
