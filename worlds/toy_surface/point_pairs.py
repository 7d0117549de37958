"""Pairs of points, and the batches that are drawn from them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from artifacts.random_streams import stream
from sdpo.diffusion.noising import flow_coefficients, noised, target, uniform_sigmas

if TYPE_CHECKING:
    from torch import Tensor

    from sdpo.pairs.cache import Pairs

# Domain of the random stream, apart from those of the trainer.
_STEP = 11


@dataclass(frozen=True)
class Points:
    """Pairs of points: winners and losers, (N, 3) each."""

    winner: Tensor
    loser: Tensor

    @classmethod
    def of(cls, pairs: Pairs) -> Points:
        """All pairs of points of a pair cache, whose latents are clouds (clouds, 3, points, 1)."""
        import torch

        rows = torch.arange(len(pairs))
        clouds = (side.latents.mean for side in (pairs.winners(rows), pairs.losers(rows)))
        return cls(*(x.squeeze(-1).transpose(1, 2).reshape(-1, 3).contiguous() for x in clouds))

    def __len__(self) -> int:
        return len(self.winner)

    def drawn(self, seeds: Sequence[int], step: int, count: int, *, losers: bool) -> Batch:
        """What each seed sees in step ``step``: ``count`` pairs, drawn with replacement."""
        import torch

        rows, noise, times = [], [], []
        for random in (stream(_STEP, seed, step) for seed in seeds):
            rows.append(torch.randint(len(self), (count,), generator=random))
            noise.append(torch.randn(count, 3, generator=random))
            times.append(uniform_sigmas(count, random))
        return Batch(self, torch.stack(rows), torch.stack(noise), torch.stack(times), losers=losers)


class Batch:
    """Noised pairs of S seeds, winners before losers.

    Args:
        points: where the pairs come from.
        rows: their numbers, (S, B).
        noise: (S, B, 3).
        times: (S, B), share of noise.
        losers: whether losers are wanted, too.

    Attributes:
        inputs: (S, 4, branches · B).
        target: (S, 3, branches · B).
        time: (S, B).
    """

    def __init__(self, points: Points, rows: Tensor, noise: Tensor, times: Tensor, *, losers: bool) -> None:
        import torch

        sides = [points.winner[rows], points.loser[rows]] if losers else [points.winner[rows]]
        # Members of a pair share noise and time.
        clean, both, share = torch.cat(sides, 1), torch.cat([noise] * len(sides), 1), torch.cat([times] * len(sides), 1)
        flat = (clean.flatten(0, 1), both.flatten(0, 1), *flow_coefficients(share.flatten()))
        self.inputs = torch.cat([noised(*flat).view_as(clean).mT, share[:, None]], dim=1)
        self.target = target("flow", *flat).view_as(clean).mT.contiguous()
        self.time = times
