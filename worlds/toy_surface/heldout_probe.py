"""Drift of the models of a variant on held-out pairs of points."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from artifacts.random_streams import stream
from sdpo.training.heldout_drift import drift_row
from worlds.toy_surface.mlp_stack import predict
from worlds.toy_surface.point_pairs import Batch, Points

if TYPE_CHECKING:
    from torch import Tensor

# Domain of the random stream, apart from those of the trainer.
_HELDOUT = 12


class HeldoutProbe:
    """Drift on held-out pairs of points at fixed noise and evenly spread times, the same for every model.

    Args:
        points: held-out pairs.
        limit: at most so many of them.
        start: (S, P), the models that drift is measured from, one a seed.
        sizes: of their layers.
    """

    def __init__(self, points: Points, limit: int, start: Tensor, sizes: Sequence[int]) -> None:
        import torch

        count = min(limit, len(points))
        times = (torch.arange(count) + 0.5) / count
        # Shuffled: pair i must not get the i-th time from below.
        times = times[torch.randperm(count, generator=stream(_HELDOUT, 0))]
        noise = torch.randn(count, 3, generator=stream(_HELDOUT, 1))
        self.batch = Batch(points, torch.arange(count)[None], noise[None], times[None], losers=True)
        self.sizes = sizes
        self.reference = self._errors(start)

    def _errors(self, parameters: Tensor) -> Tensor:
        """Errors averaged over the three values, (S, 2, N): winners, losers."""
        import torch

        with torch.no_grad():
            found = predict(parameters, self.batch.inputs.expand(len(parameters), -1, -1), self.sizes)
            return (found - self.batch.target).square().mean(1).view(len(parameters), 2, -1)

    def measure(self, parameters: Tensor, step: int) -> list[dict[str, float]]:
        """One row of contract ``drift`` for each of a variant's models, (S, P)."""
        drifts = (self._errors(parameters) - self.reference).double()
        return [drift_row(winner, loser, step) for winner, loser in drifts]
