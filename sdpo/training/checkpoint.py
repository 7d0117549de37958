"""Resumable training state: atomic, with a checksum, the newest few kept, a damaged one put aside with a warning.

The folder is not a declared output of any rule and its name holds the digest of everything that shaped the
training, so that a killed job goes on where it was and a changed one starts anew. Beside ``step-….pt`` stands
``step-….sha256``, written first: a state without it is not whole. One that cannot be read becomes
``step-….pt.damaged``, so that it does not count among the newest.
"""

from __future__ import annotations

import pickle
import sys
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from artifacts import atomic
from artifacts.atomic import file_sha256, replaced_file, write_text

KEPT = 2


def owned(folder: Path) -> AbstractContextManager[bool]:
    """Hold the folder alone, and remove what a killed process left half-written: as :func:`artifacts.atomic.owned`."""
    return atomic.owned(folder, doing="trains this model")


def _saved(folder: Path) -> list[Path]:
    return sorted(folder.glob("step-*.pt"))


def _checksum(path: Path) -> Path:
    return path.with_suffix(".sha256")


def save(folder: Path, step: int, state: dict[str, Any], *, kept: int = KEPT) -> None:
    """Write the state after ``step`` optimizer steps and drop all but the newest ``kept``."""
    import torch

    path = folder / f"step-{step:08d}.pt"
    with replaced_file(path) as temporary:
        torch.save(state, temporary)
        write_text(_checksum(path), f"{file_sha256(temporary)}\n")
    # Later states, of a run with more steps, are not this one's.
    for old in [state for state in _saved(folder) if state.name <= path.name][:-kept]:
        _drop(old)


def keep_newest(folder: Path) -> None:
    """Drop all states but the newest, when the model has been written: it only serves to write it again."""
    for old in _saved(folder)[:-1]:
        _drop(old)


def _drop(path: Path) -> None:
    path.unlink()
    _checksum(path).unlink(missing_ok=True)


def remove(folder: Path) -> None:
    """Remove all states; waits for a process that still holds the folder."""
    with owned(folder):
        for path in [*_saved(folder), *folder.glob("step-*.damaged")]:
            _drop(path)


def read(path: Path) -> dict[str, Any]:
    """A state, on the CPU; its tensors are mapped from the file, so that processes that read it share one copy."""
    import torch

    state: dict[str, Any] = torch.load(path, weights_only=True, map_location="cpu", mmap=True)
    return state


def newest(folder: Path, steps: int | None = None) -> tuple[Path, dict[str, Any]] | None:
    """The newest state that is as it was written, or ``None``. Others are named on stderr and put aside.

    Args:
        folder: of the states.
        steps: those after more steps are passed over.
    """
    last = None if steps is None else f"step-{steps:08d}.pt"
    for path in reversed([state for state in _saved(folder) if last is None or state.name <= last]):
        try:
            if file_sha256(path) != _checksum(path).read_text(encoding="utf-8").strip():
                raise ValueError("its checksum is not the one written")
            return path, read(path)
        except (RuntimeError, EOFError, OSError, ValueError, pickle.UnpicklingError) as error:
            reason = str(error).splitlines()[0] if str(error) else type(error).__name__
            print(f"warning: {path} cannot be read ({reason}); going back to the one before", file=sys.stderr)
            path.replace(path.with_name(f"{path.name}.damaged"))
            _checksum(path).unlink(missing_ok=True)
    return None


def load_newest(folder: Path) -> dict[str, Any] | None:
    """The state of :func:`newest`."""
    found = newest(folder)
    return None if found is None else found[1]
