"""The safe scale λ of Diffusion-SDPO: how much of the loser's gradient a step may use.

A step on ``L_w − λ·L_l`` leaves the winner's error non-increasing to first order iff
``λ ≤ ‖∇L_w‖² / ⟨∇L_w, ∇L_l⟩`` while that product is positive, and for every λ ≥ 0 otherwise. With a slack μ
and gradients taken at the model's output, where they are proportional to the residuals ``r = prediction −
target``, this is arXiv 2511.03317, Eq. 15-17 and Alg. 1::

    λ = clip((1 − μ) · Σ r_w² / Σ r_w·r_l, 0, 1)   if Σ r_w·r_l > 0,   else 1

The published code (``train.py:get_adaptive_lose_l_scale``) adds 1e-9 to the denominator, which is itself of
order 1/N for N latent values and so biases λ by up to several per cent. Here nothing is added unless asked for: a
product counts as positive when the cosine of the residuals exceeds the rounding error of their dtype, which makes λ
independent of the residuals' scale.

A second formula by the same group (arXiv 2511.22982, Eq. 3, for Ovis-Image), in which μ is the strength of the
loser instead::

    λ = clip(μ · Σ r_w·r_l / Σ r_l², 0, 1)

A factor that does not hang on the residuals, λ = 1 − μ (``fixed``), bounds nothing; it shows what adapting λ is worth.

The bound holds to first order for plain gradient descent. Preconditioned optimisers, gradient clipping and
finite steps break it, so winner drift is to be measured, not assumed; ``sdpo audit`` measures it step by step.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, get_args

from artifacts.errors import InputError
from artifacts.plugins import nearest
from sdpo.safeguard.settings import Formula, Granularity
from sdpo.safeguard.sums import ResidualSums, quotient, refuse_not_finite, residual_sums

if TYPE_CHECKING:
    from torch import Tensor
    from torch.distributed import ProcessGroup


def safe_scale(
    winner_residual: Tensor,
    loser_residual: Tensor,
    *,
    mu: float,
    granularity: Granularity = "microbatch",
    winner_weight: Tensor | None = None,
    loser_weight: Tensor | None = None,
    max_scale: float = 1.0,
    min_scale: float = 0.0,
    formula: Formula = "sdpo",
    added_epsilon: float = 0.0,
    group: ProcessGroup | None = None,
) -> Tensor:
    """Largest factor on the loser's gradient that is safe for the winner.

    For a loss with ``∂F/∂L_w = a_w ≥ 0`` and ``∂F/∂L_l = −a_l ≤ 0`` per pair, the quantity to protect is
    ``Σ a_w,i·L_w,i`` with the weights held fixed. Its gradient at the output is ``a_w,i·r_w,i``, the loser's part of
    the step is ``a_l,i·r_l,i``, so over a micro-batch::

        λ = (1 − μ) · Σ a_w,i²·‖r_w,i‖² / Σ a_w,i·a_l,i·⟨r_w,i, r_l,i⟩

    This is the published rule for equal weights, ``(1 − μ)·Σ a_i²‖r_w,i‖² / Σ a_i²⟨r_w,i, r_l,i⟩`` for
    ``a_w = a_l = a``, and ``(1 − μ)·(a_w/a_l)·‖r_w‖²/⟨r_w, r_l⟩`` for one pair. Only ratios of weights matter,
    so constant factors (½β, 2/N) may be left out. The published code never weights. If all winner weights are
    zero, so is λ where the residuals agree (the limit of small weights); if all loser weights are zero, λ has no
    effect and only has to be finite.

    Args:
        winner_residual: prediction − target of the winners, (B, ...), any floating dtype; magnitudes between 1e-150
            and 1e150.
        loser_residual: the same of the losers, of the same shape.
        mu: slack μ in [0, 1]; for ``ovis`` the loser's strength; for ``fixed`` 1 − λ.
        granularity: ``microbatch`` for one λ over all pairs, ``sample`` for one a pair, a number for one over each so
            many consecutive pairs, ``global`` for one over all pairs of all processes of ``group``; sums over several
            micro-batches go to :func:`scale_of_sums`.
        winner_weight: a_w ≥ 0, (B,); ones by default.
        loser_weight: a_l ≥ 0, (B,); ones by default.
        max_scale: upper end of the range of λ, and its value where the residuals do not agree; finite, ≥ 0.
        min_scale: lower end of the range, in [0, max_scale].
        formula: ``sdpo``, ``ovis`` or ``fixed``.
        added_epsilon: added to the denominator as the published code adds 1e-9, that is to ``Σ g·g`` of the gradients
            ``g = 2r/N`` of an error averaged over all N values of the pairs that share λ.
        group: processes that share λ under ``global``; all by default. Not used otherwise.

    Returns:
        λ in [min_scale, max_scale], detached and finite, in fp32 (fp64 for fp64 residuals): (B,) for ``sample`` and
        a number, else ().

    Raises:
        InputError: an argument is out of its range, of a wrong shape or not finite; the message names it.
    """
    import torch

    if not 0.0 <= max_scale < float("inf"):
        raise InputError(f"max_scale = {max_scale!r}: expected a finite number of at least 0")
    if not 0.0 <= min_scale <= max_scale:
        raise InputError(f"min_scale = {min_scale!r}: expected a number in [0, max_scale = {max_scale!r}]")
    if not 0.0 <= added_epsilon < float("inf"):
        raise InputError(f"added_epsilon = {added_epsilon!r}: expected a finite number of at least 0")
    group_size(granularity)
    if winner_residual.ndim == 0 or winner_residual.numel() == 0:
        raise InputError(f"winner_residual has shape {tuple(winner_residual.shape)}: expected (B, ...) with values")
    if loser_residual.shape != winner_residual.shape:
        raise InputError(
            f"loser_residual has shape {tuple(loser_residual.shape)}: "
            f"expected that of winner_residual, {tuple(winner_residual.shape)}"
        )
    with torch.no_grad():
        sums = residual_sums(winner_residual, loser_residual)
        if winner_weight is not None or loser_weight is not None:
            sums = sums.weighted(
                _weight("winner_weight", winner_weight, winner_residual),
                _weight("loser_weight", loser_weight, winner_residual),
            )
        if not torch.isfinite(sums.winner_square + sums.loser_square).all():
            refuse_not_finite("winner_residual", winner_residual)
            refuse_not_finite("loser_residual", loser_residual)
            raise InputError("winner_residual and loser_residual: their weighted squares leave the range of float64")
        size = group_size(granularity)
        sums = sums.total() if size is None else sums.of_groups(size)
        if granularity == "global":
            sums = sums.all_reduced(group)
        dtype = torch.promote_types(winner_residual.dtype, torch.float32)
        scale = scale_of_sums(
            sums,
            mu=mu,
            max_scale=max_scale,
            min_scale=min_scale,
            formula=formula,
            added_epsilon=added_epsilon,
            rounding=torch.finfo(dtype).eps,
        ).to(dtype)
        return scale if size is None else scale.repeat_interleave(size)


def scale_of_sums(
    sums: ResidualSums,
    *,
    mu: float,
    max_scale: float = 1.0,
    min_scale: float = 0.0,
    formula: Formula = "sdpo",
    added_epsilon: float = 0.0,
    rounding: float = 2.0**-23,
) -> Tensor:
    """λ from sums that may come from several micro-batches and processes; arguments as in :func:`safe_scale`.

    Args:
        rounding: cosine of the residuals up to which their product counts as zero; by default fp32's rounding error.

    Raises:
        InputError: ``mu`` or ``formula`` is not one of the allowed values.
    """
    import torch

    if not 0.0 <= mu <= 1.0:
        raise InputError(f"mu = {mu!r}: expected a number in [0, 1]")
    _one_of("formula", formula, Formula)
    # What is added to Σ g·g, g = 2r/N, counts N²/4 as much beside Σ r·r.
    epsilon = added_epsilon * sums.values.square() / 4.0 if added_epsilon else 0.0
    if formula == "fixed":
        return torch.full_like(sums.product, 1.0 - mu).clamp(min_scale, max_scale)
    if formula == "ovis":
        return quotient(mu * sums.product, sums.loser_square + epsilon).clamp(min_scale, max_scale)
    agree = sums.product > rounding * sums.winner_square.sqrt() * sums.loser_square.sqrt()
    agree |= (sums.winner_square == 0) & (sums.unweighted_winners > 0)
    safe = quotient((1.0 - mu) * sums.winner_square, sums.product + epsilon)
    return torch.where(agree, safe, max_scale).clamp(min_scale, max_scale)


def group_size(granularity: Granularity) -> int | None:
    """How many consecutive pairs share a λ; ``None``: all that there are.

    Raises:
        InputError: it is none of the names, and no number ≥ 1.
    """
    if isinstance(granularity, str):
        _one_of("granularity", granularity, get_args(Granularity)[0])
        return 1 if granularity == "sample" else None
    if type(granularity) is not int or granularity < 1:
        raise InputError(f"granularity = {granularity!r}: expected a name or a number of pairs, at least 1")
    return granularity


def _one_of(name: str, value: str, allowed: object) -> None:
    known = list(get_args(allowed))
    if value not in known:
        raise InputError(f"{name} = {value!r}: expected {' or '.join(known)}{nearest(str(value), known)}")


def _weight(name: str, weight: Tensor | None, residual: Tensor) -> Tensor:
    """The weights (B,) on the device of the residual; ones by default."""
    import torch

    if weight is None:
        return torch.ones(len(residual), device=residual.device)
    if weight.shape != residual.shape[:1]:
        raise InputError(f"{name} has shape {tuple(weight.shape)}: expected {(len(residual),)}, one value a pair")
    weight = weight.detach().to(residual.device)
    refuse_not_finite(name, weight)
    if (weight < 0).any():
        raise InputError(f"{name} has negative values, the least {float(weight.min())}: expected numbers ≥ 0")
    return weight
