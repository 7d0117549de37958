"""Attention of Ovis-U1's transformer: heads with normed queries and keys, turned by the positions of their tokens."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

Heads = tuple[Tensor, Tensor, Tensor]
"""Queries, keys and values, each (B, H, L, D)."""


def exact(values: Tensor) -> Tensor:
    """Values in float32, or in float64 where they are."""
    return values if values.dtype == torch.float64 else values.float()


class Turns:
    """Cosines and sines (L, D / 2), float32, of the angles that tokens turn the pairs of a head's channels by.

    Args:
        positions: (L, A), of the tokens on each axis.
        widths: A numbers, even, whose sum is D: channels that turn by each axis.
        theta: base of the frequencies.
    """

    def __init__(self, positions: Tensor, widths: Sequence[int], theta: float) -> None:
        angles = []
        for axis, width in enumerate(widths):
            exponents = torch.arange(0, width, 2, dtype=torch.float64, device=positions.device) / width
            angles.append(positions[:, axis, None].double() / theta**exponents)
        angle = torch.cat(angles, dim=-1)
        self.cosine, self.sine = angle.cos().float(), angle.sin().float()

    def after(self, count: int) -> Turns:
        """Those of the tokens after the first ``count``."""
        found = object.__new__(Turns)
        found.cosine, found.sine = self.cosine[count:], self.sine[count:]
        return found

    def __call__(self, heads: Tensor) -> Tensor:
        """Queries or keys (B, H, L, D), turned, in their dtype."""
        even, odd = exact(heads).unflatten(-1, (-1, 2)).unbind(-1)
        turned = (self.cosine * even - self.sine * odd, self.sine * even + self.cosine * odd)
        return torch.stack(turned, dim=-1).flatten(-2).to(heads.dtype)


class RootMeanSquare(nn.Module):
    """Divides by the root mean square of the last dimension, in float32."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(width))

    def forward(self, values: Tensor) -> Tensor:
        """Values of the same shape."""
        fine = exact(values)
        root = torch.rsqrt(fine.square().mean(dim=-1, keepdim=True) + 1e-6)
        return (fine * root).to(values.dtype) * self.scale


class HeadNorms(nn.Module):
    """Norms of queries and keys."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.query_norm = RootMeanSquare(width)
        self.key_norm = RootMeanSquare(width)

    def forward(self, query: Tensor, key: Tensor, value: Tensor) -> Heads:
        """Queries and keys normed, in the dtype of the values."""
        return self.query_norm(query).to(value.dtype), self.key_norm(key).to(value.dtype), value


def split_heads(joined: Tensor, heads: int) -> Heads:
    """Queries, keys and values of a projection (B, L, 3·H·D)."""
    query, key, value = joined.unflatten(-1, (3, heads, -1)).permute(2, 0, 3, 1, 4)
    return query, key, value


def attended(heads: Heads, turns: Turns | None = None) -> Tensor:
    """What tokens see of one another, (B, L, H·D); without positions where there are no turns."""
    query, key, value = heads
    if turns is not None:
        query, key = turns(query), turns(key)
    return functional.scaled_dot_product_attention(query, key, value).transpose(1, 2).flatten(2)


class Attention(nn.Module):
    """Projections of one attention, which may see the heads of others too.

    Args:
        width: of tokens.
        heads: how many.
        bias: of the projection to heads.
    """

    def __init__(self, width: int, heads: int, *, bias: bool) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width, bias=bias)
        self.norm = HeadNorms(width // heads)
        self.proj = nn.Linear(width, width)

    def forward(self, tokens: Tensor) -> Heads:
        """Heads of tokens (B, L, W)."""
        found: Heads = self.norm(*split_heads(self.qkv(tokens), self.heads))
        return found
