"""What a module of an objective is, and what it returns, held to what it has to return."""

from __future__ import annotations

from dataclasses import fields
from typing import TYPE_CHECKING, Any, Protocol, cast

from pydantic import BaseModel

from artifacts.errors import InputError
from artifacts.plugins import told
from sdpo.diffusion.errors import PairErrors

if TYPE_CHECKING:
    from torch import Tensor


class ObjectiveModule(Protocol):
    """What a module has to define to be an objective."""

    Parameters: type[BaseModel]
    HAS_LOSER: bool

    def loss(self, errors: PairErrors, parameters: Any) -> Tensor:
        """Loss of each pair, (B,)."""


class Named(Protocol):
    """A module with its hyperparameters, by the name that messages call it."""

    @property
    def name(self) -> str: ...

    @property
    def parameters(self) -> BaseModel: ...

    @property
    def module(self) -> ObjectiveModule: ...


def pair_losses(objective: Named, errors: PairErrors, *, by_errors: bool = False) -> Tensor:
    """Loss of each pair, (B,), held to what a module of an objective has to return.

    Args:
        by_errors: whether of ``errors`` only the errors themselves carry gradients.

    Raises:
        InputError: the module's code fails, or its loss is not one value a pair that carries a gradient.
    """
    import torch

    name, module = objective.name, objective.module
    with told(f"objective '{name}': loss", getattr(module, "__file__", None)):
        losses = module.loss(errors, objective.parameters)
    if not isinstance(losses, torch.Tensor):
        raise InputError(f"objective '{name}': loss returns {type(losses).__name__}, expected a tensor (B,)")
    if losses.shape != errors.policy_winner.shape:
        raise InputError(
            f"objective '{name}': loss has shape {tuple(losses.shape)}, expected {tuple(errors.policy_winner.shape)}: "
            "one value a pair, whose mean is taken for it"
        )
    if torch.is_grad_enabled() and errors.policy_winner.requires_grad and not losses.requires_grad:
        otherwise = (
            "; or gradients reach the predictions, and none by the errors: then define weights(errors, parameters), "
            "which returns ∂F/∂L_w and −∂F/∂L_l"
        )
        raise InputError(
            f"objective '{name}': loss carries no gradient: it is detached, or uses none of the policy's errors, "
            f"residuals and shifts{otherwise if by_errors else ''}"
        )
    return losses


def pair_weights(objective: Named, errors: PairErrors) -> tuple[Tensor, Tensor]:
    """Weights a_w = ∂F/∂L_w and a_l = −∂F/∂L_l of each pair's gradients, (B,) each and detached.

    A negative a_l marks a pair that the objective pulls back: its loser's error is to fall.

    Raises:
        InputError: the module's code fails, or its ``weights`` are not two values a pair.
    """
    import torch

    if hasattr(objective.module, "weights"):
        return _stated_weights(objective, errors)
    with torch.enable_grad():
        leaves = [errors.policy_winner.detach().requires_grad_()]
        fixed = {
            field.name: value.detach() for field in fields(errors) if (value := getattr(errors, field.name)) is not None
        }
        if errors.policy_loser is not None:
            leaves.append(errors.policy_loser.detach().requires_grad_())
        free = dict(zip(("policy_winner", "policy_loser"), leaves, strict=False))
        found = torch.autograd.grad(
            pair_losses(objective, PairErrors(**{**fixed, **free}), by_errors=True).sum(), leaves, allow_unused=True
        )
    slopes = [torch.zeros_like(errors.policy_winner) if g is None else g for g in found]
    return slopes[0], -slopes[1] if len(slopes) > 1 else torch.zeros_like(slopes[0])


def _stated_weights(objective: Named, errors: PairErrors) -> tuple[Tensor, Tensor]:
    """What a module's own ``weights`` returns, held to what :func:`pair_weights` has to return."""
    import torch

    name, module, shape = objective.name, objective.module, tuple(errors.policy_winner.shape)
    with told(f"objective '{name}': weights", getattr(module, "__file__", None)):
        found = cast(Any, module).weights(errors, objective.parameters)
    if not (isinstance(found, tuple | list) and len(found) == 2):
        raise InputError(
            f"objective '{name}': weights returns {type(found).__name__}, expected two tensors, a_w and a_l"
        )
    for side, value in zip(("a_w", "a_l"), found, strict=True):
        if not isinstance(value, torch.Tensor) or tuple(value.shape) != shape:
            got = f"shape {tuple(value.shape)}" if isinstance(value, torch.Tensor) else f"type {type(value).__name__}"
            raise InputError(f"objective '{name}': weights' {side} has {got}, expected {shape}: one value a pair")
    return found[0].detach(), found[1].detach()
