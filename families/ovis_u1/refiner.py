"""The token refiner of Ovis-U1: two blocks in which the words of a prompt, seen in order so far, see one another.

A token of its own goes with them, and becomes the vector of the whole text.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from families.ovis_u1.attention import attended, split_heads

BLOCKS = 2
"""Published; no configuration says it."""
HIDDEN = 4
"""Width of a perceptron's hidden layer in a block, as a multiple of the tokens'."""


class TextProjection(nn.Module):
    """Two linear layers."""

    def __init__(self, taken: int, width: int) -> None:
        super().__init__()
        self.linear_1 = nn.Linear(taken, width)
        self.act_1 = nn.SiLU()
        self.linear_2 = nn.Linear(width, width)

    def forward(self, values: Tensor) -> Tensor:
        """Values of another width."""
        found: Tensor = self.linear_2(self.act_1(self.linear_1(values)))
        return found


class Perceptron(nn.Module):
    """Two linear layers under the names of the original."""

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(width, hidden)
        self.act = nn.SiLU()
        self.fc2 = nn.Linear(hidden, width)

    def forward(self, values: Tensor) -> Tensor:
        """Values of the same width."""
        found: Tensor = self.fc2(self.act(self.fc1(values)))
        return found


class RefinerBlock(nn.Module):
    """Attention without positions, and a perceptron; the mean of the text gates both."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm1 = nn.LayerNorm(width, eps=1e-6)
        self.self_attn_qkv = nn.Linear(width, 3 * width)
        self.self_attn_proj = nn.Linear(width, width)
        self.norm2 = nn.LayerNorm(width, eps=1e-6)
        self.mlp = Perceptron(width, HIDDEN * width)
        self.adaLN_modulation = nn.Sequential(nn.SiLU(), nn.Linear(width, 2 * width))

    def forward(self, tokens: Tensor, context: Tensor) -> Tensor:
        """Tokens (B, L, W) after the block; ``context`` is (B, W)."""
        attention, feed = self.adaLN_modulation(context)[:, None].chunk(2, dim=-1)
        seen = attended(split_heads(self.self_attn_qkv(self.norm1(tokens)), self.heads))
        tokens = tokens + self.self_attn_proj(seen) * attention
        found: Tensor = tokens + self.mlp(self.norm2(tokens)) * feed
        return found


class Blocks(nn.Module):
    """The blocks in a row."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(RefinerBlock(width, heads) for _ in range(BLOCKS))

    def forward(self, tokens: Tensor, context: Tensor) -> Tensor:
        """Tokens (B, L, W) after them."""
        for block in self.blocks:
            tokens = block(tokens, context)
        return tokens


class TokenRefiner(nn.Module):
    """Conditions of a prompt to text tokens and one vector.

    Args:
        taken: width of the conditions.
        width: of the tokens.
        heads: of the attention.
    """

    def __init__(self, taken: int, width: int, heads: int) -> None:
        super().__init__()
        self.input_embedder = nn.Linear(taken, width)
        self.c_embedder = TextProjection(taken, width)
        self.individual_token_refiner = Blocks(width, heads)
        self.cls_token = nn.Parameter(torch.zeros(1, 1, width))

    def forward(self, text: Tensor) -> tuple[Tensor, Tensor]:
        """Tokens (B, T, W) and the text's vector (B, W) of conditions (B, T, D), all of whose rows are text."""
        context = self.c_embedder(text.mean(dim=1))
        tokens = self.input_embedder(text)
        first = self.cls_token.expand(len(tokens), -1, -1)
        refined = self.individual_token_refiner(torch.cat([first, tokens], dim=1), context)
        return refined[:, 1:], refined[:, 0]
