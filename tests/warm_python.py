"""A Python that starts with everything imported that the project's commands import.

Importing torch, diffusers and transformers takes longer than what a command does in these tests. So a server imports
them once, and every command is forked from it: a process of its own, with the working folder, environment, standard
streams and signals of the client that asked for it, which takes over its exit status. What ends the client ends the
command too. Nothing but imports has happened before in such a process; only the seed of its string hashes is the same
in all.

A folder of them has ``python`` and the project's commands, which are clients of the server, and its socket. What starts
another Python starts a warm one: ``sys.executable`` is the folder's.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import sys
from typing import Any

PRELOADED = (
    "diffusers.models.autoencoders.autoencoder_kl",
    "diffusers.models.unets.unet_2d_condition",
    "diffusers.pipelines.stable_diffusion_xl.pipeline_stable_diffusion_xl",
    "diffusers.schedulers.scheduling_ddim",
    "matplotlib.pyplot",
    "mlflow",
    "pandas",
    "scipy.stats",
    "snakemake.cli",
    "transformers.models.blip.modeling_blip_text",
    "transformers.models.clip.modeling_clip",
)
COMMANDS = ("sdpo", "evals")
FORWARDED = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2)


def start(folder: str, watched: int) -> None:
    """Start a server whose ``python`` and commands lie in a new ``folder``; it ends after the process ``watched``."""
    import subprocess

    os.mkdir(folder)
    real = os.path.dirname(sys.executable)
    for name in ("python", *COMMANDS):
        path = os.path.join(folder, name)
        script = "" if name == "python" else f'"{os.path.join(real, name)}" '
        with open(path, "w") as file:
            file.write(f'#!/bin/sh\nexec "{sys.executable}" -IS "{__file__}" "{folder}" {script}"$@"\n')
        os.chmod(path, 0o755)
    server = subprocess.Popen(
        [sys.executable, __file__, "--serve", folder, str(watched)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        start_new_session=True,
    )
    assert server.stdout is not None
    if server.stdout.readline() != b"ready\n":
        raise RuntimeError(f"the server of warm Pythons ended with status {server.wait()}")


def client(folder: str, arguments: list[str]) -> int:
    """Let the server of ``folder`` run a command for this process; the exit status."""
    if arguments[:1] == ["-u"]:
        arguments = arguments[1:]
    elif not arguments or (arguments[0].startswith("-") and arguments[0] not in ("-m", "-c")):
        # Other options are Python's own.
        os.execv(sys.executable, [sys.executable, *arguments])
    request = {"arguments": arguments, "folder": os.getcwd(), "environment": dict(os.environ)}
    with socket.socket(socket.AF_UNIX) as connection:
        # The name of a socket may be no longer than some hundred bytes.
        os.chdir(folder)
        connection.connect("socket")
        socket.send_fds(connection, [b"\0"], [0, 1, 2])
        connection.sendall(json.dumps(request).encode() + b"\n")
        for number in FORWARDED:
            if signal.getsignal(number) != signal.SIG_IGN:
                signal.signal(number, lambda number, frame: connection.sendall(bytes([number])))
        status = int(connection.recv(16))
    if status < 0:
        if -status != signal.SIGKILL:
            signal.signal(-status, signal.SIG_DFL)
        os.kill(os.getpid(), -status)
    return status


def serve(folder: str, watched: int) -> None:
    """Run the commands of clients for as long as the process ``watched`` lives."""
    import atexit
    import gc
    import importlib
    import select

    sys.executable = os.path.join(folder, "python")
    # The first to be registered is the last to be called.
    atexit.register(_leave)
    for module in PRELOADED:
        importlib.import_module(module)
    # No child has to look at, and so to copy, what was imported.
    gc.freeze()
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    with socket.socket(socket.AF_UNIX) as listener:
        os.chdir(folder)
        listener.bind("socket")
        listener.listen(64)
        print("ready", flush=True)
        while _lives(watched):
            if select.select([listener], [], [], 1.0)[0]:
                connection, _ = listener.accept()
                if os.fork() == 0:
                    break
                connection.close()
        else:
            return
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    _supervise(connection)


def _lives(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    return True


def _supervise(connection: socket.socket) -> None:
    """Fork the command of one client, pass on the signals that the client gets, and say how the command ended."""
    import contextlib
    import threading

    _, streams, _, _ = socket.recv_fds(connection, 1, 3)
    received = connection.makefile("rb", buffering=0)
    request = json.loads(received.readline())
    command = os.fork()
    if command == 0:
        received.close()
        connection.close()
        _become(streams, **request)
        return
    for stream in streams:
        os.close(stream)

    def pass_on() -> None:
        # The command may have ended.
        with contextlib.suppress(ProcessLookupError):
            while number := received.read(1):
                os.kill(command, number[0])
            os.kill(command, signal.SIGKILL)

    threading.Thread(target=pass_on, daemon=True).start()
    _, status = os.waitpid(command, 0)
    connection.sendall(str(os.waitstatus_to_exitcode(status)).encode())
    os._exit(0)


def _become(streams: list[int], arguments: list[str], folder: str, environment: dict[str, str]) -> None:
    """Be the command: what follows, an exception or an exit, is that of this process."""
    import runpy

    for number, stream in enumerate(streams):
        os.dup2(stream, number)
        os.close(stream)
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    what, *rest = arguments
    try:
        if what == "-m":
            sys.path[0], sys.argv = folder, rest
            runpy.run_module(rest[0], run_name="__main__", alter_sys=True)
        elif what == "-c":
            sys.path[0], sys.argv = "", ["-c", *rest[1:]]
            names: dict[str, Any] = {"__name__": "__main__"}
            exec(compile(rest[0], "<string>", "exec"), names)
        else:
            sys.path[0], sys.argv = os.path.dirname(what), arguments
            runpy.run_path(what, run_name="__main__")
        ended.append(0)
    except SystemExit as end:
        if end.code is None or isinstance(end.code, int):
            ended.append(int(end.code or 0))
        raise


ended: list[int] = []
"""Exit status of the command that this process was, if it has one."""


def _leave() -> None:
    """Leave without taking down a thousand modules one by one, which takes longer than most commands."""
    if ended:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(ended[0])


if __name__ == "__main__":
    if sys.argv[1] == "--serve":
        serve(sys.argv[2], int(sys.argv[3]))
    else:
        sys.exit(client(sys.argv[1], sys.argv[2:]))
