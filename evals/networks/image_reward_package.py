"""The original package ``image-reward`` 1.5 as a scorer.

While it is imported it gets names that transformers moved or dropped; the module ``clip``, which it imports for two
other scores and does not declare; and ``ImageReward.ReFL``, a trainer that would load diffusers, accelerate and
datasets. Its own subclass keeps three methods of ``PreTrainedModel``.
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable, Mapping
from contextlib import redirect_stdout
from fnmatch import fnmatchcase
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any
from unittest.mock import patch

from artifacts.errors import InputError
from artifacts.weight_files import read_state_dict
from evals.networks.interface import PromptTokens, Scorer, torch_device
from evals.networks.legacy_packages import (
    PackageScorer,
    as_pickle,
    check_dtype,
    imported,
    package_fingerprint,
    standing_in,
)
from evals.networks.weights import read_json, tokenizer_files

if TYPE_CHECKING:
    import torch
    from PIL import Image

# Widths of the package's reward head, which it does not read from any configuration.
HEAD_INPUT, HEAD_HIDDEN = 768, [1024, 128, 64, 16]


def create(
    path: Path, *, tokens: Callable[[Any], PromptTokens], protocol: str, version: int, device: str, dtype: str
) -> Scorer:
    """ImageReward as ``ImageReward.load`` makes it.

    Args:
        path: ``ImageReward.pt`` or ``ImageReward.safetensors``; beside it ``med_config.json`` and a BERT tokenizer;
            ``vision_config.json`` may shrink the image tower, which then stands in for the package's ViT-L/16.
        tokens: how much of a prompt is read, of a tokenizer.
        protocol: ``sdpo`` hands the package RGB images, ``author`` and ``package`` leave them as they are.

    Raises:
        InputError: a file is missing, or the package cannot build what it describes.
    """
    folder = path.parent
    med_path, vision_path = folder / "med_config.json", folder / "vision_config.json"
    check_dtype("imagereward", dtype)
    vision = read_json(vision_path) if vision_path.is_file() else None
    state = read_state_dict(path)
    _check_buildable(vision, state, path)
    files = {"weights": path, "med_config": med_path}
    files |= {} if vision is None else {"vision_config": vision_path}
    vocabulary = tokenizer_files(folder, (("tokenizer.json",), ("vocab.txt",)), "imagereward")
    where = torch_device(device)
    original = package()
    parts = sys.modules["ImageReward.models.BLIP.blip_pretrain"]
    # Needed until the package has read it.
    pickled, _copy = as_pickle(path, state)
    with (
        warnings.catch_warnings(),
        redirect_stdout(sys.stderr),
        patch.object(parts, "init_tokenizer", lambda: _bert_tokenizer(folder)),
        patch.object(parts, "create_vit", parts.create_vit if vision is None else _small_vit(vision)),
    ):
        warnings.simplefilter("ignore")
        try:
            model = original.load(name=str(pickled), med_config=str(med_path), device=str(where))
        except (RuntimeError, AttributeError, TypeError, ValueError) as error:
            reason = str(error).strip().splitlines()[0]
            raise InputError(f"{path}: the package image-reward cannot load it: {reason}") from error
    _check_complete(model, state, path)

    def rate(image: Image.Image, prompt: str) -> float:
        import torch

        with torch.inference_mode():
            reward: float = model.score(prompt, image.convert("RGB") if protocol == "sdpo" else image)
        return reward

    digest = package_fingerprint("image-reward", "imagereward", version, protocol, {**files, **vocabulary}, where.type)
    return PackageScorer(digest, rate, tokens(model.blip.tokenizer))


def package() -> ModuleType:
    """The module ``ImageReward``, imported with what it misses.

    Raises:
        InputError: the package is not installed.
    """
    if "ImageReward" in sys.modules:
        return sys.modules["ImageReward"]
    import torch
    from transformers import modeling_utils, pytorch_utils

    def find_pruneable_heads_and_indices(*_: Any) -> None:
        raise NotImplementedError("transformers has no pruning of heads any more")

    moved: dict[str, Any] = {
        "apply_chunking_to_forward": pytorch_utils.apply_chunking_to_forward,
        "prune_linear_layer": getattr(pytorch_utils, "prune_linear_layer", find_pruneable_heads_and_indices),
        "find_pruneable_heads_and_indices": find_pruneable_heads_and_indices,
    }
    stubs = {name: ModuleType(name) for name in ("clip", "ImageReward.ReFL")}
    with imported("image-reward"), patch.multiple(modeling_utils, create=True, **moved), standing_in(stubs):
        package = import_module("ImageReward")
    bert = sys.modules["ImageReward.models.BLIP.med"].BertPreTrainedModel

    def get_head_mask(_self: Any, _mask: Any, layers: int) -> list[None]:
        return [None] * layers

    def invert_attention_mask(self: Any, mask: torch.Tensor) -> torch.Tensor:
        wide = mask[:, None, :, :] if mask.dim() == 3 else mask[:, None, None, :]
        return (1.0 - wide.to(self.dtype)) * torch.finfo(self.dtype).min

    # On the package's own subclass, so that transformers' models keep theirs.
    bert.all_tied_weights_keys = {}
    bert.get_head_mask = get_head_mask
    bert.invert_attention_mask = invert_attention_mask
    return package


def _check_buildable(vision: Mapping[str, Any] | None, state: Mapping[str, Any], path: Path) -> None:
    """Check what image-reward takes for granted."""
    from evals.networks.affine_head import head_widths

    width, hidden = head_widths(state, path, prefix="mlp.")
    if (width, hidden) != (HEAD_INPUT, HEAD_HIDDEN):
        raise InputError(
            f"{path}: the package image-reward has a head of {[HEAD_INPUT, *HEAD_HIDDEN]}, the file one of "
            f"{[width, *hidden]}; use implementation 'native'"
        )
    if vision is not None and (
        vision.get("image_size") != 224 or vision.get("intermediate_size") != 4 * vision.get("hidden_size", 0)
    ):
        raise InputError(
            f"{path.parent / 'vision_config.json'}: the package image-reward has images of 224 pixels and hidden "
            "layers four times the width; use implementation 'native'"
        )


def _check_complete(model: Any, state: Mapping[str, Any], path: Path) -> None:
    """Refuse weights of other names, over which image-reward goes without a word."""
    from evals.networks.blip_reward import IGNORED

    for key in model.state_dict().keys() ^ state.keys():
        if not any(fnmatchcase(key, pattern) for pattern in IGNORED):
            which = "unknown" if key in state else "missing"
            raise InputError(f"{path}: key '{key}' is {which}; the weights are of another architecture")


def _small_vit(vision: Mapping[str, Any]) -> Callable[..., tuple[Any, int]]:
    def create_vit(_size: str, image_size: int, *_: Any) -> tuple[Any, int]:
        width = vision["hidden_size"]
        transformer = sys.modules["ImageReward.models.BLIP.vit"].VisionTransformer
        return (
            transformer(
                img_size=image_size,
                patch_size=vision["patch_size"],
                embed_dim=width,
                depth=vision["num_hidden_layers"],
                num_heads=vision["num_attention_heads"],
            ),
            width,
        )

    return create_vit


def _bert_tokenizer(folder: Path) -> Any:
    """The package's ``init_tokenizer`` with the folder's vocabulary instead of the hub's."""
    from transformers.models.bert.tokenization_bert import BertTokenizer

    tokenizer = BertTokenizer.from_pretrained(str(folder), local_files_only=True)
    tokenizer.add_special_tokens({"bos_token": "[DEC]"})
    tokenizer.add_special_tokens({"additional_special_tokens": ["[ENC]"]})
    tokenizer.enc_token_id = tokenizer.convert_tokens_to_ids("[ENC]")
    return tokenizer
