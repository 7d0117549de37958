"""Predictions for a batch of pairs, and the denoising errors that objectives are made of.

Notation: residual ``r = prediction − target``; error ``L = mean(r²)`` of the policy over all but the first
dimension, ``R`` the same of the frozen reference; drift ``d = L − R``; margin ``d_l − d_w``; ``w`` winner, ``l``
loser. Residuals are fp32 (fp64 for fp64 predictions) and errors fp64, as a drift is a small difference of errors and β
multiplies it: at β = 5000 rounding errors to fp32 moves the logit by about 1e-4, and rounding residuals to fp32
before they are squared moves it by 1e-5 on small latents. The reference code keeps its reference errors in bf16, which
moves it by order 1.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING

from artifacts.device import widest_float
from artifacts.errors import InputError

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class PairPrediction:
    """What the policy and the reference predicted for B winners and B losers, and what they should have.

    All tensors are (B, ...) of one shape. Members of a pair share noise and timestep. Targets are given per branch
    because in v- and flow-parametrisation they differ between winner and loser. The loser's three fields
    may be None, together, for objectives without a loser. ``time`` is the share of noise t from 0 to 1, (B,), for
    objectives that depend on it.
    """

    policy_winner: Tensor
    policy_loser: Tensor | None
    reference_winner: Tensor
    reference_loser: Tensor | None
    target_winner: Tensor
    target_loser: Tensor | None
    time: Tensor | None = None

    def __post_init__(self) -> None:
        losers = (self.policy_loser, self.reference_loser, self.target_loser)
        if any(x is None for x in losers) and not all(x is None for x in losers):
            raise InputError(
                "policy_loser, reference_loser, target_loser: expected three tensors, or None for all three"
            )
        shape = self.policy_winner.shape
        if not shape or not shape.numel():
            raise InputError(f"policy_winner has shape {tuple(shape)}: expected (B, ...) with values")
        for field in fields(self):
            value = getattr(self, field.name)
            if field.name != "time" and value is not None and value.shape != shape:
                raise InputError(
                    f"{field.name} has shape {tuple(value.shape)}: expected that of policy_winner, {tuple(shape)}"
                )
        if self.time is not None and self.time.shape != shape[:1]:
            raise InputError(f"time has shape {tuple(self.time.shape)}: expected {tuple(shape[:1])}, one value a pair")


@dataclass(frozen=True)
class PairErrors:
    """Errors of B pairs; the loser's fields are None if the pair has no loser.

    ``policy_*`` carry gradients, ``reference_*`` do not.
    """

    policy_winner: Tensor
    """L_w, (B,)."""
    reference_winner: Tensor
    """R_w, (B,)."""
    winner_residual: Tensor
    """Policy's prediction − target of the winners, (B, ...)."""
    winner_shift: Tensor
    """Policy's − reference's prediction for the winners, (B, ...)."""
    policy_loser: Tensor | None = None
    """L_l, (B,); under the safeguard its gradient, and that of the loser's residual and shift, is multiplied by λ."""
    reference_loser: Tensor | None = None
    """R_l, (B,)."""
    loser_residual: Tensor | None = None
    """Policy's prediction − target of the losers, (B, ...)."""
    loser_shift: Tensor | None = None
    """Policy's − reference's prediction for the losers, (B, ...)."""
    time: Tensor | None = None
    """Share of noise t of each pair, (B,), from 0 (data) to 1 (noise); None where the caller has none."""

    @property
    def has_loser(self) -> bool:
        """Whether the losers were given."""
        return self.policy_loser is not None

    @property
    def winner_drift(self) -> Tensor:
        """d_w = L_w − R_w, (B,)."""
        return self.policy_winner - self.reference_winner

    @property
    def loser_drift(self) -> Tensor:
        """d_l = L_l − R_l, (B,).

        Raises:
            InputError: the pair has no loser.
        """
        if self.policy_loser is None or self.reference_loser is None:
            raise InputError("the pair has no loser: expected policy_loser, reference_loser and target_loser")
        return self.policy_loser - self.reference_loser

    @property
    def known_time(self) -> Tensor:
        """t, (B,).

        Raises:
            InputError: the pair has no time.
        """
        if self.time is None:
            raise InputError("the pair has no time: expected time, (B,), from 0 (data) to 1 (noise)")
        return self.time

    @property
    def margin(self) -> Tensor:
        """d_l − d_w, (B,). Drifts come first: L and R are close, so their difference is nearly exact."""
        return self.loser_drift - self.winner_drift

    def logit(self, beta: float) -> Tensor:
        """u = −½β(d_w − d_l), (B,): the log-odds that the policy prefers the winner (arXiv 2311.12908, Eq. 14).

        β goes with errors that are means over the latent's values, and with the factor ½; for sums it would be
        C·H·W times smaller, and for implementations without the ½ half as large.
        """
        return 0.5 * beta * self.margin


def prediction_errors(prediction: Tensor, expected: Tensor) -> tuple[Tensor, Tensor]:
    """Mean squared residual of each pair, (B,), and the residuals (B, ...), in fp64 where the device has it."""
    wide = widest_float(prediction)
    # Widened before the target is subtracted.
    residual = prediction.to(wide) - expected.to(wide)
    return residual.square().reshape(len(residual), -1).mean(1), residual


def pair_errors(pair: PairPrediction) -> PairErrors:
    """Residuals of a batch of pairs, in fp32 at least, and errors, in fp64 where the device has it."""
    import torch

    def precise(x: Tensor) -> Tensor:
        return x.to(torch.promote_types(x.dtype, torch.float32))

    def branch(policy: Tensor, reference: Tensor, target: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """L, R, residual and shift."""
        reference, expected = reference.detach(), target.detach().to(widest_float(target))
        policy_error, residual = prediction_errors(policy, expected)
        return (
            policy_error,
            prediction_errors(reference, expected)[0],
            residual.to(torch.promote_types(policy.dtype, torch.float32)),
            precise(policy) - precise(reference),
        )

    error, reference_error, residual, shift = branch(pair.policy_winner, pair.reference_winner, pair.target_winner)
    errors = PairErrors(
        policy_winner=error,
        reference_winner=reference_error,
        winner_residual=residual,
        winner_shift=shift,
        time=None if pair.time is None else precise(pair.time).detach(),
    )
    if pair.policy_loser is None or pair.reference_loser is None or pair.target_loser is None:
        return errors
    error, reference_error, residual, shift = branch(pair.policy_loser, pair.reference_loser, pair.target_loser)
    return replace(
        errors,
        policy_loser=error,
        reference_loser=reference_error,
        loser_residual=residual,
        loser_shift=shift,
    )
