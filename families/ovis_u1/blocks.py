"""Blocks of Ovis-U1's transformer: text and image beside each other, then as one sequence, then the image alone."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from families.ovis_u1.attention import Attention, HeadNorms, Turns, attended, split_heads


class Modulation(nn.Module):
    """Shift, scale and gate, each (B, 1, W), for ``count`` places, from the vector of time and text."""

    def __init__(self, width: int, count: int) -> None:
        super().__init__()
        self.count = count
        self.lin = nn.Linear(width, 3 * count * width)

    def forward(self, vector: Tensor) -> list[tuple[Tensor, Tensor, Tensor]]:
        """Of each place."""
        parts = self.lin(functional.silu(vector))[:, None].chunk(3 * self.count, dim=-1)
        return [(parts[i], parts[i + 1], parts[i + 2]) for i in range(0, len(parts), 3)]


def plain_norm(width: int) -> nn.LayerNorm:
    """A layer norm without weights."""
    return nn.LayerNorm(width, elementwise_affine=False, eps=1e-6)


def two_layers(width: int, hidden: int) -> nn.Sequential:
    """A perceptron of one hidden layer."""
    return nn.Sequential(nn.Linear(width, hidden), nn.GELU(approximate="tanh"), nn.Linear(hidden, width))


class DoubleBlock(nn.Module):
    """Text and image tokens with weights of their own attend to one another, image tokens also to themselves alone.

    Args:
        width: of tokens.
        heads: of each attention.
        hidden: width of the perceptrons' hidden layers.
        bias: of the projections to heads.
    """

    def __init__(self, width: int, heads: int, hidden: int, *, bias: bool) -> None:
        super().__init__()
        self.img_mod = Modulation(width, 3)
        self.img_norm1 = plain_norm(width)
        self.img_attn = Attention(width, heads, bias=bias)
        self.img_self_attn = Attention(width, heads, bias=bias)
        self.img_norm2 = plain_norm(width)
        self.img_mlp = two_layers(width, hidden)
        self.txt_mod = Modulation(width, 2)
        self.txt_norm1 = plain_norm(width)
        self.txt_attn = Attention(width, heads, bias=bias)
        self.txt_norm2 = plain_norm(width)
        self.txt_mlp = two_layers(width, hidden)

    def forward(self, image: Tensor, text: Tensor, vector: Tensor, turns: Turns) -> tuple[Tensor, Tensor]:
        """Image (B, L, W) and text (B, T, W) after the block."""
        joint, feed, own = self.img_mod(vector)
        text_joint, text_feed = self.txt_mod(vector)
        count = text.shape[1]
        normed = self.img_norm1(image)
        seen_alone = attended(self.img_self_attn(_modulated(normed, own)), turns.after(count))
        text_heads = self.txt_attn(_modulated(self.txt_norm1(text), text_joint))
        image_heads = self.img_attn(_modulated(normed, joint))
        query, key, value = (torch.cat(pair, dim=2) for pair in zip(text_heads, image_heads, strict=True))
        text_seen, image_seen = attended((query, key, value), turns).tensor_split([count], dim=1)

        image = image + joint[2] * self.img_attn.proj(image_seen)
        image = image + own[2] * self.img_self_attn.proj(seen_alone)
        image = image + feed[2] * self.img_mlp(_modulated(self.img_norm2(image), feed))
        text = text + text_joint[2] * self.txt_attn.proj(text_seen)
        text = text + text_feed[2] * self.txt_mlp(_modulated(self.txt_norm2(text), text_feed))
        return image, text


class SingleBlock(nn.Module):
    """Attention and perceptron side by side, on text and image as one sequence.

    Args:
        width: of tokens.
        heads: of the attention.
        hidden: width of the perceptron's hidden layer.
    """

    def __init__(self, width: int, heads: int, hidden: int) -> None:
        super().__init__()
        self.heads, self.parts = heads, [3 * width, hidden]
        self.linear1 = nn.Linear(width, 3 * width + hidden)
        self.linear2 = nn.Linear(width + hidden, width)
        self.norm = HeadNorms(width // heads)
        self.pre_norm = plain_norm(width)
        self.mlp_act = nn.GELU(approximate="tanh")
        self.modulation = Modulation(width, 1)

    def forward(self, tokens: Tensor, vector: Tensor, turns: Turns) -> Tensor:
        """Tokens (B, T + L, W) after the block."""
        ((shift, scale, gate),) = self.modulation(vector)
        joined, hidden = self.linear1((1 + scale) * self.pre_norm(tokens) + shift).split(self.parts, dim=-1)
        seen = attended(self.norm(*split_heads(joined, self.heads)), turns)
        found: Tensor = tokens + gate * self.linear2(torch.cat([seen, self.mlp_act(hidden)], dim=-1))
        return found


class LastLayer(nn.Module):
    """From tokens of width W to tokens of latents."""

    def __init__(self, width: int, channels: int) -> None:
        super().__init__()
        self.norm_final = plain_norm(width)
        self.linear = nn.Linear(width, channels)
        self.adaLN_modulation = nn.Sequential(nn.SiLU(), nn.Linear(width, 2 * width))

    def forward(self, tokens: Tensor, vector: Tensor) -> Tensor:
        """Tokens (B, L, C)."""
        shift, scale = self.adaLN_modulation(vector)[:, None].chunk(2, dim=-1)
        found: Tensor = self.linear((1 + scale) * self.norm_final(tokens) + shift)
        return found


def _modulated(normed: Tensor, place: tuple[Tensor, Tensor, Tensor]) -> Tensor:
    shift, scale, _ = place
    return (1 + scale) * normed + shift
