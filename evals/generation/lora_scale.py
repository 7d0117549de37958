"""The factor by which a LoRA counts in each layer: alpha over rank, from wherever a file says alpha.

It may stand in a key beside the matrices (kohya, diffusers), in the file's metadata (diffusers: all settings of PEFT as
JSON; kohya: ``ss_network_alpha``), or in PEFT's ``adapter_config.json``. Where nothing says it, the factor is 1, as
diffusers and kohya have it; where two places say two things, the file is refused.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from artifacts.errors import InputError
from artifacts.json_files import read_object, to_object
from artifacts.weight_files import metadata
from families.diffusers_folder import DENOISERS

if TYPE_CHECKING:
    import torch

CONFIG = "adapter_config.json"
"""Where PEFT keeps the settings of ``adapter_model.*``."""
_DIFFUSERS, _KOHYA = "lora_adapter_metadata", "ss_network_alpha"
"""Keys of a file's metadata."""
# Settings of PEFT that are read here, or that say how the matrices came to be and nothing of what they do.
_KNOWN_SETTINGS = {
    *("task_type", "peft_type", "auto_mapping", "peft_version", "base_model_name_or_path", "revision"),
    *("inference_mode", "r", "lora_alpha", "rank_pattern", "alpha_pattern", "use_rslora", "bias", "init_lora_weights"),
    *("target_modules", "exclude_modules", "layers_to_transform", "layers_pattern", "lora_dropout"),
    *("loftq_config", "eva_config", "corda_config", "lora_ga_config", "megatron_core", "qalora_group_size"),
    *("runtime_config", "ensure_weight_tying"),
}
# With others (PiSSA, OLoRA, CorDA, LoftQ) the matrices go with weights that were changed before training.
_INITIALISATIONS = (None, True, False, "gaussian", "eva", "orthogonal")
_PATTERNS = ("rank_pattern", "alpha_pattern")
_DAMAGED = "fetch the file again"
# An alpha in bfloat16 has eight bits.
_ROUNDING = 2.0**-8


@dataclass(frozen=True)
class Settings:
    """What one place says of all layers of a LoRA.

    Attributes:
        where: file, and key of its metadata.
        values: settings by PEFT's names.
    """

    where: str
    values: Mapping[str, Any]

    def check(self) -> None:
        """Refuse settings that do more than scale the product of two matrices, or do not say by how much.

        Raises:
            InputError: there is one.
        """
        kind = self.values.get("peft_type") or "LORA"
        if kind != "LORA":
            raise InputError(f"{self.where}: peft_type is {kind}, which is not read; expected LORA")
        wrong = [key for key, value in self.values.items() if key not in _KNOWN_SETTINGS and value]
        if self.values.get("bias") not in (None, "none"):
            wrong.append("bias")
        if self.values.get("init_lora_weights") not in _INITIALISATIONS:
            wrong.append("init_lora_weights")
        if wrong:
            name = "DoRA" if "use_dora" in wrong else f"LoRA with {wrong[0]}"
            raise InputError(
                f"{self.where}: is {name}, which is not read: {wrong[0]} is {self.values[wrong[0]]!r}; merge it into "
                "the denoiser with what it was made with"
            )
        for name in _PATTERNS:
            if not _are_patterns(self.values.get(name) or {}):
                raise InputError(f"{self.where}: {name} is no object of patterns; {_DAMAGED}")
        if self.values.get("lora_alpha") is None:
            raise InputError(f"{self.where}: says no lora_alpha, which PEFT always does; {_DAMAGED}")

    def factor(self, layer: str, own_name: str, rank: int) -> float:
        """Alpha over rank of one layer.

        Args:
            layer: name of the module in the denoiser.
            own_name: what the file calls it; PEFT's patterns are of the names in the model that was trained.
            rank: of its matrices.

        Raises:
            InputError: another rank is said, or an alpha that is no number.
        """
        names = (own_name.removeprefix("base_model.model."), layer)
        said = self._value("rank_pattern", "r", names)
        if said is not None and said != rank:
            raise InputError(f"{self.where}: rank of {layer} is {said!r}, its matrices have {rank}; fetch both again")
        alpha = _number(self._value("alpha_pattern", "lora_alpha", names), f"{self.where}: lora_alpha")
        return alpha / (math.sqrt(rank) if self.values.get("use_rslora") else rank)

    def _value(self, patterns: str, default: str, names: Iterable[str]) -> Any:
        from peft.utils.other import get_pattern_key

        found: Mapping[str, Any] = self.values.get(patterns) or {}
        matched = (get_pattern_key(list(found), name) for name in names)
        return next((found[key] for key in matched if key in found), self.values.get(default))


