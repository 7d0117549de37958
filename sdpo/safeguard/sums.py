"""What λ needs to know of residuals: sums of their products."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING

from artifacts.device import widest_float
from artifacts.errors import InputError

if TYPE_CHECKING:
    from torch import Tensor
    from torch.distributed import ProcessGroup


@dataclass(frozen=True)
class ResidualSums:
    """Sums over some pairs of their residuals r times weights a ≥ 0: all that λ needs to know of them, and additive.

    All are (B,) for pairs one by one, or () for a group of pairs, in fp64: squares of fp32 numbers lie far inside its
    range (on devices without fp64 in fp32, for residuals between 1e-15 and 1e15).
    """

    winner_square: Tensor
    """Σ ‖a_w·r_w‖²."""
    loser_square: Tensor
    """Σ ‖a_l·r_l‖²."""
    product: Tensor
    """Σ a_w·a_l·⟨r_w, r_l⟩."""
    unweighted_winners: Tensor
    """Σ a_l·⟨r_w, r_l⟩, which says whether residuals agree where no winner has a weight."""
    values: Tensor
    """Number of values in the residuals of one side."""

    def _of_all(self) -> Tensor:
        import torch

        return torch.stack([getattr(self, field.name) for field in fields(self)])

    def __add__(self, other: ResidualSums) -> ResidualSums:
        """The sums over both groups of pairs."""
        return ResidualSums(*(self._of_all() + other._of_all()))

    def weighted(self, winner_weight: Tensor, loser_weight: Tensor) -> ResidualSums:
        """The same with residuals times these weights ≥ 0, (B,), of sums (B,) without weights."""
        w, loser = winner_weight.to(self.product), loser_weight.to(self.product)
        unweighted = loser * self.product
        return ResidualSums(
            w * w * self.winner_square, loser * loser * self.loser_square, w * unweighted, unweighted, self.values
        )

    def counted_as(self, values: int) -> ResidualSums:
        """The same with residuals as if they had so many values.

        Gradients of an error averaged over N values are ``g = 2r/N``: residuals of pairs of several shapes differ in
        length, and what λ adds up are gradients.
        """
        import torch

        factor = values / self.values
        return ResidualSums(*(self._of_all() * torch.stack([*[factor * factor] * 4, factor])))

    def cosine(self) -> Tensor:
        """Cosine of the winners' and the losers' residuals, in [−1, 1]; 0 where one of them is zero."""
        return quotient(self.product, self.winner_square.sqrt() * self.loser_square.sqrt()).clamp(-1.0, 1.0)

    def total(self) -> ResidualSums:
        """The sums over all pairs: (B,) becomes ()."""
        return ResidualSums(*self._of_all().sum(1))

    def of_groups(self, pairs: int) -> ResidualSums:
        """The sums over each ``pairs`` consecutive pairs: (B,) becomes (B / pairs,).

        Raises:
            InputError: the pairs do not make whole groups.
        """
        if len(self.product) % pairs:
            raise InputError(f"granularity = {pairs}: expected a divisor of the number of pairs, {len(self.product)}")
        return ResidualSums(*self._of_all().unflatten(1, (-1, pairs)).sum(2))

    def all_reduced(self, group: ProcessGroup | None = None) -> ResidualSums:
        """The sums over all processes of a group; as they are where ``torch.distributed`` is not in use."""
        import torch.distributed as dist

        if not (dist.is_available() and dist.is_initialized()):
            return self
        sums = self._of_all()
        dist.all_reduce(sums, group=group)
        return ResidualSums(*sums)


def residual_sums(winner: Tensor, loser: Tensor) -> ResidualSums:
    """The sums of each pair, (B,), without weights, of residuals (B, ...) of one shape."""
    import torch

    w, l = (x.detach().reshape(len(x), -1).to(widest_float(x)) for x in (winner, loser))  # noqa: E741
    product = (w * l).sum(1)
    return ResidualSums((w * w).sum(1), (l * l).sum(1), product, product, torch.full_like(product, w.shape[1]))


def quotient(above: Tensor, below: Tensor) -> Tensor:
    """above / below, with 0 / 0 = 0; not to be used where below < 0."""
    import torch

    return above / below.clamp(min=torch.finfo(below.dtype).tiny)


class NotFiniteError(InputError):
    """Numbers of a training that are infinite or NaN."""


def refuse_not_finite(name: str, values: Tensor) -> None:
    """Refuse a tensor with infinities or NaN.

    Raises:
        NotFiniteError: says how many there are, and the first of them.
    """
    import torch

    if not (finite := torch.isfinite(values)).all():
        wrong = values[~finite]
        raise NotFiniteError(
            f"{name} has {len(wrong)} of {values.numel()} values that are not finite, the first {float(wrong[0])}: "
            "expected finite numbers"
        )
