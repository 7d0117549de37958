"""Reading weight files of any kind; everything wrong with them is said in one line that names the file."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any
from zipfile import is_zipfile

from artifacts.errors import InputError
from artifacts.finite_weights import check_finite

if TYPE_CHECKING:
    import torch

WRAPPERS = ("state_dict", "model_state_dict", "model", "module", "unet")
"""Entries of a checkpoint that hold its weights, beside optimizers, counters and settings."""
# What torch.compile, FSDP and recomputation put between the names of modules.
_WRAPPED_MODULES = ("_orig_mod.", "_fsdp_wrapped_module.", "_checkpoint_wrapped_module.")


def read_state_dict(path: Path) -> dict[str, torch.Tensor]:
    """Tensors of a safetensors or PyTorch file, on the CPU.

    PyTorch files are read with ``weights_only=True``. Weights within one of :data:`WRAPPERS` are unwrapped, and what
    ``torch.compile`` and distributed training put into their names is dropped.

    Raises:
        InputError: the file cannot be read, holds no tensors, or tensors beside those that are read, or one that is no
            plain tensor, or a value that is not finite.
    """
    import torch
    from safetensors.torch import load_file

    try:
        if path.suffix == ".safetensors":
            content: Any = load_file(path)
        else:
            # Mapped, so that the file is not in memory beside the model that it is copied into; older files cannot be.
            content = torch.load(path, map_location="cpu", weights_only=True, mmap=is_zipfile(path))
    except FileNotFoundError as error:
        raise InputError(f"{path}: no such file; complete the folder of weights") from error
    # torch reports a damaged file as RuntimeError, EOFError, OSError, UnpicklingError … according to where it is cut.
    except Exception as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise InputError(f"{path}: not a readable weight file ({reason}); fetch the file again") from error
    state = _renamed(_unwrapped(content, path), path)
    check_finite(state, path)
    return state


def metadata(path: Path) -> dict[str, str]:
    """Metadata of a safetensors file; others have none."""
    if path.suffix != ".safetensors":
        return {}
    from safetensors import safe_open

    with safe_open(path, "pt") as file:
        return dict(file.metadata() or {})


def _unwrapped(content: Any, path: Path) -> Mapping[str, torch.Tensor]:
    """The tensors by name of a checkpoint."""
    import torch

    def weights(value: Any) -> bool:
        if isinstance(value, torch.Tensor):
            return value.numel() > 1
        return isinstance(value, Mapping) and any(
            isinstance(key, str) and isinstance(tensor, torch.Tensor) for key, tensor in value.items()
        )

    if isinstance(content, Mapping) and content:
        if all(isinstance(key, str) and isinstance(value, torch.Tensor) for key, value in content.items()):
            return content
        inner = [key for key in WRAPPERS if isinstance(content.get(key), Mapping)]
        others = [key for key, value in content.items() if key not in inner and weights(value)]
        if len(inner) == 1 and not others:
            return _unwrapped(content[inner[0]], path)
        if found := [*inner, *others]:
            names = ", ".join(f"'{name}'" for name in found[:4])
            raise InputError(
                f"{path}: expected tensors by name, found {len(found)} entries that hold some: {names}; save the one "
                "that is meant alone"
            )
    raise InputError(f"{path}: expected tensors by name, found something else; give a weight file")


def _renamed(state: Mapping[str, torch.Tensor], path: Path) -> dict[str, torch.Tensor]:
    """The same without what wrappers of modules add to names."""
    # The counter of an average over steps (torch.optim.swa_utils.AveragedModel), beside the module that it wraps.
    whole = all(key.startswith("module.") or key == "n_averaged" for key in state)
    renamed = {}
    for key, value in state.items():
        name = key.removeprefix("module.") if whole else key
        for part in _WRAPPED_MODULES:
            name = name.replace(part, "")
        if whole and key == "n_averaged":
            continue
        if name in renamed:
            raise InputError(f"{path}: '{name}' is there twice, once as '{key}'; save the one that is meant alone")
        renamed[name] = value
    return renamed
