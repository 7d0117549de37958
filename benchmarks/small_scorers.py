"""Small networks with random weights in the file formats of the five published scorers, for benchmarks/scoring.py.

Images are 224 pixels, as for the real ones; widths and depths are a fraction.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *"abcdefghijklmnopqrstuvwxyz", "photo", "of", "cat", "in"]
TOWER = {"hidden_size": 128, "intermediate_size": 512, "num_hidden_layers": 3, "num_attention_heads": 4}
OPEN_CLIP: dict[str, Any] = {
    "embed_dim": 64,
    "vision_cfg": {"image_size": 224, "layers": 3, "width": 128, "head_width": 32, "patch_size": 32},
    "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 128, "heads": 4, "layers": 3},
}
# The package image-reward has a head of 768 inputs whatever the configuration says.
MED_CONFIG: dict[str, Any] = {
    **TOWER,
    "architectures": ["BertModel"],
    "hidden_size": 768,
    "max_position_embeddings": 48,
    "vocab_size": len(WORDS) + 2,
    "add_cross_attention": True,
    "is_decoder": True,
    "type_vocab_size": 2,
    "layer_norm_eps": 1e-12,
}


def save_all(folder: Path) -> dict[str, Path]:
    """Write the five scorers below ``folder``; their weights by name."""
    torch.manual_seed(0)
    paths = {name: folder / name for name in ("pickscore", "hpsv2", "imagereward", "aesthetic", "clip")}
    for path in paths.values():
        path.mkdir(parents=True)
    _save_open_clip(paths["hpsv2"], "HPS_v2_compressed.pt")
    _save_open_clip(paths["clip"], "open_clip_model.safetensors")
    _save_pickscore(paths["pickscore"])
    _save_aesthetic(paths["aesthetic"])
    _save_imagereward(paths["imagereward"])
    return paths


def _save_open_clip(folder: Path, weight_file: str) -> None:
    from evals.networks import open_clip_model

    open_clip_model.save(folder, open_clip_model.build(OPEN_CLIP), OPEN_CLIP, weight_file=weight_file)


def clip_tokenizer() -> Any:
    """CLIP's own vocabulary as transformers' tokenizer, from the copy that open_clip brings."""
    from open_clip.tokenizer import SimpleTokenizer
    from transformers.models.clip.tokenization_clip import CLIPTokenizer

    bpe = SimpleTokenizer()
    vocabulary = {token: index for token, index in bpe.encoder.items() if index < 49406}
    vocabulary |= {"<|startoftext|>": 49406, "<|endoftext|>": 49407}
    merges = sorted(bpe.bpe_ranks, key=lambda pair: bpe.bpe_ranks[pair])
    return CLIPTokenizer(vocab=vocabulary, merges=merges, model_max_length=77)


def _save_pickscore(folder: Path) -> None:
    from transformers import CLIPConfig, CLIPImageProcessor, CLIPModel

    from evals.scorers import pickscore

    text = {**TOWER, "vocab_size": 49408, "max_position_embeddings": 77, "eos_token_id": 49407, "bos_token_id": 49406}
    config = CLIPConfig(projection_dim=64, text_config=text, vision_config={**TOWER, "patch_size": 32})
    pickscore.save(folder, CLIPModel(config), clip_tokenizer())
    CLIPImageProcessor().save_pretrained(str(folder))


def _save_aesthetic(folder: Path) -> None:
    from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection

    from evals.networks.affine_head import AffineHead
    from evals.scorers import aesthetic

    config = CLIPVisionConfig(**TOWER, projection_dim=768, patch_size=32, hidden_act="quick_gelu")
    aesthetic.save(folder, CLIPVisionModelWithProjection(config), AffineHead(768))


def _save_imagereward(folder: Path) -> None:
    from transformers.models.bert.tokenization_bert import BertTokenizer

    from evals.networks.blip_reward import to_upstream_state_dict
    from evals.scorers import imagereward

    (folder / "vocab.txt").write_text("\n".join(WORDS) + "\n", encoding="utf-8")
    vision = {**TOWER, "image_size": 224, "patch_size": 32}
    model = imagereward.build(MED_CONFIG, vision)
    imagereward.save(folder, model, MED_CONFIG, vision, BertTokenizer.from_pretrained(str(folder)))
    # Both implementations read the file that image-reward reads.
    (folder / "ImageReward.safetensors").unlink()
    torch.save(to_upstream_state_dict(model), folder / "ImageReward.pt")
