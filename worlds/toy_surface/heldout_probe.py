"""Drift of the models of a stack on held-out pairs of points."""

from __future__ import annotations

from typing import TYPE_CHECKING

from artifacts.random_streams import stream
from sdpo.training.heldout_drift import drift_row
from worlds.toy_surface.point_pairs import Batch, Points

if TYPE_CHECKING:
    from torch import Tensor

    from worlds.toy_surface.mlp_stack import MlpStack

# Domain of the random stream, apart from those of the trainer.
_HELDOUT = 12


class HeldoutProbe:
    """Drift on held-out pairs of points at fixed noise and evenly spread times, the same for every model.

    Args:
        points: held-out pairs.
        limit: at most so many of them.
        reference: the models that drift is measured from.
    """

    def __init__(self, points: Points, limit: int, reference: MlpStack) -> None:
        import torch

        count = min(limit, len(points))
        times = (torch.arange(count) + 0.5) / count
        # Shuffled: pair i must not get the i-th time from below.
        times = times[torch.randperm(count, generator=stream(_HELDOUT, 0))]
        noise = torch.randn(count, 3, generator=stream(_HELDOUT, 1))
        self.batch = Batch(points, torch.arange(count)[None], noise[None], times[None], losers=True)
        self.reference = [self._errors(reference, model) for model in range(len(reference))]

    def _errors(self, stack: MlpStack, model: int) -> Tensor:
        """Errors averaged over the three values, (2, N): winners, losers."""
        residual = stack.predict(model, self.batch.inputs[0]) - self.batch.target[0]
        return residual.square().mean(1).view(2, -1)

    def measure(self, stack: MlpStack, model: int, reference: int, step: int) -> dict[str, float]:
        """One row of contract ``drift``, for a model of a stack and the reference with this number."""
        winner, loser = (self._errors(stack, model) - self.reference[reference]).double()
        return drift_row(winner, loser, step)
