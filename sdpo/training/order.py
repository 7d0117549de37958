"""Order in which a run sees its pairs: epochs of shuffled pairs without a gap, in pieces of one shape.

The shuffled pairs stream into one bucket a shape. When a bucket has as many as pass through the denoiser at once, these
are the next piece; what is left in the buckets waits for the next epoch's pairs. Where all are of one shape, the pieces
are the stream itself. Any piece is found without those before it: how many pairs of a shape an epoch has is always the
same.
"""

from __future__ import annotations

from bisect import bisect_right
from functools import lru_cache
from typing import TYPE_CHECKING

from artifacts.random_streams import stream
from sdpo.training.drawing import ORDER

if TYPE_CHECKING:
    import torch


class Order:
    """The order of a seed.

    Args:
        shapes: number of each pair's shape, (N,).
        size: pairs of a piece.
        seed: of the run.
    """

    def __init__(self, shapes: torch.Tensor, size: int, seed: int) -> None:
        self.shapes, self.size, self.seed = shapes, size, seed
        self.counts = shapes.bincount().tolist()

    def rows(self, batch_size: int, step: int) -> torch.Tensor:
        """The pairs of step ``step`` (from 1), (B,): the next ``batch_size`` of the pieces one after the other."""
        import torch

        first, last = (step - 1) * batch_size, step * batch_size
        pieces = range(first // self.size, -(-last // self.size))
        found = [row for piece in pieces for row in self._piece(piece)]
        start = first - pieces.start * self.size
        return torch.tensor(found[start : start + batch_size])

    def _piece(self, number: int) -> list[int]:
        # Each shape keeps less than a piece back, so this many epochs fill more than that many pieces.
        enough = (number + len(self.counts)) * self.size // len(self.shapes) + 2
        epoch = bisect_right(range(enough), number, key=self._filled) - 1
        shape, end = _epoch(self, epoch)[1][number - self._filled(epoch)].tolist()
        count = self.counts[shape]
        return [int(_epoch(self, i // count)[0][shape][i % count]) for i in range(end - self.size, end)]

    def _filled(self, epochs: int) -> int:
        """Pieces that are whole after some epochs."""
        return sum(epochs * count // self.size for count in self.counts)


@lru_cache(maxsize=4)
def _epoch(order: Order, number: int) -> tuple[list[torch.Tensor], torch.Tensor]:
    """The pairs of each shape in their order in an epoch, and the pieces (P, 2) that get whole in it.

    Of a piece the number of its shape, and how many pairs of this shape came until it was whole, in all epochs.
    """
    import torch

    rows = torch.randperm(len(order.shapes), generator=stream(ORDER, order.seed, number))
    shapes = order.shapes[rows]
    by_shape, places, pieces = [], [], []
    for shape, count in enumerate(order.counts):
        own = (shapes == shape).nonzero()[:, 0]
        last = torch.arange(count)[(-count * number - 1) % order.size :: order.size]
        by_shape.append(rows[own])
        places.append(own[last])
        pieces.append(torch.stack([torch.full_like(last, shape), count * number + last + 1], 1))
    return by_shape, torch.cat(pieces)[torch.cat(places).argsort()]
