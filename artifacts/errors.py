"""The one exception that a person is meant to read."""

from __future__ import annotations

import gc
import io
import os
import select
import sys
from collections.abc import Callable

_LESS_MEMORY = (
    "take less at once: training.micro_batch_size or gradient_checkpointing, generation.batch_size, "
    "execution.scorers_per_job, or fewer --scorers"
)


class InputError(ValueError):
    """Something the caller gave is wrong; the message is one line that names it and the remedy."""


def run_command(main: Callable[[], int | None]) -> int:
    """Run a command-line entry point: an :class:`InputError`, or too little GPU memory, is one line and exit status 2.

    Otherwise the status is what ``main`` returns, 0 for ``None``. Ctrl-C is one line and 130; where the reader of the
    output has left, as ``head`` does, it is 141 and no line: what shells make of the two signals. Every other exception
    is a defect of the program and keeps its traceback.
    """
    # Importing torch, diffusers and transformers makes millions of objects that live to the end; looking for garbage
    # among them after every 700 takes a seventh of a job's start-up.
    gc.set_threshold(100_000, 20, 100)
    _any_locale()
    try:
        status = main() or 0
        sys.stdout.flush()
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except RuntimeError as error:
        # By its name, since nothing here imports torch.
        if type(error).__name__ != "OutOfMemoryError":
            raise
        print(f"error: {str(error).splitlines()[0].rstrip('. ')}; {_LESS_MEMORY}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("interrupted; the same command goes on where it can", file=sys.stderr)
        return 130
    except BrokenPipeError:
        if not _output_is_closed():
            raise
        return 141
    return status


def _any_locale() -> None:
    """What is read is UTF-8 whatever the locale; what is printed and its encoding lacks is shown as ``\\u2248``."""
    if isinstance(sys.stdin, io.TextIOWrapper):
        sys.stdin.reconfigure(encoding="utf-8", errors="strict")
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")


def _output_is_closed() -> bool:
    """Whether nobody reads standard output any more; if so, nothing is written to it from now on."""
    output = sys.stdout.fileno()
    poll = select.poll()
    poll.register(output, 0)
    closed = any(event & select.POLLERR for _, event in poll.poll(0))
    if closed:
        # Or Python would try again at its end, and say so.
        os.dup2(os.open(os.devnull, os.O_WRONLY), output)
    return closed
