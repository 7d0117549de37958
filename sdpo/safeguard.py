"""The safe scale λ of Diffusion-SDPO: how much of the loser's gradient a step may use.

A step on ``L_w − λ·L_l`` leaves the winner's error non-increasing to first order iff
``λ ≤ ‖∇L_w‖² / ⟨∇L_w, ∇L_l⟩`` while that product is positive, and for every λ ≥ 0 otherwise. With a slack μ
and gradients taken at the model's output, where they are proportional to the residuals ``r = prediction −
target``, this is arXiv 2511.03317, Eq. 15-17 and Alg. 1::

    λ = clip((1 − μ) · Σ r_w² / Σ r_w·r_l, 0, 1)   if Σ r_w·r_l > 0,   else 1

The published code (``train.py:get_adaptive_lose_l_scale``) adds 1e-9 to the denominator, which is itself of
order 1/N for N latent values and so biases λ by up to several per cent. Here nothing is added: a product
counts as positive when the cosine of the residuals exceeds the rounding error of its dtype, which makes λ
independent of the residuals' scale.

The bound holds to first order for plain gradient descent. Preconditioned optimisers, gradient clipping and
finite steps break it, so winner drift is to be measured, not assumed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, get_args

from pydantic import BaseModel, ConfigDict, Field

from artifacts.errors import InputError
from artifacts.plugins import nearest

if TYPE_CHECKING:
    from torch import Tensor

Granularity = Literal["microbatch", "sample"]


class Safeguard(BaseModel):
    """Settings of the safeguard, as a variant of the config states them."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    mu: float = Field(
        ge=0,
        le=1,
        allow_inf_nan=False,
        description="Slack μ in [0, 1]: 0 lets the winner's error stay as it is, 1 switches the loser off wherever "
        "it conflicts with the winner. Published: 0.9 (SD 1.5; DSPO 0.2), 0.6 (SDXL).",
    )
    granularity: Granularity = Field(
        default="microbatch",
        description="`microbatch`: one λ for all pairs of a micro-batch, as published; it depends on the micro-batch "
        "size. `sample`: one λ a pair, independent of it and larger on average.",
    )


def safe_scale(
    winner_residual: Tensor,
    loser_residual: Tensor,
    *,
    mu: float,
    granularity: Granularity = "microbatch",
    winner_weight: Tensor | None = None,
    loser_weight: Tensor | None = None,
    max_scale: float = 1.0,
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
        winner_residual: prediction − target of the winners, (B, ...), any floating dtype.
        loser_residual: the same of the losers, of the same shape.
        mu: slack μ in [0, 1].
        granularity: ``microbatch`` for one λ over all pairs, ``sample`` for one a pair.
        winner_weight: a_w ≥ 0, (B,); ones by default.
        loser_weight: a_l ≥ 0, (B,); ones by default.
        max_scale: upper end of the range of λ, and its value where the residuals do not agree; finite, ≥ 0.

    Returns:
        λ in [0, max_scale], detached and finite, in fp32 (fp64 for fp64 residuals): () for ``microbatch``,
        (B,) for ``sample``. It is 0 or ``max_scale`` where the residuals' scales are too far apart for the dtype.

    Raises:
        InputError: an argument is out of its range, of a wrong shape or not finite; the message names it.
    """
    import torch

    if not 0.0 <= mu <= 1.0:
        raise InputError(f"mu = {mu!r}: expected a number in [0, 1]")
    if not 0.0 <= max_scale < float("inf"):
        raise InputError(f"max_scale = {max_scale!r}: expected a finite number of at least 0")
    if granularity not in get_args(Granularity):
        known = list(get_args(Granularity))
        raise InputError(
            f"granularity = {granularity!r}: expected {' or '.join(known)}{nearest(str(granularity), known)}"
        )
    if winner_residual.ndim == 0 or winner_residual.numel() == 0:
        raise InputError(f"winner_residual has shape {tuple(winner_residual.shape)}: expected (B, ...) with values")
    if loser_residual.shape != winner_residual.shape:
        raise InputError(
            f"loser_residual has shape {tuple(loser_residual.shape)}: "
            f"expected that of winner_residual, {tuple(winner_residual.shape)}"
        )

    with torch.no_grad():
        # Every pair is written as peak × direction and only directions are multiplied: squares of very large or
        # very small residuals leave the range of fp32.
        winner, winner_peak = _direction("winner_residual", winner_residual)
        loser, loser_peak = _direction("loser_residual", loser_residual)
        winner_square = (winner * winner).sum(1)
        loser_square = (loser * loser).sum(1)
        product = (winner * loser).sum(1)
        winner_weight = _weight("winner_weight", winner_weight, winner_peak)
        loser_weight = _weight("loser_weight", loser_weight, loser_peak)

        def total(values: Tensor) -> Tensor:
            return values.sum() if granularity == "microbatch" else values

        def relative(values: Tensor) -> tuple[Tensor, Tensor]:
            size = values.amax() if granularity == "microbatch" else values
            return torch.where(size > 0, values / size, 1.0), size

        (a_w, weight_w), (a_l, weight_l) = relative(winner_weight), relative(loser_weight)
        (n_w, size_w), (n_l, size_l) = relative(winner_peak), relative(loser_peak)
        c_w, c_l = a_w * n_w, a_l * n_l
        numerator, agreement = total(c_w * c_w * winner_square), total(c_w * c_l * product)
        rounding = torch.finfo(agreement.dtype).eps
        agrees = agreement > rounding * numerator.sqrt() * total(c_l * c_l * loser_square).sqrt()
        largest = torch.finfo(agreement.dtype).max
        safe = (1.0 - mu) * numerator / torch.where(agrees, agreement, 1.0)
        for ratio in (size_w / size_l, weight_w / weight_l):  # kept finite, so that 0 · ∞ cannot arise
            safe = (safe * ratio.nan_to_num(nan=largest, posinf=largest)).clamp(max=largest)
        return torch.where(agrees, safe, max_scale).clamp(0.0, max_scale)


def _direction(name: str, residual: Tensor) -> tuple[Tensor, Tensor]:
    """Residuals (B, N) divided by their largest magnitude, and that magnitude (B,); zero rows stay zero."""
    import torch

    rows = residual.detach().reshape(len(residual), -1)
    rows = rows.to(torch.promote_types(rows.dtype, torch.float32))
    peak = rows.abs().amax(1)
    if not torch.isfinite(peak).all():
        raise InputError(f"{name} has values that are not finite: expected finite numbers in the range of {rows.dtype}")
    return rows / torch.where(peak > 0, peak, 1.0)[:, None], peak


def _weight(name: str, weight: Tensor | None, like: Tensor) -> Tensor:
    """The weights (B,) in the dtype and on the device of ``like``; ones by default."""
    import torch

    if weight is None:
        return torch.ones_like(like)
    if weight.shape != like.shape:
        raise InputError(f"{name} has shape {tuple(weight.shape)}: expected {tuple(like.shape)}, one value a pair")
    weight = weight.detach().to(like)
    if not (torch.isfinite(weight) & (weight >= 0)).all():
        raise InputError(f"{name} has negative values or values that are not finite: expected finite numbers ≥ 0")
    return weight
