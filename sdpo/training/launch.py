"""Starting the processes of a training, on this machine or on each machine of an allocation, by torch's launcher."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from artifacts.errors import InputError
from sdpo.training.processes import started_with_others

GRACE = "TORCH_ELASTIC_SHUTDOWN_TIMEOUT", "900"
"""The launcher's own setting: seconds that processes have to save and leave when it is asked to end; its default is 30.

The state of a large model takes longer. A scheduler that grants less ends them when its own time is over.
"""
_FIRST_PORT, _PORTS = 20_000, 10_000
"""Where the machines of a Slurm job meet: a port of this range by the job's number, so that two jobs differ."""


@dataclass(frozen=True)
class Machines:
    """The machines that train a model together.

    Attributes:
        count: of all.
        index: of this one, from 0.
        meeting: host and port where they find one another, on the first.
    """

    count: int = 1
    index: int = 0
    meeting: str | None = None

    def launcher(self, processes: int) -> list[str]:
        """Arguments of Python that start a share of ``processes`` on this machine."""
        module = ["-m", "torch.distributed.run"]
        if self.count == 1:
            return [*module, "--standalone", f"--nproc-per-node={processes}"]
        host, _, port = str(self.meeting).rpartition(":")
        places = [f"--nnodes={self.count}", f"--node-rank={self.index}", f"--nproc-per-node={processes // self.count}"]
        return [*module, *places, f"--master-addr={host}", f"--master-port={port}"]


def machines(count: int, meeting: str | None, index: int | None, environment: Mapping[str, str]) -> Machines:
    """The machines of an allocation.

    Args:
        count: of machines.
        meeting: ``HOST:PORT`` of the first; left out, Slurm says which that is.
        index: of this machine; left out, Slurm says it.
        environment: variables, of which Slurm's are read.

    Raises:
        InputError: neither the caller nor Slurm says where they meet or which this is, or Slurm gives another number.
    """
    if count == 1:
        return Machines()
    allocated = environment.get("SLURM_NNODES")
    if meeting is None and allocated is not None:
        if int(allocated) != count:
            raise InputError(f"--machines is {count}, and Slurm has given {allocated}; make them equal")
        port = _FIRST_PORT + int(environment["SLURM_JOB_ID"]) % _PORTS
        meeting = f"{_first_host(environment['SLURM_JOB_NODELIST'])}:{port}"
    if index is None:
        index = int(environment.get("SLURM_NODEID", -1))
    if meeting is None or not meeting.rpartition(":")[2].isdigit():
        raise InputError(
            f"--meeting is {meeting}, expected HOST:PORT of the first of {count} machines, or a job of Slurm"
        )
    if not 0 <= index < count:
        raise InputError(f"--machine is {index}, expected 0 to {count - 1}; srun --ntasks-per-node=1 says it by itself")
    return Machines(count, index, meeting)


def _first_host(hosts: str) -> str:
    """The first of a list as Slurm writes it, ``gpu[07-08]``."""
    if "[" not in hosts:
        return hosts.partition(",")[0]
    answer = subprocess.run(["scontrol", "show", "hostnames", hosts], capture_output=True, text=True, check=True)
    return answer.stdout.split()[0]


def together(arguments: Sequence[str], count: int, where: Machines, *, spec: str = "") -> None:
    """Become the launcher of this machine's share of ``count`` processes that run ``sdpo`` with these arguments.

    Returns at once if this process is to do the work: it is the only one, or was itself started as one of several.
    The launcher is torch's own, which ``accelerate launch`` uses for GPUs; on the CPU the latter needs MPI. Its exit
    status is 0, or 1 if one of the processes failed, whatever its own.

    Args:
        arguments: of the command line.
        count: processes, of all machines.
        where: the machines.
        spec: where the job description comes from.

    Raises:
        InputError: no equal share of the processes for each machine, or a job description that only one could read.
    """
    if count < 1 or count % where.count:
        expected = "at least 1" if where.count == 1 else f"a multiple of the {where.count} machines"
        raise InputError(f"--processes is {count}, expected {expected}")
    if count == 1 or started_with_others():
        return
    if spec == "-":
        raise InputError(f"--spec is -, which {count} processes cannot all read; give inline JSON or a file")
    os.environ.setdefault(*GRACE)
    # In place of this process, so that signals reach the launcher, which passes them on.
    os.execv(sys.executable, [sys.executable, *where.launcher(count), "-m", "sdpo.cli", *arguments])


def shown(arguments: Sequence[str], count: int, where: Machines) -> str:
    """The command lines of all machines, which :func:`together` would become on each."""
    lines = []
    for index in range(where.count):
        command = [sys.executable, *Machines(where.count, index, where.meeting).launcher(count), "-m", "sdpo.cli"]
        lines.append(shlex.join([*command, *arguments]))
    return "\n".join(lines)
