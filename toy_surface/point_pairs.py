"""Pairs of points, and the batches that are drawn from them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from sdpo.drawing import stream
from sdpo.noising import flow_coefficients, noised, target, uniform_sigmas

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

    def drawn(self, seed: int, step: int, count: int, *, losers: bool) -> Batch:
        """What seed ``seed`` sees in step ``step``: ``count`` pairs, drawn with replacement."""
        import torch

        random = stream(_STEP, seed, step)
        rows = torch.randint(len(self), (count,), generator=random)
        noise = torch.randn(count, 3, generator=random)
        return Batch(self, rows, noise, uniform_sigmas(count, random), losers=losers)


class Batch:
    """Noised pairs: inputs (branches · B, 4), targets (branches · B, 3), winners before losers; times (B,)."""

    def __init__(self, points: Points, rows: Tensor, noise: Tensor, times: Tensor, *, losers: bool) -> None:
        import torch

        clean = torch.cat([points.winner[rows], points.loser[rows]] if losers else [points.winner[rows]])
        branches = 2 if losers else 1
        # Members of a pair share noise and time.
        both, share = noise.repeat(branches, 1), times.repeat(branches)
        alpha, sigma = flow_coefficients(share)
        self.inputs = torch.cat([noised(clean, both, alpha, sigma), share[:, None]], dim=1)
        self.target = target("flow", clean, both, alpha, sigma)
        self.time = times
