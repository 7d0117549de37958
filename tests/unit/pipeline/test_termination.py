from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from pipeline.termination import SHELL_PREFIX

# As a training: it answers SIGTERM by finishing what it is at, says so, and leaves with a status of its own.
COMMAND = """
import signal, sys, time
asked = []
signal.signal(signal.SIGTERM, lambda *_: asked.append(True))
print("started", flush=True)
while not asked:
    time.sleep(0.01)
time.sleep(0.2)
print("saved", flush=True)
sys.exit(75)
"""
# As Snakemake: it sets a handler of its own after the Snakefile has been read, and waits for the command.
WORKFLOW = """
import signal, subprocess, sys
from pipeline.termination import pass_on_sigterm
pass_on_sigterm(lambda: sys.argv[2] == "command")
signal.signal(signal.SIGTERM, lambda *_: None)
sys.exit(subprocess.run(["bash", "-c", sys.argv[1]]).returncode)
"""


def started(folder: Path, below: str = "command") -> subprocess.Popen[bytes]:
    """A workflow whose command runs, in a process group of its own."""
    command = f"{sys.executable} -c '{COMMAND}' 2>&1 | tee {folder / 'log'}"
    process = subprocess.Popen(
        [sys.executable, "-c", WORKFLOW, SHELL_PREFIX.format() + command, below],
        start_new_session=True,
        stdout=subprocess.DEVNULL,
    )
    deadline = time.monotonic() + 60
    while not (folder / "log").exists() or "started" not in (folder / "log").read_text():
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.01)
    return process


@pytest.mark.parametrize("tell", [os.kill, os.killpg], ids=["first process", "all processes"])
def test_command_hears_of_sigterm_and_its_log_is_whole(tmp_path: Path, tell: Callable[[int, int], None]) -> None:
    process = started(tmp_path)
    tell(process.pid, signal.SIGTERM)
    assert process.wait(timeout=60) == 75
    assert (tmp_path / "log").read_text() == "started\nsaved\n"


def test_a_process_that_only_starts_steps_passes_nothing_on(tmp_path: Path) -> None:
    process = started(tmp_path, "step")
    process.terminate()
    with pytest.raises(subprocess.TimeoutExpired):
        process.wait(timeout=1)
    os.killpg(process.pid, signal.SIGTERM)
    assert process.wait(timeout=60) == 75
