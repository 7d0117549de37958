from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from torch.nn import functional as F

from artifacts.errors import InputError
from evals.networks.preprocessing import Preprocessing, crops
from evals.scorers import create, imagereward

Tensors = dict[str, torch.Tensor]


def attention(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, heads: int, mask: Any = 0.0) -> torch.Tensor:
    """Multi-head attention of (B, T, D) inputs, ``mask`` added to the scores."""
    split = [x.unflatten(-1, (heads, -1)).transpose(1, 2) for x in (query, key, value)]
    scores = split[0] @ split[1].transpose(-1, -2) / math.sqrt(split[0].shape[-1])
    return ((scores + mask).softmax(-1) @ split[2]).transpose(1, 2).flatten(2)


def reference_reward(state: Tensors, pixels: torch.Tensor, ids: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """image-reward's forward pass written out on its own key names (models/BLIP/vit.py, med.py, ImageReward.py)."""

    def linear(name: str, x: torch.Tensor) -> torch.Tensor:
        return F.linear(x, state[f"{name}.weight"], state[f"{name}.bias"])

    def norm(name: str, x: torch.Tensor, eps: float) -> torch.Tensor:
        return F.layer_norm(x, x.shape[-1:], state[f"{name}.weight"], state[f"{name}.bias"], eps)

    vit = "blip.visual_encoder"
    patches = F.conv2d(pixels, state[f"{vit}.patch_embed.proj.weight"], state[f"{vit}.patch_embed.proj.bias"], stride=7)
    x = torch.cat([state[f"{vit}.cls_token"].expand(len(pixels), -1, -1), patches.flatten(2).transpose(1, 2)], 1)
    x = x + state[f"{vit}.pos_embed"]
    for n in range(2):
        block = f"{vit}.blocks.{n}"
        q, k, v = linear(f"{block}.attn.qkv", norm(f"{block}.norm1", x, 1e-6)).chunk(3, -1)
        x = x + linear(f"{block}.attn.proj", attention(q, k, v, 2))
        x = x + linear(f"{block}.mlp.fc2", F.gelu(linear(f"{block}.mlp.fc1", norm(f"{block}.norm2", x, 1e-6))))
    image = norm(f"{vit}.norm", x, 1e-6)

    bert = "blip.text_encoder"
    words = state[f"{bert}.embeddings.word_embeddings.weight"][ids]
    h = words + state[f"{bert}.embeddings.position_embeddings.weight"][: ids.shape[1]]
    h = norm(f"{bert}.embeddings.LayerNorm", h, 1e-12)
    padding = (1.0 - mask[:, None, None, :]) * -10000.0
    for n in range(2):
        layer = f"{bert}.encoder.layer.{n}"
        for part, source, hidden in (("attention", None, padding), ("crossattention", image, 0.0)):
            other = h if source is None else source
            q = linear(f"{layer}.{part}.self.query", h)
            k, v = linear(f"{layer}.{part}.self.key", other), linear(f"{layer}.{part}.self.value", other)
            mixed = linear(f"{layer}.{part}.output.dense", attention(q, k, v, 3, hidden))
            h = norm(f"{layer}.{part}.output.LayerNorm", mixed + h, 1e-12)
        inner = linear(f"{layer}.output.dense", F.gelu(linear(f"{layer}.intermediate.dense", h)))
        h = norm(f"{layer}.output.LayerNorm", inner + h, 1e-12)
    reward = h[:, 0]
    for n in (0, 2, 4, 6, 7):
        reward = linear(f"mlp.layers.{n}", reward)
    return (reward[:, 0] - 0.16717362830052426) / 1.0333394966054072


def token_rows(rows: list[list[int]]) -> tuple[torch.Tensor, torch.Tensor]:
    ids = torch.tensor([row + [0] * (35 - len(row)) for row in rows])
    return ids, (torch.arange(35) < torch.tensor([[len(row)] for row in rows])).long()


def test_equals_the_forward_pass_written_out(
    imagereward_folder: Path, awkward_images: list[Image.Image], prompts: list[str]
) -> None:
    # Ids by hand: [CLS] 2, [SEP] 3, unknown 1, a 5, red 6, cat 7, two 8, blue 9, dogs 10, on 11, the 12, long 13, & 17.
    ids, mask = token_rows(
        [
            [2, 5, 6, 7, 3],
            [2, 3],
            [2, 8, 9, 10, 11, 5, 1, 1, 3],
            [2, 12, 1, 15, 1, 17, 1, 1, 12, 16, 3],
            [2, *[13] * 33, 3],
            [2, 5, 6, 7, 3],
        ]
    )
    pixels = Preprocessing(28).normalise(crops(awkward_images, 28))
    expected = reference_reward(load_file(imagereward_folder / "ImageReward.safetensors"), pixels, ids, mask)
    scores = create("imagereward", weights=imagereward_folder).score(awkward_images, prompts)
    np.testing.assert_allclose(scores, expected, rtol=1e-5, atol=1e-5)
    assert scores.std() > 0.1, "a head at its initial values would make every score equal"


def test_batches(imagereward_folder: Path, check_batching: Callable[[Callable[[int], Any]], None]) -> None:
    check_batching(lambda size: create("imagereward", weights=imagereward_folder, batch_size=size))


def test_keys_are_image_rewards_own() -> None:
    """image-reward's module has 625 keys, 5 of them unused: the position buffer and two projections.

    24 image blocks of 12 and 6 more, 12 BERT layers of 26 and 4 more, 10 in the head.
    """
    med = {"hidden_size": 8, "num_attention_heads": 2, "intermediate_size": 8, "vocab_size": 9}
    vision = {
        "image_size": 16,
        "hidden_size": 8,
        "num_hidden_layers": 24,
        "num_attention_heads": 2,
        "patch_size": 16,
        "intermediate_size": 8,
    }
    from evals.networks.blip_reward import to_upstream_state_dict

    keys = set(to_upstream_state_dict(imagereward.build(med, vision)))
    assert len(keys) == 625 - 5 == 24 * 12 + 6 + 12 * 26 + 4 + 10
    assert keys >= {
        "blip.visual_encoder.cls_token",
        "blip.visual_encoder.pos_embed",
        "blip.visual_encoder.patch_embed.proj.weight",
        "blip.visual_encoder.blocks.23.norm1.bias",
        "blip.visual_encoder.blocks.0.attn.qkv.weight",
        "blip.visual_encoder.blocks.0.attn.proj.bias",
        "blip.visual_encoder.blocks.0.norm2.weight",
        "blip.visual_encoder.blocks.0.mlp.fc1.weight",
        "blip.visual_encoder.blocks.0.mlp.fc2.bias",
        "blip.visual_encoder.norm.weight",
        "blip.text_encoder.embeddings.word_embeddings.weight",
        "blip.text_encoder.encoder.layer.11.attention.self.query.weight",
        "blip.text_encoder.encoder.layer.0.crossattention.output.LayerNorm.bias",
        "mlp.layers.0.weight",
        "mlp.layers.7.bias",
    }


def test_published_defaults() -> None:
    """ViT-L/16 at 224 and BERT base with 12 heads; BLIP's own defaults would give 8 heads and an epsilon of 1e-5."""
    with torch.device("meta"):
        model = imagereward.build({"vocab_size": 30524})
    vision, text = model.visual_encoder.config, model.text_encoder.config
    assert (vision.hidden_size, vision.num_hidden_layers, vision.num_attention_heads) == (1024, 24, 16)
    assert (vision.image_size, vision.patch_size, vision.layer_norm_eps) == (224, 16, 1e-6)
    assert (text.num_attention_heads, text.layer_norm_eps, text.encoder_hidden_size) == (12, 1e-12, 1024)
    # 446.67 million with the two unused projections of 1024 x 256 and 768 x 256.
    projections = 1024 * 256 + 256 + 768 * 256 + 256
    assert (sum(p.numel() for p in model.parameters()) + projections) / 1e6 == pytest.approx(446.67, abs=0.01)


def test_pickle_with_the_unused_keys_reads_the_same(
    imagereward_folder: Path, awkward_images: list[Image.Image], prompts: list[str]
) -> None:
    before = create("imagereward", weights=imagereward_folder).score(awkward_images, prompts)
    state = load_file(imagereward_folder / "ImageReward.safetensors")
    (imagereward_folder / "ImageReward.safetensors").unlink()
    state["blip.text_encoder.embeddings.position_ids"] = torch.arange(48)[None]
    state["blip.vision_proj.weight"] = state["blip.text_proj.bias"] = torch.ones(3)
    torch.save(state, imagereward_folder / "ImageReward.pt")
    np.testing.assert_array_equal(
        create("imagereward", weights=imagereward_folder).score(awkward_images, prompts), before
    )


def test_plain_word_list_serves_as_tokenizer(
    imagereward_folder: Path, awkward_images: list[Image.Image], prompts: list[str]
) -> None:
    before = create("imagereward", weights=imagereward_folder).score(awkward_images, prompts)
    vocabulary = json.loads((imagereward_folder / "tokenizer.json").read_text())["model"]["vocab"]
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (imagereward_folder / name).unlink()
    (imagereward_folder / "vocab.txt").write_text(
        "".join(f"{word}\n" for word in sorted(vocabulary, key=vocabulary.get))
    )
    np.testing.assert_array_equal(
        create("imagereward", weights=imagereward_folder).score(awkward_images, prompts), before
    )


def test_another_vocabulary(imagereward_folder: Path) -> None:
    path = imagereward_folder / "med_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "vocab_size": 19}))
    state = load_file(imagereward_folder / "ImageReward.safetensors")
    name = "blip.text_encoder.embeddings.word_embeddings.weight"
    save_file({**state, name: state[name][:19].clone()}, imagereward_folder / "ImageReward.safetensors")
    with pytest.raises(InputError, match=r"tokenizer has 18 tokens, med_config\.json says 19"):
        create("imagereward", weights=imagereward_folder)


@pytest.mark.parametrize(
    ("key", "message"),
    [
        ("blip.visual_encoder.blocks.1.attn.qkv.weight", "is missing"),
        ("blip.text_encoder.encoder.layer.0.crossattention.self.key.weight", "is missing"),
        ("mlp.layers.6.weight", "is missing"),
    ],
)
def test_missing_key(imagereward_folder: Path, key: str, message: str) -> None:
    path = imagereward_folder / "ImageReward.safetensors"
    state = load_file(path)
    del state[key]
    save_file(state, path)
    with pytest.raises(InputError, match=rf"ImageReward\.safetensors: key '{key}' {message}"):
        create("imagereward", weights=imagereward_folder)


def test_without_vision_config_the_published_tower_is_expected(imagereward_folder: Path) -> None:
    (imagereward_folder / "vision_config.json").unlink()
    monkey = pytest.MonkeyPatch()
    with monkey.context() as patch:
        from evals.networks import blip_reward

        patch.setattr(blip_reward, "VIT_L_16", {**blip_reward.VIT_L_16, "num_hidden_layers": 3, "hidden_size": 32})
        with pytest.raises(InputError, match=r"blocks\.2\..*is missing .*another architecture"):
            create("imagereward", weights=imagereward_folder)


def test_reward_is_differentiable_and_trains_every_parameter() -> None:
    torch.manual_seed(0)
    med = {"hidden_size": 12, "num_attention_heads": 2, "num_hidden_layers": 2, "intermediate_size": 8, "vocab_size": 9}
    vision = {
        "image_size": 8,
        "patch_size": 4,
        "hidden_size": 8,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "intermediate_size": 8,
    }
    model = imagereward.build(med, vision, [6, 5, 4, 3])
    ids = torch.randint(1, 9, (4, 7))
    model.reward(torch.randn(4, 3, 8, 8), ids, torch.ones_like(ids)).square().sum().backward()
    silent = [name for name, p in model.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]
    assert silent == []
