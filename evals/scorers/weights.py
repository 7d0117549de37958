"""Finding and reading weight files; everything wrong with them is said in one line that names the file."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING, Any
from zipfile import is_zipfile

from artifacts.errors import InputError
from artifacts.finite_weights import check_finite

if TYPE_CHECKING:
    import torch

TOKENIZER_FILES = (
    "tokenizer.json",
    "tokenizer_config.json",
    "vocab.json",
    "merges.txt",
    "vocab.txt",
    "special_tokens_map.json",
    "added_tokens.json",
)


def local_path(weights: str | Path, scorer: str, expected: str) -> Path:
    """``weights`` as an existing path.

    Raises:
        InputError: there is no such file or folder; the message says what was ``expected``.
    """
    path = Path(weights)
    if not path.exists():
        raise InputError(f"scorer '{scorer}': weights '{weights}' do not exist here: expected {expected}")
    return path


def local_folder(weights: str | Path, scorer: str, expected: str) -> Path:
    """``weights`` as an existing folder.

    Raises:
        InputError: there is none; the message says what was ``expected``.
    """
    path = local_path(weights, scorer, expected)
    if not path.is_dir():
        raise InputError(f"scorer '{scorer}': weights '{weights}' is a file: expected {expected}")
    return path


def first_file(folder: Path, names: Sequence[str], scorer: str) -> Path:
    """The first of ``names`` that lies in ``folder``.

    Raises:
        InputError: none does.
    """
    for name in names:
        if (folder / name).is_file():
            return folder / name
    raise InputError(f"{folder}: scorer '{scorer}' finds no {' or '.join(names)} there; complete the folder")


def tokenizer_files(folder: Path, needed: Sequence[Sequence[str]], scorer: str) -> dict[str, Path]:
    """Tokenizer files of ``folder`` by role, for the fingerprint.

    Args:
        needed: alternatives, each a set of names that is enough to build the tokenizer.

    Raises:
        InputError: no alternative is complete.
    """
    if not any(all((folder / name).is_file() for name in names) for names in needed):
        choices = " or ".join(" + ".join(names) for names in needed)
        raise InputError(f"{folder}: scorer '{scorer}' finds no tokenizer there: expected {choices}")
    return {f"tokenizer/{name}": folder / name for name in TOKENIZER_FILES if (folder / name).is_file()}


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object.

    Raises:
        InputError: the file is missing or holds something else.
    """
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise InputError(f"{path}: no such file; complete the folder of weights") from error
    except ValueError as error:
        raise InputError(f"{path}: not valid JSON ({error}); fetch the file again") from error
    if not isinstance(value, dict):
        raise InputError(f"{path}: expected a JSON object, found {type(value).__name__}")
    return value


WRAPPERS = ("state_dict", "model_state_dict", "model", "module", "unet")
"""Entries of a checkpoint that hold its weights, beside optimizers, counters and settings."""
# What torch.compile, FSDP and recomputation put between the names of modules.
_WRAPPED_MODULES = ("_orig_mod.", "_fsdp_wrapped_module.", "_checkpoint_wrapped_module.")


def read_state_dict(path: Path) -> dict[str, torch.Tensor]:
    """Tensors of a safetensors or PyTorch file, on the CPU.

    PyTorch files are read with ``weights_only=True``. Weights within one of :data:`WRAPPERS` are unwrapped, and what
    ``torch.compile`` and distributed training put into their names is dropped.

    Raises:
        InputError: the file cannot be read, holds no tensors, or tensors beside those that are read, or a value that is
            not finite.
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
        if all(isinstance(value, torch.Tensor) for value in content.values()):
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


def load_strictly(
    module: torch.nn.Module,
    state: Mapping[str, torch.Tensor],
    path: Path,
    *,
    ignored: Iterable[str] = (),
    file_keys: Mapping[str, str] | None = None,
) -> None:
    """Copy ``state`` into ``module``: every parameter must be there, in its shape, and nothing else.

    Args:
        path: the file ``state`` was read from, for messages.
        ignored: patterns of keys that may lie in the file and are not used.
        file_keys: the file's name of each of the module's keys, where they differ.

    Raises:
        InputError: a key is missing, unknown, of another shape, or integer where it should not be.
    """
    wanted = module.state_dict()
    names = {key: key if file_keys is None else file_keys[key] for key in wanted}
    missing = [name for name in names.values() if name not in state]
    known = set(names.values())
    unknown = [k for k in state if k not in known and not any(fnmatchcase(k, pattern) for pattern in ignored)]
    remedy = "the weights are of another architecture or the configuration beside them is not theirs"
    if missing:
        raise InputError(f"{path}: key '{missing[0]}' is missing ({len(missing)} in all); {remedy}")
    if unknown:
        raise InputError(f"{path}: key '{unknown[0]}' is unknown ({len(unknown)} in all); {remedy}")
    for key, name in names.items():
        if state[name].shape != wanted[key].shape:
            raise InputError(
                f"{path}: '{name}' has shape {tuple(state[name].shape)}, expected {tuple(wanted[key].shape)}; {remedy}"
            )
        if state[name].is_floating_point() != wanted[key].is_floating_point():
            raise InputError(f"{path}: '{name}' is of {state[name].dtype}, expected {wanted[key].dtype}; {remedy}")
    module.load_state_dict({key: state[name] for key, name in names.items()})
