"""The one exception that a person is meant to read."""

from __future__ import annotations

import gc
import sys
from collections.abc import Callable


class InputError(ValueError):
    """Something the caller gave is wrong; the message is one line that names it and the remedy."""


def run_command(main: Callable[[], int | None]) -> int:
    """Run a command-line entry point: an :class:`InputError` becomes one line and exit status 2.

    Otherwise the status is what ``main`` returns, 0 for ``None``. Every other exception is a defect of the program and
    keeps its traceback.
    """
    # Importing torch, diffusers and transformers makes millions of objects that live to the end; looking for garbage
    # among them after every 700 takes a seventh of a job's start-up.
    gc.set_threshold(100_000, 20, 100)
    try:
        return main() or 0
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
