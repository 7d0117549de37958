"""SIGTERM on a cluster: it is passed on to the command of a job.

Slurm tells a job that it is to end by SIGTERM, and where it tracks processes by cgroup, as clusters do, it tells the
first process of a job's step alone. That is Snakemake, which answers by waiting for its command.
"""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable

SHELL_PREFIX = "set -euo pipefail; trap : TERM; tee() {{ trap '' TERM INT; exec tee \"$@\"; }}; "
"""Of every command of a rule, with Snakemake's doubled braces: bash waits for its commands, and `tee`, which writes the
log, for the end of what it reads. Elsewhere Slurm tells them too, and without them the log would lack its last lines.
"""


def pass_on_sigterm(runs_command: Callable[[], bool]) -> None:
    """From now on, whenever SIGTERM comes, all processes below this one get it too.

    Snakemake's own handler stays, which a later ``signal.signal`` would replace: this one hears of signals beside it.
    So SIGTERM is passed on from when Snakemake has set its handler, before it starts a job; till then it ends this
    process. To be called in the main thread.

    Args:
        runs_command: whether the processes below are those of a job's command. In the first of the two Snakemakes of a
            Slurm job they are ``srun``, which would kill the other one at once.
    """
    heard, told = os.pipe()
    os.set_blocking(told, False)
    signal.set_wakeup_fd(told, warn_on_full_buffer=False)

    def listen() -> None:
        while numbers := os.read(heard, 64):
            if signal.SIGTERM in numbers and runs_command():
                _terminate_below()

    threading.Thread(target=listen, name="pass on SIGTERM", daemon=True).start()


def _terminate_below() -> None:
    import psutil

    for process in psutil.Process().children(recursive=True):
        try:
            process.terminate()
        except psutil.NoSuchProcess:
            continue
