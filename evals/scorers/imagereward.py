"""ImageReward v1.0 (Xu et al. 2023, arXiv:2304.05977): BLIP with cross-attention and a reward head.

As the package ``image-reward`` 1.5 in float32; prompts are cut to 35 WordPiece tokens. The score is standardised,
(r - mean)/std, unbounded, and lies between -2 and 2 for most images. The protocols (docs/scorers.md) agree on RGB
images: ``sdpo`` converts others before the resize, ``author`` and ``package`` after it, as the package does.

``implementation: package`` runs the package itself.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from artifacts.atomic import write_json
from artifacts.errors import InputError
from artifacts.weight_files import read_state_dict
from evals.networks.clip_tokenizer import whole_ids, without_padding
from evals.networks.interface import PixelScorer, PromptTokens, Scorer, fingerprint, torch_device
from evals.networks.preprocessing import Fit, Preprocessing
from evals.networks.weights import first_file, local_folder, read_json, tokenizer_files

if TYPE_CHECKING:
    import torch

    from evals.networks.blip_reward import BlipReward

PROTOCOLS = ("sdpo", "author", "package")
IMPLEMENTATIONS = ("native", "package")
NEEDS_WEIGHTS = True
VERSION = 1
WEIGHT_FILES = ("ImageReward.safetensors", "ImageReward.pt")
WEIGHTS = "a folder with ImageReward.pt or ImageReward.safetensors, med_config.json and vocab.txt or tokenizer.json"
MAX_TOKENS = 35
# Tokens that BLIP adds to BERT's vocabulary, in the order of their ids.
ADDED_TOKENS = ("[DEC]", "[ENC]")


def create(
    *,
    protocol: str,
    weights: str | Path,
    device: str,
    dtype: str,
    batch_size: int,
    implementation: str = "native",
) -> Scorer:
    """Load ImageReward from :data:`WEIGHTS`; arguments as in :func:`evals.scorers.create`.

    ``vision_config.json`` (fields of transformers' ``BlipVisionConfig``) may lie beside; without it the image tower is
    ViT-L/16 at 224 pixels, as published.

    Raises:
        InputError: the folder is missing or incomplete, or its parts do not fit one another.
    """
    folder = local_folder(weights, "imagereward", WEIGHTS)
    path = first_file(folder, WEIGHT_FILES, "imagereward")
    if implementation == "package":
        from evals.networks import image_reward_package

        return image_reward_package.create(
            path, tokens=prompt_tokens, protocol=protocol, version=VERSION, device=device, dtype=dtype
        )
    import torch

    from evals.networks.affine_head import head_widths
    from evals.networks.blip_reward import load_upstream

    files = {"weights": path, "med_config": folder / "med_config.json"}
    med_config, vision_config = read_json(files["med_config"]), None
    if (folder / "vision_config.json").is_file():
        files["vision_config"] = folder / "vision_config.json"
        vision_config = read_json(files["vision_config"])
    where, precision = torch_device(device), getattr(torch, dtype)
    state = read_state_dict(path)
    _, hidden = head_widths(state, path, prefix="mlp.")
    try:
        with torch.device(where):
            model = build(med_config, vision_config, hidden)
    except (TypeError, ValueError) as error:
        reason = str(error).strip().splitlines()[0]
        raise InputError(f"{folder}: med_config.json or vision_config.json is not a BLIP's: {reason}") from error
    load_upstream(model, state, path)
    model = model.to(precision).eval()
    # The head stays in float32: it is small, and half precision would quantise the score.
    model.mlp.float()
    vocab_size = model.text_encoder.config.vocab_size
    tokenizer, vocabulary = _read_tokenizer(folder, vocab_size)
    length = min(MAX_TOKENS, model.text_encoder.config.max_position_embeddings)
    fit: Fit = "crop" if protocol == "sdpo" else "crop_then_rgb"
    preprocessing = Preprocessing.square(model.visual_encoder.config.image_size, folder / "vision_config.json", fit)

    def rate(pixels: torch.Tensor, prompts: Sequence[str]) -> torch.Tensor:
        ids, mask = without_padding(*tokenise(tokenizer, prompts, length))
        return model.reward(pixels, ids.to(where), mask.to(where))

    return PixelScorer(
        name="imagereward",
        fingerprint=fingerprint(
            scorer="imagereward",
            version=VERSION,
            protocol=protocol,
            files={**files, **vocabulary},
            preprocessing=preprocessing.describe(),
            dtype=dtype,
        ),
        preprocessing=preprocessing,
        device=where,
        dtype=precision,
        batch_size=batch_size,
        rate=rate,
        tokens=prompt_tokens(tokenizer, length),
    )


def build(
    med_config: Mapping[str, Any],
    vision_config: Mapping[str, Any] | None = None,
    head_hidden: Sequence[int] | None = None,
) -> BlipReward:
    """A randomly initialised network; arguments as in :class:`evals.networks.blip_reward.BlipReward`."""
    from evals.networks.affine_head import HIDDEN_WIDTHS
    from evals.networks.blip_reward import BlipReward

    return BlipReward(med_config, vision_config, head_hidden or HIDDEN_WIDTHS)


def tokenise(tokenizer: Any, prompts: Sequence[str], length: int = MAX_TOKENS) -> tuple[torch.Tensor, torch.Tensor]:
    """Ids and mask, both int64, (B, length), of a transformers BERT tokenizer; [CLS] and [SEP] included."""
    encoded = tokenizer(list(prompts), padding="max_length", truncation=True, max_length=length, return_tensors="pt")
    return encoded["input_ids"], encoded["attention_mask"]


def prompt_tokens(tokenizer: Any, length: int = MAX_TOKENS) -> PromptTokens:
    """How much of a prompt the model reads."""
    return PromptTokens(length, partial(whole_ids, tokenizer))


def save(
    folder: str | Path,
    model: BlipReward,
    med_config: Mapping[str, Any],
    vision_config: Mapping[str, Any] | None,
    tokenizer: Any,
) -> None:
    """Write a network in ImageReward's layout and key names (:data:`WEIGHTS`).

    Args:
        vision_config: written as ``vision_config.json``; ``None`` for the published image tower.
        tokenizer: a transformers BERT tokenizer whose vocabulary is the network's.
    """
    from safetensors.torch import save_file

    from evals.networks.blip_reward import to_upstream_state_dict

    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    save_file(to_upstream_state_dict(model), folder / WEIGHT_FILES[0])
    write_json(folder / "med_config.json", dict(med_config))
    if vision_config is not None:
        write_json(folder / "vision_config.json", dict(vision_config))
    tokenizer.save_pretrained(str(folder))


def _read_tokenizer(folder: Path, vocab_size: int) -> tuple[Any, dict[str, Path]]:
    files = tokenizer_files(folder, (("tokenizer.json",), ("vocab.txt",)), "imagereward")
    from transformers.models.bert.tokenization_bert import BertTokenizer

    tokenizer = BertTokenizer.from_pretrained(str(folder), local_files_only=True)
    if len(tokenizer) == vocab_size - len(ADDED_TOKENS):
        tokenizer.add_tokens(list(ADDED_TOKENS), special_tokens=True)
    if len(tokenizer) != vocab_size:
        raise InputError(f"{folder}: the tokenizer has {len(tokenizer)} tokens, med_config.json says {vocab_size}")
    return tokenizer, files
