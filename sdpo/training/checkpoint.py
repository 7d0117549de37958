"""Resumable training state: atomic, with a checksum, the newest few kept, a damaged one put aside with a warning.

The folder is not a declared output of any rule and its name holds the digest of everything that shaped the
training, so that a killed job goes on where it was and a changed one starts anew. Beside ``step-….pt`` stands
``step-….sha256``, written first: a state without it is not whole. One that cannot be read becomes
``step-….pt.damaged``, so that it does not count among the newest. The log of the run lies here too, and the batch of a
step that is not finite.
"""

from __future__ import annotations

import hashlib
import json
import pickle
import sys
from collections.abc import Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, cast

from artifacts import atomic
from artifacts.atomic import file_sha256, replaced_file, write_text
from sdpo.training import run_log

if TYPE_CHECKING:
    import torch

    from sdpo.training.drawing import Drawn

KEPT = 2


def owned(folder: Path) -> AbstractContextManager[bool]:
    """Hold the folder alone, and remove what a killed process left half-written: as :func:`artifacts.atomic.owned`."""
    return atomic.owned(folder, doing="trains this model")


def _saved(folder: Path) -> list[Path]:
    return sorted(folder.glob("step-*.pt"))


def newest_file(folder: Path) -> Path | None:
    """The newest state's file, whatever is in it."""
    return max(_saved(folder), default=None)


def _stem(step: int) -> str:
    return f"step-{step:08d}"


def _checksum(path: Path) -> Path:
    return path.with_suffix(".sha256")


def save(folder: Path, step: int, state: dict[str, Any], *, kept: int = KEPT) -> None:
    """Write the state after ``step`` optimizer steps and drop all but the newest ``kept``."""
    import torch

    path = folder / f"{_stem(step)}.pt"
    with replaced_file(path) as temporary:
        with temporary.open("wb") as file:
            hashed = _Hashed(file)
            # Of a file it uses these two methods.
            torch.save(state, cast("IO[bytes]", hashed))
        write_text(_checksum(path), f"{hashed.sha256.hexdigest()}\n")
    for old in _saved(folder)[:-kept]:
        _drop(old)


class _Hashed:
    """A file that is hashed as it is written from front to back, as torch writes: gigabytes need not be read again."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file, self.sha256 = file, hashlib.sha256()

    def write(self, data: bytes | memoryview) -> int:
        self.sha256.update(data)
        return self._file.write(data)

    def flush(self) -> None:
        self._file.flush()


def drop_after(folder: Path, step: int) -> None:
    """Drop the states after more than ``step`` steps, of a run that was to have more."""
    for later in [path for path in _saved(folder) if path.stem > _stem(step)]:
        _drop(later)


def keep_newest(folder: Path) -> None:
    """Drop all states but the newest, when the model has been written: it only serves to write it again."""
    for old in _saved(folder)[:-1]:
        _drop(old)


def _drop(path: Path) -> None:
    path.unlink()
    _checksum(path).unlink(missing_ok=True)


def remove(folder: Path) -> None:
    """Remove all states, and the log; waits for a process that still holds the folder."""
    with owned(folder):
        for path in [*_saved(folder), *folder.glob("step-*.damaged")]:
            _drop(path)
        for table in run_log.TABLES:
            run_log.log_file(folder, table).unlink(missing_ok=True)


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
    for path in reversed([state for state in _saved(folder) if steps is None or state.stem <= _stem(steps)]):
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


def save_batch(
    folder: Path, drawn: Sequence[Drawn], pair_ids: Sequence[torch.Tensor], *, process: int, **about: Any
) -> Path:
    """Write ``not-finite-step-….safetensors``: everything that went into that step in this process.

    The file holds ``winner``, ``loser`` and ``noise`` (B, C, H, W), ``timesteps`` (B,), ``pair_ids`` (B,) as in the
    cache's index, and the conditions as ``winner.<name>`` and ``loser.<name>``; ``about`` is in its metadata, as JSON.
    Of pairs of several shapes all names have a prefix, ``0.`` for the first of them.

    Args:
        folder: where the checkpoints lie.
        drawn: B pairs of each shape.
        pair_ids: (B,) of each shape.
        process: number of this process, part of the file's name if it is not 0.
        about: at least ``step``.
    """
    from safetensors.torch import save_file

    tensors: dict[str, torch.Tensor] = {}
    for number, (own, ids) in enumerate(zip(drawn, pair_ids, strict=True)):
        named = {"winner": own.winner, "loser": own.loser, "noise": own.noise, "timesteps": own.timesteps}
        for side, conditions in (("winner", own.winner_conditions), ("loser", own.loser_conditions)):
            named |= {f"{side}.{name}": tensor for name, tensor in conditions.items()}
        prefix = f"{number}." if len(drawn) > 1 else ""
        tensors |= {f"{prefix}{name}": tensor for name, tensor in {**named, "pair_ids": ids}.items()}
    suffix = f"-process{process}" if process else ""
    path = folder / f"not-finite-step-{about['step']:08d}{suffix}.safetensors"
    # Both sides may share a tensor, and safetensors refuses those that share memory.
    owned = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in tensors.items()}
    with replaced_file(path) as temporary:
        save_file(owned, temporary, metadata={"about": json.dumps(about)})
    return path
