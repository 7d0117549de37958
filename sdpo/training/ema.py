"""Exponential moving average of the weights that train."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch


class MovingAverage:
    """An average that starts as a copy of the weights; memory of one more copy of what trains.

    The decay of step s (from 1) is ``min(decay, (1 + s) / (10 + s))``, so that the first weights do not linger.

    Args:
        parameters: those that train.
        decay: in [0, 1).
    """

    def __init__(self, parameters: Sequence[torch.nn.Parameter], decay: float) -> None:
        self.parameters = list(parameters)
        self.decay = decay
        self.average = [p.detach().clone() for p in self.parameters]

    def update(self, step: int) -> None:
        """Take in the weights after step ``step`` (from 1)."""
        import torch

        decay = min(self.decay, (1 + step) / (10 + step))
        with torch.no_grad():
            for mean, parameter in zip(self.average, self.parameters, strict=True):
                mean.lerp_(parameter, 1.0 - decay)

    def _exchange(self) -> None:
        import torch

        with torch.no_grad():
            for mean, parameter in zip(self.average, self.parameters, strict=True):
                held = parameter.clone()
                parameter.copy_(mean)
                mean.copy_(held)

    @contextmanager
    def in_place(self) -> Iterator[None]:
        """Within, the model has the average as its weights; afterwards its own, to the last bit."""
        self._exchange()
        try:
            yield
        finally:
            self._exchange()

    def state(self) -> list[torch.Tensor]:
        """What :meth:`load` takes."""
        return self.average

    def load(self, state: Sequence[torch.Tensor]) -> None:
        """Take up a saved average."""
        for mean, saved in zip(self.average, state, strict=True):
            mean.copy_(saved)
