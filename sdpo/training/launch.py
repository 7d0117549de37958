"""Starting several processes that run one command together."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

from artifacts.errors import InputError

_STARTED_BY_A_LAUNCHER = "WORLD_SIZE"


def together(arguments: Sequence[str], count: int, *, spec: str = "") -> None:
    """Become the launcher of ``count`` processes of this machine that run ``sdpo`` with these arguments.

    Returns at once if this process is to do the work: it is the only one, or was itself started as one of several.
    The launcher is torch's own, which ``accelerate launch`` uses for GPUs; on the CPU the latter needs MPI. Its exit
    status is 0, or 1 if one of the processes failed, whatever its own.

    Args:
        arguments: of the command line.
        count: processes.
        spec: where the job description comes from.

    Raises:
        InputError: less than one process, or a job description that only one of them could read.
    """
    if count < 1:
        raise InputError(f"--processes is {count}, expected at least 1")
    # A scheduler or a container may have set it to 1 for everything that it starts.
    if count == 1 or int(os.environ.get(_STARTED_BY_A_LAUNCHER) or 1) > 1:
        return
    if spec == "-":
        raise InputError(f"--spec is -, which {count} processes cannot all read; give inline JSON or a file")
    launcher = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={count}"]
    # In place of this process, so that signals reach the launcher, which passes them on.
    os.execv(sys.executable, [sys.executable, *launcher, "-m", "sdpo.cli", *arguments])
