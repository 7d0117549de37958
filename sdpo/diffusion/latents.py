"""Latents of images: the posterior of an autoencoder that has one, from which training draws anew at each step."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class Latents:
    """Scaled latents of N images.

    Attributes:
        mean: (N, C, H, W): mean of the posterior, or the latents where the autoencoder has no posterior.
        std: (N, C, H, W): standard deviation of the posterior; ``None`` where there is none.
    """

    mean: torch.Tensor
    std: torch.Tensor | None = None

    def __len__(self) -> int:
        return len(self.mean)

    def sampled(self, generator: torch.Generator, *, of: int | None = None, first: int = 0) -> torch.Tensor:
        """One draw from the posterior of each image, (N, C, H, W); without a posterior the latents, nothing drawn.

        Args:
            generator: draws for a whole batch, of which these images may be a part.
            of: images of the batch; N by default.
            first: place of the first of these images in the batch.
        """
        import torch

        if self.std is None:
            return self.mean
        normal = torch.randn((of or len(self), *self.mean.shape[1:]), generator=generator)
        return self.mean + self.std * normal[first : first + len(self)]

    def cpu(self) -> Latents:
        """The same on the CPU."""
        return Latents(self.mean.cpu(), None if self.std is None else self.std.cpu())

    @staticmethod
    def joined(parts: Sequence[Latents]) -> Latents:
        """Latents of several batches one after the other."""
        import torch

        deviations = [part.std for part in parts if part.std is not None]
        return Latents(torch.cat([part.mean for part in parts]), torch.cat(deviations) if deviations else None)
