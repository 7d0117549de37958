"""The transformer that Ovis-U1 draws with (``visual_generator.backbone``, called Yak there), under the same names."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.loaders.peft import PeftAdapterMixin
from diffusers.models.modeling_utils import ModelMixin
from torch import Tensor, nn

from families.ovis_u1.attention import Turns
from families.ovis_u1.blocks import DoubleBlock, LastLayer, SingleBlock
from families.ovis_u1.refiner import TokenRefiner

FREQUENCIES = 256
"""Width of the waves that a number is embedded as."""
LONGEST = 10_000
"""Longest of their periods, over 2π."""
TIMES = 1000
"""What σ, and a guidance, are multiplied by before."""


class Embedder(nn.Module):
    """Two linear layers around a sigmoid linear unit."""

    def __init__(self, taken: int, width: int) -> None:
        super().__init__()
        self.in_layer = nn.Linear(taken, width)
        self.silu = nn.SiLU()
        self.out_layer = nn.Linear(width, width)

    def forward(self, values: Tensor) -> Tensor:
        """Values of width W."""
        found: Tensor = self.out_layer(self.silu(self.in_layer(values)))
        return found


class OvisU1Transformer(ModelMixin, ConfigMixin, PeftAdapterMixin):  # type: ignore[misc]
    """Velocity of noisy latents, told of the prompt; all arguments are keys of the original's configuration.

    Args:
        in_channels, out_channels: of a token, four times those of the latents.
        vec_in_dim: width of the text's vector, which is ``hidden_size``.
        context_in_dim: width of the conditions of a prompt.
        hidden_size: of tokens.
        mlp_ratio: of a perceptron's hidden layer to it.
        num_heads: of attention; the refiner's has twice as many.
        depth, depth_single_blocks: blocks with text and image beside each other, and as one sequence.
        axes_dim: channels of a head that turn by each axis of a position.
        theta: base of the frequencies.
        qkv_bias: of the projections to heads in the former blocks.
        guidance_embed: whether it is told the guidance.
    """

    _supports_gradient_checkpointing = True

    @register_to_config  # type: ignore[untyped-decorator]
    def __init__(
        self,
        in_channels: int = 16,
        out_channels: int = 16,
        vec_in_dim: int = 1536,
        context_in_dim: int = 3072,
        hidden_size: int = 1536,
        mlp_ratio: float = 4,
        num_heads: int = 12,
        depth: int = 6,
        depth_single_blocks: int = 12,
        axes_dim: Sequence[int] = (16, 56, 56),
        theta: float = 10_000,
        qkv_bias: bool = True,
        guidance_embed: bool = False,
    ) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        hidden = int(hidden_size * mlp_ratio)
        self.axes, self.theta = tuple(axes_dim), theta
        self.img_in = nn.Linear(in_channels, hidden_size)
        self.time_in = Embedder(FREQUENCIES, hidden_size)
        self.vector_in = Embedder(vec_in_dim, hidden_size)
        self.guidance_in = Embedder(FREQUENCIES, hidden_size) if guidance_embed else None
        self.txt_in = TokenRefiner(context_in_dim, hidden_size, 2 * num_heads)
        self.double_blocks = nn.ModuleList(
            DoubleBlock(hidden_size, num_heads, hidden, bias=qkv_bias) for _ in range(depth)
        )
        self.single_blocks = nn.ModuleList(
            SingleBlock(hidden_size, num_heads, hidden) for _ in range(depth_single_blocks)
        )
        self.final_layer = LastLayer(hidden_size, out_channels)
        self.gradient_checkpointing = False
        # Set when it is switched on.
        self._gradient_checkpointing_func: Any = None

    def forward(
        self, image: Tensor, positions: Tensor, text: Tensor, sigmas: Tensor, guidance: Tensor | None = None
    ) -> Tensor:
        """Predicted ε − x0 of each token, (B, L, C).

        Args:
            image: tokens of noisy latents, (B, L, C).
            positions: of the tokens, (L, 3): 0, row, column; all of the text is at 0.
            text: conditions (B, T, D), all of whose rows are text.
            sigmas: (B,) in [0, 1], 1 is noise.
            guidance: (B,), where the transformer is told it.
        """
        tokens = self.img_in(image)
        vector = self.time_in(waves(sigmas).to(tokens.dtype))
        if self.guidance_in is not None:
            if guidance is None:
                raise ValueError("guidance is missing")
            vector = vector + self.guidance_in(waves(guidance).to(tokens.dtype))
        words, whole = self.txt_in(text)
        vector = vector + self.vector_in(whole)
        everywhere = torch.cat([positions.new_zeros(words.shape[1], positions.shape[1]), positions])
        turns = Turns(everywhere, self.axes, self.theta)
        for block in self.double_blocks:
            tokens, words = self._through(block, tokens, words, vector, turns)
        joined = torch.cat([words, tokens], dim=1)
        for block in self.single_blocks:
            joined = self._through(block, joined, vector, turns)
        found: Tensor = self.final_layer(joined[:, words.shape[1] :], vector)
        return found

    def _through(self, block: nn.Module, *inputs: Tensor | Turns) -> Any:
        if torch.is_grad_enabled() and self.gradient_checkpointing:
            return self._gradient_checkpointing_func(block, *inputs)
        return block(*inputs)


def waves(numbers: Tensor) -> Tensor:
    """Cosines and sines (B, 256) of numbers (B,), float32."""
    half = FREQUENCIES // 2
    steps = torch.arange(half, dtype=torch.float32, device=numbers.device)
    angles = TIMES * numbers.float()[:, None] * torch.exp(-math.log(LONGEST) * steps / half)
    return torch.cat([angles.cos(), angles.sin()], dim=-1)
