"""A Slurm of this machine alone: munged, slurmctld and a slurmd a node on loopback, with fake GPUs, all in a private
folder.
"""

from __future__ import annotations

import contextlib
import os
import platform
import shutil
import socket
import stat
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path

FREEZER = Path("/sys/fs/cgroup/freezer")
START_SECONDS = 60.0
HOST = platform.node().split(".")[0]
CPUS, MEMORY_MB, GPUS = 8, 16000, 4

_CONFIG = """
ClusterName=private
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={controller_port}
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
# A requeued job is held for as long as a credential lasts: two minutes by default.
AuthInfo=socket={folder}/munge.sock,cred_expire=15
StateSaveLocation={folder}/controller
SlurmdSpoolDir={folder}/%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/%n.pid
ProctrackType={tracking}
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
MpiDefault=none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
AccountingStorageType=accounting_storage/none
ReturnToService=2
MinJobAge=300
KillWait=30
GresTypes=gpu
# A node claims more than this machine has.
SlurmdParameters=config_overrides
{nodes}
PartitionName=main Nodes=ALL Default=YES MaxTime=INFINITE State=UP
"""
_NODE = (
    "NodeName={name} NodeHostname={host} NodeAddr=127.0.0.1 Port={port} CPUs={cpus} RealMemory={memory} "
    "Gres=gpu:a100:{gpus}"
)


def _free_port() -> int:
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        return int(bound.getsockname()[1])


def tracks_by_cgroup() -> bool:
    """Whether Slurm can track processes by cgroup, as on clusters: then it signals a step's first process alone."""
    probe = FREEZER / f"sdpo-bench-{os.getpid()}"
    try:
        probe.mkdir()
    except OSError:
        return False
    probe.rmdir()
    return True


class PrivateSlurm:
    """The daemons. They are children of this process, and :meth:`stop` ends these and no others.

    Args:
        folder: of its files.
        nodes: their names; where they are to find one another, the first must be a name of this machine.

    Attributes:
        environment: in which Slurm's commands are those of this cluster.
        by_cgroup: as :func:`tracks_by_cgroup`.
    """

    def __init__(self, folder: Path, nodes: Sequence[str] = ("node0",)) -> None:
        self.folder, self.nodes = folder, nodes
        self.by_cgroup = tracks_by_cgroup()
        self._running: dict[str, subprocess.Popen[bytes]] = {}
        config = folder / "slurm.conf"
        self.environment = {
            **os.environ,
            "SLURM_CONF": str(config),
            "PATH": os.pathsep.join([str(folder / "bin"), os.environ["PATH"]]),
        }
        for name in ("controller", *nodes, "log", "devices", "bin"):
            (folder / name).mkdir(parents=True)
        folder.chmod(0o755)
        host, claimed = HOST, {"cpus": CPUS, "memory": MEMORY_MB, "gpus": GPUS}
        config.write_text(
            _CONFIG.format(
                host=host,
                controller_port=_free_port(),
                folder=folder,
                tracking="proctrack/cgroup" if self.by_cgroup else "proctrack/linuxproc",
                nodes="\n".join(_NODE.format(name=name, host=host, port=_free_port(), **claimed) for name in nodes),
            )
        )
        (folder / "cgroup.conf").write_text("CgroupPlugin=cgroup/v1\nCgroupMountpoint=/sys/fs/cgroup\n")
        files = f"{folder}/devices/gpu[0-{GPUS - 1}]"
        (folder / "gres.conf").write_text(
            "".join(f"NodeName={name} Name=gpu Type=a100 File={files}\n" for name in nodes)
        )
        for number in range(GPUS):
            # As /dev/null.
            os.mknod(folder / f"devices/gpu{number}", stat.S_IFCHR | 0o600, os.makedev(1, 3))
        (folder / "munge.key").write_bytes(os.urandom(1024))
        (folder / "munge.key").chmod(0o400)
        # Snakemake's executor inside of a job drops all variables of Slurm, this cluster's place among them.
        srun = folder / "bin/srun"
        # By its place, since PATH goes on to the job's steps.
        srun.write_text(f'#!/bin/sh\nSLURM_CONF={config} exec {shutil.which("srun")} "$@"\n')
        srun.chmod(0o755)

    def start(self) -> None:
        """Start all daemons, and wait until the node takes jobs."""
        key, log = self.folder / "munge.key", self.folder / "log/munged.log"
        files = {"key-file": key, "socket": self.folder / "munge.sock", "pid-file": self.folder / "munged.pid"}
        files |= {"log-file": log, "seed-file": self.folder / "munge.seed"}
        self._start(
            "munged", "munged", "--force", "--foreground", *(f"--{name}={file}" for name, file in files.items())
        )
        deadline = time.monotonic() + START_SECONDS
        while not (self.folder / "munge.sock").exists() and time.monotonic() < deadline:
            time.sleep(0.05)
        self.start_controller()
        for name in self.nodes:
            self.start_node(name)
        while not {"idle", "mixed", "allocated"} & {self.node_state()}:
            if time.monotonic() > deadline:
                logs = "".join(path.read_text(errors="replace")[-1000:] for path in (self.folder / "log").iterdir())
                self.stop()
                raise RuntimeError(f"Slurm does not come up: {logs}")
            time.sleep(0.1)

    def start_controller(self) -> None:
        self._start("slurmctld", "slurmctld", "-D")

    def start_node(self, name: str) -> None:
        self._start(name, "slurmd", "-D", "-N", name)

    def end(self, name: str) -> None:
        """End one daemon, a node's by its name, as a restart of its machine would: the steps of jobs go on."""
        process = self._running.pop(name)
        process.terminate()
        process.wait(timeout=60)

    def stop(self) -> None:
        """End all jobs and daemons."""
        with contextlib.suppress(subprocess.SubprocessError):
            self.command("scancel", "--user=root")
            deadline = time.monotonic() + 60
            while self.command("squeue", "--noheader") and time.monotonic() < deadline:
                time.sleep(0.5)
        for name in reversed(list(self._running)):
            self.end(name)

    def command(self, *words: str) -> str:
        """What a command of Slurm prints."""
        done = subprocess.run(words, env=self.environment, capture_output=True, text=True, timeout=60, check=True)
        return done.stdout.strip()

    def node_state(self) -> str:
        try:
            return self.command("sinfo", "--noheader", "--format=%T")
        except subprocess.SubprocessError:
            return "unknown"

    def jobs(self, folder: Path) -> dict[str, str]:
        """States of the jobs submitted from a folder that Slurm remembers, by number and in its order."""
        lines = self.command("squeue", "--states=all", "--noheader", "--format=%i|%T|%Z").splitlines()
        parts = sorted((line.split("|") for line in lines), key=lambda part: int(part[0]))
        return {number: state for number, state, where in parts if Path(where) == folder}

    def _start(self, name: str, *command: str) -> None:
        with (self.folder / f"log/{name}.log").open("ab") as log:
            self._running[name] = subprocess.Popen(
                command, env=self.environment, stdout=log, stderr=log, start_new_session=True
            )
