"""The folder of results: whether anything can be written there."""

from __future__ import annotations

import os
from pathlib import Path

from artifacts.errors import InputError


def check_writable(root: str | Path) -> None:
    """Check that a folder can be written to, or be made if it is not there yet.

    Raises:
        InputError: it cannot.
    """
    nearest = Path(root)
    while not nearest.exists() and nearest != nearest.parent:
        nearest = nearest.parent
    if not nearest.is_dir():
        raise InputError(f"{nearest}: is no folder, and results are to be written to {root}; move it away")
    if not os.access(nearest, os.W_OK | os.X_OK):
        raise InputError(
            f"{nearest}: no right to write there, and results are to be written to {root}; get it, or start elsewhere"
        )
