"""What a job computes on: the cores it may use, and a GPU of its own."""

from __future__ import annotations

import os
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING

from artifacts.errors import InputError
from artifacts.locks import locked, opened

if TYPE_CHECKING:
    import torch

_held: list[IO[bytes]] = []
"""Locks of the devices that this process has taken; they are free again when it ends."""


def usable_cores() -> int:
    """Cores that this process may use, which a scheduler may have made fewer than the machine's."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@contextmanager
def denormals_as_zeros() -> Iterator[None]:
    """Meanwhile, numbers below what a format holds in full are zeros to this thread's processor, and cost no more.

    Gradients of pairs that are as good as decided are such numbers, and processors compute with them by microcode: a
    step of a training that collapses takes up to three times as long.
    """
    import torch

    torch.set_flush_denormal(True)
    try:
        yield
    finally:
        torch.set_flush_denormal(False)


def device_name(device: str) -> str:
    """The GPU by its name, or ``cpu``."""
    import torch

    return torch.cuda.get_device_name(device) if torch.device(device).type == "cuda" else "cpu"


def widest_float(values: torch.Tensor) -> torch.dtype:
    """fp64, or fp32 for tensors on a device that has no fp64."""
    import torch

    return torch.float32 if values.device.type == "mps" else torch.float64


def take_device(folder: str | Path | None = None) -> str:
    """``cpu``, or the first GPU that no other job on this machine has taken.

    Jobs that run side by side on a machine with several GPUs so get one each, where no scheduler has narrowed
    ``CUDA_VISIBLE_DEVICES`` down. With more jobs than GPUs, those that are left over are spread by process number.

    Args:
        folder: of the locks; by default one of this user alone in the system's temporary folder.

    Raises:
        InputError: that folder is somebody else's, or a lock cannot be written.
    """
    import torch

    if not torch.cuda.is_available():
        return "cpu"
    count = torch.cuda.device_count()
    if count == 1:
        return "cuda"
    where = _own_folder() if folder is None else Path(folder)
    # Numbers count the visible devices only, so two jobs mean the same by one only if they see the same.
    visible = os.environ.get("CUDA_VISIBLE_DEVICES", "all").replace(",", "-")
    for index in range(count):
        path = where / f"gpu-{visible}-{index}.lock"
        try:
            lock = opened(path)
        except OSError as error:
            raise InputError(f"{path}: cannot be a lock ({error.strerror}); remove what lies there") from error
        if (taken := locked(lock)) is True:
            _held.append(lock)
            return f"cuda:{index}"
        lock.close()
        if taken is None:
            break
    return f"cuda:{os.getpid() % count}"


def _own_folder() -> Path:
    """A folder that nobody else can write: in one that all can, a link or a file could be put in a lock's place.

    Not ``XDG_RUNTIME_DIR``, which goes away at logout while jobs run on.
    """
    folder = Path(tempfile.gettempdir()) / f"sdpo-bench-{os.getuid()}"
    try:
        folder.mkdir(mode=0o700, exist_ok=True)
        status = folder.lstat()
    except OSError as error:
        raise InputError(f"{folder}: cannot be made ({error.strerror}); set TMPDIR to a folder of your own") from error
    if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.getuid() or status.st_mode & 0o022:
        raise InputError(f"{folder}: is a link, or others can write it; set TMPDIR to a folder of your own")
    return folder
