"""ImageReward's network on transformers' BLIP classes, and the map between its keys and the published ones.

Reference: ``ImageReward/ImageReward.py`` and ``models/BLIP`` of image-reward 1.5.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers.models.blip.configuration_blip import BlipTextConfig, BlipVisionConfig
from transformers.models.blip.modeling_blip import BlipVisionModel
from transformers.models.blip.modeling_blip_text import BlipTextModel

from evals.networks.affine_head import HIDDEN_WIDTHS, AffineHead
from evals.networks.weights import load_strictly

# Mean and standard deviation of the raw reward over the author's data; ImageReward.py, attributes mean and std.
REWARD_MEAN = 0.16717362830052426
REWARD_STD = 1.0333394966054072

# BLIP ViT-L/16 at 224 pixels, which ImageReward builds by vit="large".
VIT_L_16: dict[str, Any] = {
    "image_size": 224,
    "patch_size": 16,
    "hidden_size": 1024,
    "num_hidden_layers": 24,
    "num_attention_heads": 16,
    "intermediate_size": 4096,
}
# BERT's defaults, which med_config.json may leave out; BLIP's own differ.
BERT_BASE: dict[str, Any] = {
    "vocab_size": 30522,
    "hidden_size": 768,
    "num_hidden_layers": 12,
    "num_attention_heads": 12,
    "intermediate_size": 3072,
    "max_position_embeddings": 512,
    "hidden_act": "gelu",
    "layer_norm_eps": 1e-12,
    "hidden_dropout_prob": 0.1,
    "attention_probs_dropout_prob": 0.1,
    "initializer_range": 0.02,
    "pad_token_id": 0,
}
# Where captions begin and end. The library's are numbers of BERT's vocabulary, and a smaller one has none such.
_NO_CAPTIONS: dict[str, Any] = {"bos_token_id": None, "sep_token_id": None}
# In the published file and not used by the reward: a constant buffer and the two contrastive projections.
IGNORED = (
    "blip.text_encoder.embeddings.position_ids",
    "blip.vision_proj.*",
    "blip.text_proj.*",
)
_VISION_KEYS = (
    (r"embeddings\.class_embedding", "cls_token"),
    (r"embeddings\.position_embedding", "pos_embed"),
    (r"embeddings\.patch_embedding", "patch_embed.proj"),
    (r"encoder\.layers\.(\d+)\.self_attn\.qkv", r"blocks.\1.attn.qkv"),
    (r"encoder\.layers\.(\d+)\.self_attn\.projection", r"blocks.\1.attn.proj"),
    (r"encoder\.layers\.(\d+)\.layer_norm([12])", r"blocks.\1.norm\2"),
    (r"encoder\.layers\.(\d+)\.mlp", r"blocks.\1.mlp"),
    (r"post_layernorm", "norm"),
)


class BlipReward(nn.Module):
    """Image transformer, BERT with cross-attention to the image's tokens, and an affine head on its first token.

    Args:
        med_config: content of ``med_config.json`` (BERT's keys); ``encoder_width`` is taken from the image tower.
        vision_config: fields of ``BlipVisionConfig``; ``None`` is ViT-L/16 at 224 pixels.
        head_hidden: widths between the head's layers.
    """

    def __init__(
        self,
        med_config: Mapping[str, Any],
        vision_config: Mapping[str, Any] | None = None,
        head_hidden: Sequence[int] = HIDDEN_WIDTHS,
    ) -> None:
        super().__init__()
        # BLIP's defaults are an epsilon of 1e-5, where timm has 1e-6, and an initialisation too small to train from.
        vision = {
            "layer_norm_eps": 1e-6,
            "initializer_range": 0.02,
            **(VIT_L_16 if vision_config is None else vision_config),
        }
        text = {key: med_config.get(key, default) for key, default in BERT_BASE.items()}
        self.visual_encoder = BlipVisionModel(BlipVisionConfig(**vision))
        # is_decoder creates the cross-attention; attention stays bidirectional because the call says otherwise.
        width = self.visual_encoder.config.hidden_size
        self.text_encoder = BlipTextModel(
            BlipTextConfig(**text, **_NO_CAPTIONS, encoder_hidden_size=width, is_decoder=True), add_pooling_layer=False
        )
        self.mlp = AffineHead(text["hidden_size"], head_hidden)

    def reward(self, pixels: torch.Tensor, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
        """Standardised reward (B,), float32; differentiable.

        Args:
            pixels: normalised, (B, 3, S, S).
            input_ids, attention_mask: WordPiece ids and 1 where they are no padding, (B, T).
        """
        image_tokens = self.visual_encoder(pixel_values=pixels).last_hidden_state
        text = self.text_encoder(
            input_ids=input_ids,
            attention_mask=attention_mask,
            encoder_hidden_states=image_tokens,
            is_decoder=False,
        )
        raw: torch.Tensor = self.mlp(text.last_hidden_state[:, 0].float())
        return (raw - REWARD_MEAN) / REWARD_STD


def upstream_key(key: str) -> str:
    """image-reward's name of one of :class:`BlipReward`'s parameters."""
    part, _, rest = key.partition(".")
    if part == "mlp":
        return key
    if part == "text_encoder":
        return f"blip.{key}"
    for pattern, name in _VISION_KEYS:
        renamed, count = re.subn(rf"^{pattern}(?=\.|$)", name, rest)
        if count:
            return f"blip.visual_encoder.{renamed}"
    raise KeyError(key)


def to_upstream_state_dict(model: BlipReward) -> dict[str, torch.Tensor]:
    """The model's tensors, on the CPU, under image-reward's names."""
    return {upstream_key(key): value.detach().cpu().contiguous() for key, value in model.state_dict().items()}


def load_upstream(model: BlipReward, state: Mapping[str, torch.Tensor], path: Path) -> None:
    """Copy tensors under image-reward's names into the model.

    Raises:
        InputError: a key is missing, unknown or of another shape; ``path`` is named.
    """
    names = {key: upstream_key(key) for key in model.state_dict()}
    load_strictly(model, state, path, ignored=IGNORED, file_keys=names)
