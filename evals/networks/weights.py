"""A scorer's weight files: where they lie, and whether they are the network's; what is wrong is said in one line."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING, Any

from artifacts.errors import InputError
from artifacts.json_files import read_object

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
    """A JSON object that belongs to weights; errors as of :func:`artifacts.json_files.read_object`."""
    return read_object(path, missing="complete the folder of weights", damaged="fetch the file again")


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
