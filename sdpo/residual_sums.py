"""Sums over residuals of pairs: all that the safe scale needs to know of a micro-batch, and additive.

Squares of very large or very small residuals leave the range of fp32. Sums are
therefore kept relative to the largest magnitude among their terms, and two sums are brought to the larger of the two
before they are added.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor
    from torch.distributed import ProcessGroup


@dataclass(frozen=True)
class ResidualSums:
    """Σ ‖a_w·r_w‖², Σ ‖a_l·r_l‖² and Σ a_w·a_l·⟨r_w, r_l⟩ over some pairs, with residuals r and weights a ≥ 0.

    All are () for a group of pairs or (B,) for pairs one by one, in fp64 (fp32 on devices that have no fp64).
    """

    winner_size: Tensor
    """Largest magnitude in a_w·r_w; the unit in which the other sums count winners."""
    loser_size: Tensor
    """The same of a_l·r_l."""
    winner_square: Tensor
    """Σ ‖a_w·r_w‖², in units of winner_size²."""
    loser_square: Tensor
    """Σ ‖a_l·r_l‖², in units of loser_size²."""
    product: Tensor
    """Σ a_w·a_l·⟨r_w, r_l⟩, in units of winner_size·loser_size."""
    values: Tensor
    """Number of values in the residuals of one side."""

    def __add__(self, other: ResidualSums) -> ResidualSums:
        """The sums over both groups of pairs."""
        import torch

        unit_w = torch.maximum(self.winner_size, other.winner_size)
        unit_l = torch.maximum(self.loser_size, other.loser_size)
        parts = []
        for sums in (self, other):
            w, loser = _ratio(sums.winner_size, unit_w), _ratio(sums.loser_size, unit_l)
            parts.append((w * w * sums.winner_square, loser * loser * sums.loser_square, w * loser * sums.product))
        square_w, square_l, product = (a + b for a, b in zip(*parts, strict=True))
        return ResidualSums(unit_w, unit_l, square_w, square_l, product, self.values + other.values)

    def weighted(self, winner_weight: Tensor, loser_weight: Tensor) -> ResidualSums:
        """The same with residuals times these weights ≥ 0, (B,), of sums (B,) without weights."""
        return replace(
            self,
            winner_size=winner_weight.to(self.winner_size) * self.winner_size,
            loser_size=loser_weight.to(self.loser_size) * self.loser_size,
        )

    def cosine(self) -> Tensor:
        """Cosine of the winners' and the losers' residuals, in [−1, 1]; 0 where one of them is zero."""
        import torch

        length = self.winner_square.sqrt() * self.loser_square.sqrt()
        return torch.where(length > 0, self.product / torch.where(length > 0, length, 1.0), 0.0).clamp(-1.0, 1.0)

    def total(self) -> ResidualSums:
        """The sums over all pairs: (B,) becomes ()."""
        unit_w, unit_l = self.winner_size.amax(), self.loser_size.amax()
        w, loser = _ratio(self.winner_size, unit_w), _ratio(self.loser_size, unit_l)
        return ResidualSums(
            winner_size=unit_w,
            loser_size=unit_l,
            winner_square=(w * w * self.winner_square).sum(),
            loser_square=(loser * loser * self.loser_square).sum(),
            product=(w * loser * self.product).sum(),
            values=self.values.sum(),
        )

    def all_reduced(self, group: ProcessGroup | None = None) -> ResidualSums:
        """The sums over all processes of a group; as they are where ``torch.distributed`` is not in use."""
        import torch
        import torch.distributed as dist

        if not (dist.is_available() and dist.is_initialized()):
            return self
        own = torch.stack([getattr(self, field.name) for field in fields(self)])
        gathered = [torch.empty_like(own) for _ in range(dist.get_world_size(group))]
        dist.all_gather(gathered, own, group=group)
        first, *others = (ResidualSums(*sums.unbind()) for sums in gathered)
        for sums in others:
            first = first + sums
        return first


def residual_sums(winner: Tensor, loser: Tensor, winner_weight: Tensor, loser_weight: Tensor) -> ResidualSums:
    """The sums of each pair, (B,).

    Args:
        winner: residuals of the winners, (B, ...).
        loser: residuals of the losers, of the same shape.
        winner_weight: a_w ≥ 0, (B,).
        loser_weight: a_l ≥ 0, (B,).
    """
    import torch

    wide = torch.float32 if winner.device.type == "mps" else torch.float64

    def direction(residual: Tensor) -> tuple[Tensor, Tensor]:
        rows = residual.detach().reshape(len(residual), -1)
        rows = rows.to(torch.promote_types(rows.dtype, torch.float32))
        peak = rows.abs().amax(1)
        return rows / torch.where(peak > 0, peak, 1.0)[:, None], peak.to(wide)

    (w, peak_w), (l, peak_l) = direction(winner), direction(loser)  # noqa: E741

    def dot(a: Tensor, b: Tensor) -> Tensor:
        return (a * b).sum(1).to(wide)

    return ResidualSums(
        winner_size=winner_weight.detach().to(wide) * peak_w,
        loser_size=loser_weight.detach().to(wide) * peak_l,
        winner_square=dot(w, w),
        loser_square=dot(l, l),
        product=dot(w, l),
        values=torch.full_like(peak_w, w.shape[1]),
    )


def _ratio(size: Tensor, unit: Tensor) -> Tensor:
    """size / unit; 1 where the unit is 0, so that weights of zero leave the angle between residuals."""
    import torch

    return torch.where(unit > 0, size / torch.where(unit > 0, unit, 1.0), 1.0)
