"""LoRA of a denoiser in a file: which two matrices are of which layer, and the factor by which their product counts.

Names of diffusers, PEFT and kohya are read. The libraries pass over what they do not know, with a warning at most; here
every key is read or refused with its name.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from artifacts.errors import InputError
from evals.generation import lora_scale
from families.diffusers_folder import DENOISERS

if TYPE_CHECKING:
    import torch

FILES = tuple(f"{name}{end}" for end in (".safetensors", ".bin") for name in ("pytorch_lora_weights", "adapter_model"))
"""Names under which diffusers and PEFT save a LoRA."""

# The adapter's name in PEFT's own modules may stand in the middle, as in ``lora_A.default.weight``.
_DOWN = re.compile(r"(.+?)(?:\.lora_A(?:\.\w+)?|\.lora_down|[._]lora\.down|\.lora_linear_layer\.down)\.weight")
_UP = re.compile(r"(.+?)(?:\.lora_B(?:\.\w+)?|\.lora_up|[._]lora\.up|\.lora_linear_layer\.up)\.weight")
_ALPHA = re.compile(r"(.+?)(?:[._]lora|\.lora_linear_layer)?\.alpha")
_TEXT = re.compile(
    r"(base_model\.model\.)?(text_encoder|text_model|conditioner\.|cond_stage_model\.|(lora_|lycoris_)?te[12]?_)"
)
_PREFIXES = ("base_model.model.", "module.", "model.", "diffusion_model.", *(f"{name}." for name in DENOISERS))
_OTHER_METHODS = {
    "DoRA": r"dora_scale|magnitude",
    "LoHa of LyCORIS": r"\.hada_",
    "LoKr of LyCORIS": r"\.lokr_",
    "LoCon of LyCORIS with a core between its matrices": r"\.lora_mid\b",
    "LyCORIS with a factor that was trained": r"\.scalar$",
    "OFT": r"\.b?oft_",
    "GLoRA of LyCORIS": r"\.[ab][12]\.weight$",
    "full differences or norms of LyCORIS": r"\.(diff|diff_b|w_norm|b_norm|set_weight)$",
    "IA3": r"\.on_input$|\.ia3_",
    "VeRA": r"vera_lambda",
    "LoRA with biases": r"\.lora_[AB](\.\w+)?\.bias$|\.lora_(down|up)\.bias$",
}


@dataclass
class _Layer:
    """What a file holds of one layer: key and tensor of each."""

    down: list[tuple[str, torch.Tensor]] = field(default_factory=list)
    up: list[tuple[str, torch.Tensor]] = field(default_factory=list)
    alpha: list[tuple[str, torch.Tensor]] = field(default_factory=list)


def is_adapter(path: Path, keys: Iterable[str]) -> bool:
    """Whether a file holds adapters of some kind instead of a whole denoiser."""
    if path.name.startswith(("adapter_model", "pytorch_lora_weights")):
        return True
    patterns = [_DOWN, _UP, *(re.compile(pattern) for pattern in _OTHER_METHODS.values())]
    return any(key.startswith(("lora_", "lycoris_")) or any(p.search(key) for p in patterns) for key in keys)


def merge(path: Path, state: Mapping[str, torch.Tensor], denoiser: Any, base: Path) -> None:
    """Add a LoRA to the weights of a denoiser.

    Args:
        path: file that the state was read from; metadata and PEFT's configuration are read beside it.
        state: its tensors.
        denoiser: of diffusers, in float32.
        base: folder of the base, for messages.

    Raises:
        InputError: the file holds anything but a LoRA of this denoiser, or says two things of a factor.
    """
    import torch

    layers = _read(path, state)
    weights = {name: p for name, p in denoiser.named_parameters() if name.endswith(".weight") and p.ndim > 1}
    places = _places(layers, weights, denoiser)
    if lost := [name for name in layers if name not in places]:
        keys = [key for name in lost for key, _ in (*layers[name].down, *layers[name].up)]
        raise InputError(
            f"{path}: {len(keys)} of {2 * len(layers)} LoRA matrices have no place in the base {base}, the first "
            f"'{keys[0]}'; give its own base"
        )
    said = lora_scale.settings(path, state)
    taken: dict[str, str] = {}
    for name, layer in layers.items():
        place = places[name]
        weight = weights[f"{place}.weight"]
        (key, down), (_, up) = layer.down[0], layer.up[0]
        if (other := taken.setdefault(place, key)) != key:
            raise InputError(f"{path}: '{other}' and '{key}' are of one layer; save the LoRA that is meant alone")
        rank = len(down) if down.ndim else 0
        for (owner, matrix), wanted in ((layer.down[0], (rank, *weight.shape[1:])), (layer.up[0], (len(weight), rank))):
            if _without_ones(matrix.shape) != _without_ones(wanted) or rank == 0:
                raise InputError(
                    f"{path}: not a LoRA of the base {base}: size mismatch: '{owner}' has shape {tuple(matrix.shape)}, "
                    f"expected {tuple(wanted)} at rank {rank}; give its own base"
                )
        alpha = layer.alpha[0] if layer.alpha else None
        factor = lora_scale.factor(path, place, name, rank, alpha, said, kernel=bool(_without_ones(weight.shape)[2:]))
        product = up.float().reshape(len(weight), rank) @ down.float().reshape(rank, -1)
        with torch.no_grad():
            weight += factor * product.reshape(weight.shape).to(weight.device)


def _without_ones(shape: Iterable[int]) -> tuple[int, ...]:
    """A shape without the ones at its end: a layer may be kept as a matrix or as a convolution of one pixel."""
    sizes = list(shape)
    while len(sizes) > 2 and sizes[-1] == 1:
        sizes.pop()
    return tuple(sizes)


def _read(path: Path, state: Mapping[str, torch.Tensor]) -> dict[str, _Layer]:
    """Matrices and alphas by the name that the file gives their layer."""
    plain = "expected a LoRA of two matrices a layer; merge it into the denoiser with what it was made with"
    for method, pattern in _OTHER_METHODS.items():
        if found := [key for key in state if re.search(pattern, key)]:
            raise InputError(f"{path}: is {method}, which is not read: '{found[0]}' ({len(found)} in all); {plain}")
    if found := [key for key in state if _TEXT.match(key)]:
        raise InputError(
            f"{path}: the LoRA changes text encoders too: '{found[0]}' ({len(found)} in all); only the denoiser of a "
            "model is exchanged here"
        )
    layers: dict[str, _Layer] = {}
    unknown = []
    for key, tensor in state.items():
        for part, names in (("down", _DOWN), ("up", _UP), ("alpha", _ALPHA)):
            if matched := names.fullmatch(key):
                getattr(layers.setdefault(matched[1], _Layer()), part).append((key, tensor))
                break
        else:
            unknown.append(key)
    if unknown:
        raise InputError(
            f"{path}: '{unknown[0]}' is neither a matrix of a LoRA nor its alpha ({len(unknown)} in all); {plain}"
        )
    for layer in layers.values():
        for twice in (layer.down, layer.up, layer.alpha):
            if len(twice) > 1:
                raise InputError(f"{path}: '{twice[0][0]}' and '{twice[1][0]}' are of one layer; save one LoRA alone")
        if not layer.down or not layer.up:
            key = (layer.down or layer.up or layer.alpha)[0][0]
            raise InputError(f"{path}: '{key}' has not both matrices beside it; {plain}")
        for key, tensor in (*layer.down, *layer.up):
            if not tensor.is_floating_point():
                raise InputError(f"{path}: '{key}' is of {tensor.dtype}, expected floating point; {plain}")
    if not layers:
        raise InputError(f"{path}: holds no LoRA matrix; {plain}")
    return layers


def _places(layers: Iterable[str], weights: Mapping[str, Any], denoiser: Any) -> dict[str, str]:
    """Names of modules in the denoiser of what the file calls them, where there is one."""
    modules = {name.removesuffix(".weight") for name in weights}
    # Two names that would be one are no name.
    joined = Counter(name.replace(".", "_") for name in modules)
    flat = {name.replace(".", "_"): name for name in modules if joined[name.replace(".", "_")] == 1}
    found = {}
    for layer in layers:
        name, before = layer, ""
        while name != before:
            before = name
            for prefix in _PREFIXES:
                name = name.removeprefix(prefix)
        place = _place(name, modules) or flat.get(name.removeprefix("lora_unet_").removeprefix("lycoris_"))
        if place is not None:
            found[layer] = place
    originals = [layer for layer in layers if layer not in found and layer.startswith("lora_unet_")]
    return {**found, **_original_places(originals, modules, denoiser)} if originals else found


def _place(name: str, modules: set[str]) -> str | None:
    # The oldest names of diffusers are those of attention processors, whose last layer has no number.
    dotted = name.replace(".processor.", ".")
    return next((n for n in (dotted, f"{dotted}.0") if n in modules), None)


def _original_places(layers: list[str], modules: set[str], denoiser: Any) -> dict[str, str]:
    """As :func:`_places`, of kohya's names for blocks as the original code of SDXL numbers them, by diffusers."""
    import torch
    from diffusers.loaders.lora_pipeline import StableDiffusionXLLoraLoaderMixin

    marks = {layer: torch.zeros(1) for layer in layers}
    pairs = {f"{x}.{end}.weight": mark for x, mark in marks.items() for end in ("lora_down", "lora_up")}
    try:
        renamed, _ = StableDiffusionXLLoraLoaderMixin.lora_state_dict(pairs, unet_config=denoiser.config)
    # What diffusers raises for names that it cannot place: the caller refuses them all.
    except (ValueError, KeyError, IndexError, AttributeError):
        return {}
    matched = {id(mark): found[1] for key, mark in renamed.items() if (found := _DOWN.fullmatch(key))}
    places = {layer: _place(matched[id(mark)].removeprefix("unet."), modules) for layer, mark in marks.items()}
    return {layer: place for layer, place in places.items() if place is not None}
