"""Which process of which machine a workflow is, so that others can tell whether it still runs.

Snakemake's own lock does not say who holds it, and process numbers mean nothing on another machine that shares the
disk, in another container, or after a restart.
"""

from __future__ import annotations

import atexit
import json
import os
import platform
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from artifacts.atomic import write_json

RECORDS = Path(".snakemake") / "sdpo-bench-workflows"
"""Folder of the records, one a workflow that runs or was killed, in the folder where it runs."""
_SECONDS = 10.0
"""By which the start of a process may seem to move when the clock is set right."""


def _read(path: str) -> str:
    with suppress(OSError):
        return Path(path).read_text(encoding="utf-8").strip()
    return ""


def _pid_namespace() -> str:
    with suppress(OSError):
        return os.readlink("/proc/self/ns/pid")
    return ""


@dataclass(frozen=True)
class WorkflowProcess:
    """A process, told apart from those of other machines and containers, and from later ones of its number.

    Attributes:
        machine: its name.
        machine_id: of the installation.
        boot: which start of the machine.
        pid_namespace: of the container.
        pid: its number.
        started: seconds since the epoch.
    """

    machine: str
    machine_id: str
    boot: str
    pid_namespace: str
    pid: int
    started: float

    @classmethod
    def of(cls, pid: int) -> WorkflowProcess:
        """A process that runs here."""
        import psutil

        return cls(
            machine=platform.node(),
            machine_id=_read("/etc/machine-id"),
            boot=_read("/proc/sys/kernel/random/boot_id") or str(psutil.boot_time()),
            pid_namespace=_pid_namespace(),
            pid=pid,
            started=psutil.Process(pid).create_time(),
        )

    def runs(self) -> bool | None:
        """Whether it runs; ``None`` if that cannot be told from here."""
        import psutil

        here = WorkflowProcess.of(os.getpid())
        if (self.machine, self.machine_id) != (here.machine, here.machine_id):
            return None
        if self.boot != here.boot:
            return False
        if self.pid_namespace != here.pid_namespace:
            return None
        try:
            found = psutil.Process(self.pid)
            # One that has ended, but whose parent has not asked, still has its number.
            same: bool = abs(found.create_time() - self.started) < _SECONDS and found.status() != psutil.STATUS_ZOMBIE
            return same
        except psutil.NoSuchProcess:
            return False

    def to_json(self) -> str:
        """As text on one line."""
        return json.dumps(asdict(self), sort_keys=True)

    @classmethod
    def from_json(cls, text: str) -> WorkflowProcess | None:
        """From text; ``None`` if it was not written by :meth:`to_json`."""
        with suppress(ValueError, TypeError):
            return cls(**json.loads(text))
        return None


def record(folder: str | Path) -> None:
    """Record this process as a workflow of a folder, until it ends by itself."""
    own = WorkflowProcess.of(os.getpid())
    path = Path(folder).resolve() / RECORDS / f"{own.machine}-{own.pid}.json"
    write_json(path, asdict(own))

    def remove() -> None:
        # Not in a process that was forked from this one.
        if os.getpid() == own.pid:
            path.unlink(missing_ok=True)

    atexit.register(remove)


def recorded(folder: str | Path) -> dict[Path, WorkflowProcess | None]:
    """The records of a folder; ``None`` of one that cannot be read."""
    return {
        path: WorkflowProcess.from_json(_read(str(path))) for path in sorted((Path(folder) / RECORDS).glob("*.json"))
    }
