"""Latents as tokens of 2 × 2, row by row, for transformers that do not cut them themselves (FLUX and its kin)."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from families.flow.diffusers_model import DiffusersFlowModel

if TYPE_CHECKING:
    import torch

PATCH = 2


def packed(latents: torch.Tensor) -> torch.Tensor:
    """Tokens (B, H/2 · W/2, 4·C) of latents (B, C, H, W); within a token channel, row, column."""
    count, channels, height, width = latents.shape
    cut = latents.reshape(count, channels, height // PATCH, PATCH, width // PATCH, PATCH)
    return cut.permute(0, 2, 4, 1, 3, 5).reshape(count, -1, channels * PATCH * PATCH)


def unpacked(tokens: torch.Tensor, height: int, width: int) -> torch.Tensor:
    """Latents (B, C, H, W) of tokens (B, H/2 · W/2, 4·C)."""
    cut = tokens.reshape(len(tokens), height // PATCH, width // PATCH, -1, PATCH, PATCH)
    return cut.permute(0, 3, 1, 4, 2, 5).reshape(len(tokens), -1, height, width)


def positions(height: int, width: int, like: torch.Tensor) -> torch.Tensor:
    """Position of each token, (H/2 · W/2, 3): 0, row, column."""
    import torch

    rows, columns = (torch.arange(side // PATCH, device=like.device) for side in (height, width))
    grid = torch.stack(torch.meshgrid(rows, columns, indexing="ij"), dim=-1).reshape(-1, 2)
    return torch.nn.functional.pad(grid, (1, 0)).to(like.dtype)


class TokenFlow(DiffusersFlowModel):
    """A model whose transformer takes tokens and is told where they stand."""

    SIGMAS_GIVEN: ClassVar[bool] = True
    PATCH: ClassVar[int] = PATCH

    @property
    def latent_channels(self) -> int:
        """Channels of the latents: a quarter of a token's."""
        return int(self.config.get("in_channels", 64)) // (PATCH * PATCH)

    @property
    def _patch_size(self) -> int:
        # Latents come in tokens.
        return 1
