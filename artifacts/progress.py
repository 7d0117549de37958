"""Progress on stderr: a bar in a terminal, a line every few seconds where jobs write side by side into logs."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from typing import IO, Any, TypeVar

T = TypeVar("T")
LINE_EVERY_SECONDS = 5.0


class _Lines:
    """A stream that turns each redrawn bar into a line of its own."""

    def __init__(self, stream: IO[str]) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        if line := text.strip("\r\n "):
            self._stream.write(f"{line}\n")
        return len(text)

    def flush(self) -> None:
        self._stream.flush()


def progress(
    items: Iterable[T] | None = None, *, label: str | None, total: int | None = None, initial: int = 0, unit: str = "it"
) -> Any:
    """A tqdm bar over ``items``, or one to be updated by hand up to ``total``.

    Args:
        label: what is being done, and by which model; ``None`` shows nothing.
    """
    from tqdm import tqdm

    options: dict[str, Any] = {"desc": label, "total": total, "initial": initial, "unit": unit}
    if label is None:
        return tqdm(items, disable=True)
    if sys.stderr.isatty():
        return tqdm(items, mininterval=0.5, **options)
    shown = "{desc}: {n_fmt}/{total_fmt} [{elapsed}<{remaining}, {rate_fmt}{postfix}]"
    return tqdm(
        items, file=_Lines(sys.stderr), mininterval=LINE_EVERY_SECONDS, maxinterval=60, bar_format=shown, **options
    )
