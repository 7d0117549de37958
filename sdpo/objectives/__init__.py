"""Objectives: training losses on preference pairs, each with or without the safeguard.

An objective is one module of this package, or of a plug-in in the entry-point group ``sdpo.objectives``, with

- ``Parameters``: a frozen pydantic model of its hyperparameters that forbids unknown ones;
- ``HAS_LOSER``: whether the loss sees the loser;
- ``loss(errors, parameters)``: the loss of each pair, (B,), from :class:`~sdpo.diffusion.errors.PairErrors`;
- if gradients reach the predictions otherwise than through ``errors.policy_winner`` and ``errors.policy_loser``:
  ``weights(errors, parameters)``, what :func:`pair_weights` is to return.

- if the loss of a pair takes in other pairs, those of other processes' micro-batches too: ``REDUCES = True``;
- if neither value nor gradient knows the reference, which is then predicted for the log alone: ``USES_REFERENCE =
  False``;
- if it holds a part of itself, so that its gradient is not the slope of its value: ``STOPS_GRADIENT = True``;
- if it asks for the pair's time, which flow models have: ``NEEDS_TIME = True``;
- if it raises the winner's error or lowers the loser's where the policy is still its reference, and is meant to:
  ``STARTS_BACKWARDS = True``.

``sdpo check-objective`` checks all of this (:mod:`sdpo.objective_check.command`).
A parameter named ``reference_decay`` makes the reference an exponential moving average of the policy.

Errors, the mean over pairs and the safeguard are common to all and applied here. Importing this package or an
objective does not import torch, so a config can be checked against ``Parameters`` at no cost.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Any, cast

from pydantic import BaseModel

from artifacts.errors import InputError
from artifacts.plugins import Call, Registry
from artifacts.validation import parse
from sdpo.diffusion.errors import PairErrors, PairPrediction, pair_errors
from sdpo.objectives._contract import ObjectiveModule, pair_losses, pair_weights
from sdpo.safeguard import ResidualSums, Safeguard, group_size, refuse_not_finite, residual_sums, scale_of_sums

if TYPE_CHECKING:
    from torch import Tensor

__all__ = [
    "Objective",
    "ObjectiveModule",
    "ObjectiveOutput",
    "PairErrors",
    "PairPrediction",
    "create",
    "load",
    "names",
    "pair_losses",
    "pair_weights",
]

REGISTRY = Registry(
    kind="objective",
    package="sdpo.objectives",
    group="sdpo.objectives",
    shared=("sdpo.diffusion",),
    attributes={"Parameters": type, "HAS_LOSER": bool},
    optional=dict.fromkeys(("REDUCES", "USES_REFERENCE", "STOPS_GRADIENT", "NEEDS_TIME", "STARTS_BACKWARDS"), bool),
    calls={"loss": Call(("errors", "parameters"))},
    optional_calls={"weights": Call(("errors", "parameters"))},
)


@dataclass(frozen=True)
class ObjectiveOutput:
    """Result of an objective on one micro-batch."""

    loss: Tensor
    """(), mean over pairs in the residuals' dtype, differentiable with respect to the policy's predictions."""
    metrics: dict[str, Tensor]
    """Detached: ``winner_drift``, ``loser_drift``, ``margin`` (means over pairs), ``implicit_accuracy`` (share of
    pairs with a positive margin, ties half), ``residual_cosine`` (of the policy's winner and loser residuals over the
    whole micro-batch), ``safe_scale_mean`` and ``safe_scale_min`` (1 with the safeguard off), all (); and
    ``safe_scale``, λ itself, () or, where it differs from pair to pair, (B,). Without losers the keys that need them
    are absent."""
    drifts: dict[str, Tensor]
    """Detached: ``winner_drift`` and, with losers, ``loser_drift`` of each pair, (B,)."""


@dataclass(frozen=True)
class Objective:
    """A loss with its hyperparameters and its safeguard; made by :func:`create`."""

    name: str
    parameters: BaseModel
    safeguard: Safeguard | None
    module: ObjectiveModule

    def __call__(self, pair: PairPrediction, *, scale: Tensor | None = None) -> ObjectiveOutput:
        """Loss and metrics of one micro-batch.

        The safeguard multiplies the gradient that passes through the loser's prediction by λ, by whatever way it gets
        there, as if the loser's error were ``L_l' = sg(L_l) + λ(L_l − sg(L_l))``. No value changes.

        Args:
            pair: predictions and targets of B pairs.
            scale: λ to use instead of that of this micro-batch, () or (B,); for a λ of several micro-batches, see
                :func:`sdpo.training.gradients.accumulate_gradients`.

        Raises:
            InputError: the objective needs losers and the pair has none, or a prediction or target is not finite.
        """
        errors = self.errors(pair)
        sums = _pair_sums(errors)
        whole = self.safeguard is None and scale is None
        scale = self._scale(errors, sums) if scale is None else scale
        return ObjectiveOutput(
            loss=self.loss(errors, None if whole else scale),
            metrics=_metrics(errors, scale, sums),
            drifts=_drifts(errors),
        )

    def loss(self, errors: PairErrors, scale: Tensor | None) -> Tensor:
        """Loss of a batch as in :class:`ObjectiveOutput`, with no metrics.

        Args:
            errors: from :meth:`errors`.
            scale: λ on the loser's gradient, () or (B,), whatever :attr:`safeguard` says; None leaves it whole.
        """
        if scale is not None:
            errors = replace(
                errors,
                policy_loser=_with_gradient_scaled(errors.policy_loser, scale),
                loser_residual=_with_gradient_scaled(errors.loser_residual, scale),
                loser_shift=_with_gradient_scaled(errors.loser_shift, scale),
            )
        return pair_losses(self, errors).mean().to(errors.winner_residual.dtype)

    def errors(self, pair: PairPrediction) -> PairErrors:
        """Errors of a batch, see :func:`~sdpo.diffusion.errors.pair_errors`.

        Raises:
            InputError: the objective needs losers and the pair has none, or a prediction or target is not finite.
        """
        import torch

        errors = pair_errors(pair)
        if self.module.HAS_LOSER and not errors.has_loser:
            raise InputError(
                f"objective '{self.name}' needs losers: policy_loser, reference_loser and target_loser are None"
            )
        # One value that is not finite makes its pair's error so: these few are looked at instead of all predictions.
        found = errors.policy_winner, errors.reference_winner, errors.policy_loser, errors.reference_loser
        if not torch.isfinite(torch.stack([x.detach() for x in found if x is not None])).all():
            for field in fields(pair):
                if (value := getattr(pair, field.name)) is not None:
                    refuse_not_finite(field.name, value.detach())
        return errors

    def scale(self, errors: PairErrors) -> Tensor:
        """λ of one micro-batch, () or (B,); 1 with the safeguard off."""
        return self._scale(errors, _pair_sums(errors))

    def _scale(self, errors: PairErrors, sums: ResidualSums | None) -> Tensor:
        """As :meth:`scale`, from the sums of each pair; as :func:`~sdpo.safeguard.safe_scale` of the residuals."""
        import torch

        guard = self.safeguard
        if guard is None or sums is None:
            return errors.policy_winner.detach().new_ones(())
        weighted, exempt = self._weighted(errors, sums)
        size = group_size(guard.granularity)
        weighted = weighted.total() if size is None else weighted.of_groups(size)
        if guard.granularity == "global":
            weighted = weighted.all_reduced()
        dtype = errors.winner_residual.dtype
        scale = self.scale_of(weighted, rounding=torch.finfo(dtype).eps).to(dtype)
        scale = scale if size is None else scale.repeat_interleave(size)
        return scale if exempt is None else torch.where(exempt, 1.0, scale)

    def residual_sums(self, errors: PairErrors) -> tuple[ResidualSums, Tensor | None]:
        """What a λ over several micro-batches has to know of this one, and its pairs that are exempt from λ, (B,).

        Raises:
            InputError: the safeguard is off, or there is no loser.
        """
        sums = _pair_sums(errors)
        if self.safeguard is None or sums is None:
            raise InputError(f"objective '{self.name}': expected a safeguard and losers")
        weighted, exempt = self._weighted(errors, sums)
        return weighted.total(), exempt

    def scale_of(self, sums: ResidualSums, *, rounding: float = 2.0**-23) -> Tensor:
        """λ from sums, (), of all micro-batches of a step, say; ``rounding`` as in ``scale_of_sums``.

        Raises:
            InputError: the safeguard is off.
        """
        guard = self.safeguard
        if guard is None:
            raise InputError(f"objective '{self.name}': expected a safeguard")
        return scale_of_sums(
            sums, mu=guard.mu, formula=guard.formula, added_epsilon=guard.added_epsilon, rounding=rounding
        )

    def _weighted(self, errors: PairErrors, sums: ResidualSums) -> tuple[ResidualSums, Tensor | None]:
        """The sums of each pair as they count in λ, and which pairs are exempt, (B,); None: none.

        Raises:
            InputError: a weight of the objective is not finite.
        """
        guard = self.safeguard
        if guard is None or (guard.weights == "none" and guard.pulled_back == "scale"):
            return sums, None
        winner, loser = pair_weights(self, errors)
        for name, weight in (("winner_weight", winner), ("loser_weight", loser)):
            refuse_not_finite(name, weight)
        exempt = loser < 0
        counted = (~exempt).to(loser)
        if guard.weights == "none":
            winner, loser = counted, counted
        weighted = sums.weighted(*(weight.clamp(min=0) * counted for weight in (winner, loser)))
        return weighted, exempt if guard.pulled_back == "exempt" else None


def names() -> list[str]:
    """All objectives, built in and plugged in, sorted; none is imported."""
    return REGISTRY.names()


def load(name: str) -> ObjectiveModule:
    """The module of an objective; torch is not imported.

    Raises:
        InputError: no objective has this name, or the one that has it does not define what an objective must.
    """
    module = REGISTRY.load(name)
    if not issubclass(module.Parameters, BaseModel):
        raise InputError(f"objective '{name}': Parameters is {module.Parameters!r}, expected a pydantic model")
    return cast(ObjectiveModule, module)


def create(name: str, *, safeguard: Safeguard | Mapping[str, Any] | None = None, **parameters: Any) -> Objective:
    """An objective ready to be called.

    Args:
        name: one of :func:`names`.
        safeguard: fields of :class:`~sdpo.safeguard.Safeguard`, or one of these; None is off.
        **parameters: fields of the objective's ``Parameters``.

    Raises:
        InputError: unknown objective or parameter, a value out of range, or a safeguard for an objective without
            a loser.
    """
    module = load(name)
    checked = parse(module.Parameters, parameters, f"objective '{name}'")
    if safeguard is None:
        return Objective(name, checked, None, module)
    if not module.HAS_LOSER:
        raise InputError(f"objective '{name}': safeguard = {safeguard!r}: expected None, since it has no loser")
    if not isinstance(safeguard, Safeguard):
        if not isinstance(safeguard, Mapping):
            raise InputError(f"objective '{name}': safeguard = {safeguard!r}: expected a mapping with mu, or None")
        safeguard = parse(Safeguard, safeguard, f"safeguard of objective '{name}'")
    return Objective(name, checked, safeguard, module)


def _with_gradient_scaled(values: Tensor | None, scale: Tensor) -> Tensor | None:
    """The same values, (B, ...), with a gradient that is multiplied by ``scale``, () or (B,)."""
    if values is None or not values.requires_grad:
        return values
    scaled = values.view_as(values)
    factor = scale.detach().reshape(-1, *[1] * (values.ndim - 1))
    scaled.register_hook(lambda gradient: gradient * factor.to(gradient))
    return scaled


def _pair_sums(errors: PairErrors) -> ResidualSums | None:
    """Sums over the residuals of each pair, (B,), unweighted; None without losers."""
    return None if errors.loser_residual is None else residual_sums(errors.winner_residual, errors.loser_residual)


def _drifts(errors: PairErrors) -> dict[str, Tensor]:
    """The drifts of :class:`ObjectiveOutput`."""
    drifts = {"winner_drift": errors.winner_drift.detach()}
    return {**drifts, "loser_drift": errors.loser_drift.detach()} if errors.has_loser else drifts


def _metrics(errors: PairErrors, scale: Tensor, sums: ResidualSums | None) -> dict[str, Tensor]:
    """The metrics of :class:`ObjectiveOutput`."""
    import torch

    with torch.no_grad():
        metrics = {
            "winner_drift": errors.winner_drift.mean(),
            "safe_scale": scale,
            "safe_scale_mean": scale.mean(),
            "safe_scale_min": scale.min(),
        }
        if sums is None:
            return metrics
        margin = errors.margin
        metrics["loser_drift"] = errors.loser_drift.mean()
        metrics["margin"] = margin.mean()
        metrics["implicit_accuracy"] = ((margin.sign() + 1.0) / 2.0).mean()
        metrics["residual_cosine"] = sums.total().cosine()
        return metrics
