"""What a denoiser is told of each prompt, beside the noisy latents and the timestep."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class Conditions:
    """Text embeddings of N prompts, and what SDXL adds to them.

    Attributes:
        embeddings: (N, T, D); of two text encoders side by side along D.
        pooled: (N, P) projected embedding of the last text encoder; ``None`` for bases with one.
        time_ids: (N, 6) original height and width, crop at top and left, target height and width, in pixels;
            ``None`` for bases that take none.
    """

    embeddings: torch.Tensor
    pooled: torch.Tensor | None = None
    time_ids: torch.Tensor | None = None

    def __len__(self) -> int:
        return len(self.embeddings)

    def __getitem__(self, rows: slice) -> Conditions:
        return Conditions(
            self.embeddings[rows],
            None if self.pooled is None else self.pooled[rows],
            None if self.time_ids is None else self.time_ids[rows],
        )

    def repeated(self, count: int) -> Conditions:
        """Those of one prompt for each of ``count`` images."""
        return Conditions(
            self.embeddings.expand(count, -1, -1),
            None if self.pooled is None else self.pooled.expand(count, -1),
            None if self.time_ids is None else self.time_ids.expand(count, -1),
        )

    def followed_by(self, other: Conditions) -> Conditions:
        """Both, one after the other; they must be of the same base."""
        import torch

        def joined(first: torch.Tensor | None, second: torch.Tensor | None) -> torch.Tensor | None:
            return None if first is None or second is None else torch.cat([first, second])

        return Conditions(
            torch.cat([self.embeddings, other.embeddings]),
            joined(self.pooled, other.pooled),
            joined(self.time_ids, other.time_ids),
        )

    def zeroed(self) -> Conditions:
        """The same with zeros for all text; sizes and crops stay."""
        import torch

        pooled = None if self.pooled is None else torch.zeros_like(self.pooled)
        return Conditions(torch.zeros_like(self.embeddings), pooled, self.time_ids)

    def to(self, device: Any, dtype: Any) -> Conditions:
        """On another device in another precision; pixel counts are exact in every precision that is used."""
        return Conditions(
            self.embeddings.to(device, dtype),
            None if self.pooled is None else self.pooled.to(device, dtype),
            None if self.time_ids is None else self.time_ids.to(device, dtype),
        )

    def arguments(self) -> dict[str, Any]:
        """Keyword arguments of ``UNet2DConditionModel``."""
        if self.pooled is None:
            return {"encoder_hidden_states": self.embeddings}
        added = {"text_embeds": self.pooled, "time_ids": self.time_ids}
        return {"encoder_hidden_states": self.embeddings, "added_cond_kwargs": added}
