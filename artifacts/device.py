"""What a job computes on: the cores it may use, and a GPU of its own."""

from __future__ import annotations

import fcntl
import os
import tempfile
from pathlib import Path
from typing import IO

_held: list[IO[str]] = []
"""Locks of the devices that this process has taken; they are free again when it ends."""


def usable_cores() -> int:
    """Cores that this process may use, which a scheduler may have made fewer than the machine's."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def take_device(folder: str | Path | None = None) -> str:
    """``cpu``, or the first GPU that no other job on this machine has taken.

    Jobs that run side by side on a machine with several GPUs so get one each, where no scheduler has narrowed
    ``CUDA_VISIBLE_DEVICES`` down. With more jobs than GPUs, those that are left over are spread by process number.

    Args:
        folder: of the locks; by default the system's temporary folder.
    """
    import torch

    if not torch.cuda.is_available():
        return "cpu"
    count = torch.cuda.device_count()
    if count == 1:
        return "cuda"
    where = Path(folder or tempfile.gettempdir())
    # Numbers count the visible devices only, so two jobs mean the same by one only if they see the same.
    visible = os.environ.get("CUDA_VISIBLE_DEVICES", "all").replace(",", "-")
    for index in range(count):
        lock = (where / f"sdpo-bench-{os.getuid()}-gpu-{visible}-{index}.lock").open("w")
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.close()
            continue
        _held.append(lock)
        return f"cuda:{index}"
    return f"cuda:{os.getpid() % count}"
