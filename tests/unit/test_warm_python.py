"""A command of the warm Python is a process as any other, to itself and to who started it."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest

pytestmark = pytest.mark.slow

Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def run(warm: Path) -> Run:
    def started(*arguments: str, **options: Any) -> subprocess.CompletedProcess[str]:
        return subprocess.run([warm / "python", *arguments], capture_output=True, text=True, timeout=60, **options)

    return started


def test_folder_environment_arguments_and_streams_are_the_clients(run: Run, tmp_path: Path) -> None:
    names = "sorted({'A', 'HOME'} & set(os.environ)), os.environ['A']"
    code = f"import os, sys; print(os.getcwd(), {names}, sys.argv, sys.stdin.read()); print('!', file=sys.stderr)"
    done = run("-c", code, "-x", "y z", cwd=tmp_path, env={"A": "b"}, input="in")
    assert done.stdout == f"{tmp_path} ['A'] b ['-c', '-x', 'y z'] in\n"
    assert (done.stderr, done.returncode) == ("!\n", 0)


def test_modules_and_scripts_run_as_main(run: Run, tmp_path: Path) -> None:
    (tmp_path / "own.py").write_text("import sys; print(__name__, sys.argv[1:], sys.path[0])")
    for command in (("-m", "own"), ("-u", "-m", "own"), ("own.py",)):
        done = run(*command, "x", cwd=tmp_path)
        assert done.stdout == f"__main__ ['x'] {tmp_path if '-m' in command else ''}\n", done.stderr
    assert run("-V").stdout.startswith("Python 3.")


def test_large_packages_are_there_and_the_projects_own_are_not(run: Run) -> None:
    code = "import sys; print('torch' in sys.modules, 'artifacts' in sys.modules, 'sdpo' in sys.modules)"
    assert run("-c", code).stdout == "True False False\n"


def test_a_command_ends_as_it_would(run: Run) -> None:
    assert run("-c", "raise SystemExit(7)").returncode == 7
    done = run("-c", "raise SystemExit('a text')")
    assert (done.returncode, done.stderr) == (1, "a text\n")
    done = run("-c", "1 / 0")
    assert (done.returncode, done.stderr.splitlines()[-1]) == (1, "ZeroDivisionError: division by zero")
    assert run("-c", "import os; os.kill(os.getpid(), 9)").returncode == -signal.SIGKILL
    assert run("-c", "import atexit; atexit.register(print, 'at exit'); exit(3)").stdout == "at exit\n"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_what_ends_the_client_ends_the_command(warm: Path, number: signal.Signals) -> None:
    code = "import os, time; print(os.getpid(), flush=True); time.sleep(300)"
    client = subprocess.Popen([warm / "python", "-c", code], stdout=subprocess.PIPE, text=True)
    assert client.stdout is not None
    command = int(client.stdout.readline())
    assert command != client.pid
    os.kill(client.pid, number)
    assert client.wait(timeout=60) == -number
    deadline = time.monotonic() + 60
    while psutil.pid_exists(command) and psutil.Process(command).status() != psutil.STATUS_ZOMBIE:
        assert time.monotonic() < deadline
        time.sleep(0.01)