def _are_patterns(value: Any) -> bool:
    try:
        return isinstance(value, Mapping) and all(re.compile(key) for key in value)
    except re.error:
        return False


def settings(path: Path, keys: Iterable[str]) -> list[Settings]:
    """What is said of a LoRA beside its tensors.

    Args:
        path: its file.
        keys: names of its tensors.

    Raises:
        InputError: it is not read, or not all there.
    """
    found = []
    peft = path.name.startswith("adapter_model") or any(key.startswith("base_model.") for key in keys)
    if peft:
        file = path.with_name(CONFIG)
        missing = f"it says the alpha of {path.name}: copy it beside the matrices"
        found.append(Settings(str(file), read_object(file, missing=missing, damaged=_DAMAGED)))
    said = metadata(path)
    if _DIFFUSERS in said:
        where = f"{path}: {_DIFFUSERS}"
        values = to_object(said[_DIFFUSERS], where, damaged=_DAMAGED)
        names = [(key.partition("."), value) for key, value in values.items()]
        own = {key: value for (part, _, key), value in names if part in DENOISERS}
        found.append(Settings(where, own or values))
    for one in found:
        one.check()
    # Absent, or a word: a merged LoRA has "Dynamic".
    with suppress(KeyError, ValueError):
        found.append(Settings(f"{path}: {_KOHYA}", {_KOHYA: float(said[_KOHYA])}))
    return found


def factor(
    path: Path,
    layer: str,
    own_name: str,
    rank: int,
    alpha: tuple[str, torch.Tensor] | None,
    said: Iterable[Settings],
    *,
    kernel: bool,
) -> float:
    """The factor of one layer.

    Args:
        path: file of the LoRA.
        layer: name of the module in the denoiser.
        own_name: what the file calls it.
        rank: of its matrices.
        alpha: key and tensor beside the matrices, if there is one.
        said: of :func:`settings`.
        kernel: whether the layer is a convolution of more than one pixel.

    Raises:
        InputError: two places say two things.
    """
    factors: list[tuple[str, float]] = []
    for one in said:
        if _KOHYA not in one.values:
            factors.append((one.where, one.factor(layer, own_name, rank)))
        # Of layers with a kernel kohya says another alpha, in their keys alone.
        elif not kernel or alpha is None:
            factors.append((one.where, _number(one.values[_KOHYA], one.where) / rank))
    if alpha is not None:
        key, value = alpha
        if value.numel() != 1:
            raise InputError(f"{path}: '{key}' has shape {tuple(value.shape)}, expected one number")
        factors.append((f"'{key}'", _number(value.item(), f"{path}: '{key}'") / rank))
    for where, other in factors[1:]:
        if not math.isclose(other, factors[0][1], rel_tol=_ROUNDING):
            raise InputError(
                f"{path}: two factors of {layer}: {factors[0][1]:g} by {factors[0][0]}, {other:g} by {where}; "
                "correct the one that is wrong"
            )
    return factors[0][1] if factors else 1.0


def _number(value: Any, where: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value) or value == 0:
        raise InputError(f"{where} is {value!r}, expected a number other than 0")
    return float(value)
