"""Digests of the parts of a base by what they compute, not by their files.

The same encoder is saved by other releases of a library in other files: with more keys in its configuration, with
renamed tensors, with a tokenizer in one file instead of three. All of these have one digest here.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from artifacts.atomic import json_sha256, tree_sha256
from artifacts.json_files import read_object

_WEIGHTS = ("diffusion_pytorch_model", "model")
_SHAPING: dict[str, Any] = {
    "scaling_factor": 0.18215,
    "shift_factor": None,
    "latents_mean": None,
    "latents_std": None,
    "hidden_act": "quick_gelu",
}
"""What shapes an encoder's output beside its weights, with what diffusers and transformers take for a missing key."""
_LONGEST = 1_000_000
"""Length of prompts above which a tokenizer means that it has none."""


def part_digest(folder: Path) -> str:
    """Hex digest of an autoencoder, text encoder or tokenizer in a folder of its own, in diffusers' layout.

    Weights count by their floating-point tensors, in whatever dtype they are stored; a folder with other files than
    safetensors, by all of them.
    """
    if (weights := _weight_files(folder)) is not None:
        return weights_digest(_read(folder / "config.json"), weights)
    return tokenizer_digest(folder) or tree_sha256(folder)


def same_weights(one: Path, other: Path) -> bool | None:
    """Whether two folders of one kind of model hold the same weights, but for the rounding of the coarser of them.

    Returns:
        ``None`` where that cannot be told: no readable safetensors, other names, roundings of two kinds.
    """
    import torch
    from safetensors import SafetensorError, safe_open

    if one.resolve() == other.resolve():
        return True
    found: list[dict[str, Any]] = []
    for folder in (one, other):
        try:
            opened: list[Any] = [safe_open(file, framework="pt") for file in _weight_files(folder) or ()]
        # Such as a pointer to what was not fetched: nothing else is read of it.
        except (SafetensorError, OSError):
            return None
        names = [(file, name) for file in opened for name in sorted(file.keys())]
        # Others are constant buffers, as for digests.
        floating = [(file, name) for file, name in names if "F" in file.get_slice(name).get_dtype()]
        # What some releases put before all names.
        found.append({name.removeprefix("text_model."): (file, name) for file, name in floating})
    if found[0].keys() != found[1].keys() or not found[0]:
        return None
    for name in found[0]:
        ours, theirs = (file.get_tensor(key) for file, key in (tensors[name] for tensors in found))
        coarser = min(ours.dtype, theirs.dtype, key=lambda dtype: dtype.itemsize)
        if ours.dtype != theirs.dtype and ours.element_size() == theirs.element_size():
            return None
        if ours.shape != theirs.shape or not torch.equal(ours.to(coarser), theirs.to(coarser)):
            return False
    return True


def weights_digest(
    configuration: Mapping[str, Any], files: Sequence[Path], chosen: Callable[[str], bool] = lambda name: True
) -> str:
    """Hex digest of an encoder.

    Args:
        configuration: of the encoder.
        files: its safetensors.
        chosen: says of a tensor's name whether it is the encoder's.
    """
    shaping = {key: configuration.get(key, default) for key, default in _SHAPING.items()}
    found = [digest for file in files for digest in _tensors(file, chosen)]
    return json_sha256({"configuration": shaping, "tensors": sorted(found)})


def tokenizer_digest(folder: Path) -> str | None:
    """Hex digest of the tokenizer in a folder; ``None`` where none lies that is known."""
    tokens = _tokens(folder)
    return None if tokens is None else json_sha256(tokens)


def _weight_files(folder: Path) -> list[Path] | None:
    """The files that diffusers and transformers load, which pass over copies in another precision."""
    for stem in _WEIGHTS:
        if (whole := folder / f"{stem}.safetensors").is_file():
            return [whole]
        if (index := folder / f"{stem}.safetensors.index.json").is_file():
            return [folder / name for name in sorted(set(_read(index)["weight_map"].values()))]
    return None


def _tensors(file: Path, chosen: Callable[[str], bool]) -> list[str]:
    """Digest of each floating-point tensor; others are constant buffers, which newer releases leave out."""
    import torch
    from safetensors import safe_open

    found = []
    with safe_open(file, framework="pt") as tensors:
        for name in filter(chosen, tensors.keys()):
            tensor = tensors.get_tensor(name)
            if tensor.is_floating_point():
                content = tensor.contiguous().view(-1).view(torch.uint8).numpy()
                found.append(hashlib.sha256(content).hexdigest())
    return found


def _tokens(folder: Path) -> dict[str, Any] | None:
    """Vocabulary, merges, padding and length of a byte-pair tokenizer."""
    if (folder / "tokenizer.json").is_file():
        model = _read(folder / "tokenizer.json")["model"]
        vocabulary = model.get("vocab")
        merges = [" ".join(pair) if isinstance(pair, list) else pair for pair in model.get("merges", [])]
    elif (folder / "vocab.json").is_file() and (folder / "merges.txt").is_file():
        vocabulary = _read(folder / "vocab.json")
        lines = (folder / "merges.txt").read_text(encoding="utf-8").split("\n")
        merges = [line.strip() for line in lines if line.strip() and not line.startswith("#version")]
    else:
        return None
    special = {**_read(folder / "special_tokens_map.json"), **_read(folder / "tokenizer_config.json")}
    padding, length = special.get("pad_token"), special.get("model_max_length")
    return {
        "vocabulary": vocabulary,
        "merges": merges,
        "padding": padding.get("content") if isinstance(padding, dict) else padding,
        "length": length if length is not None and length < _LONGEST else None,
    }


def _read(file: Path) -> dict[str, Any]:
    return read_object(file, missing="", damaged="fetch the base again") if file.is_file() else {}
