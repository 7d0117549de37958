"""Files are read and decoded in threads while a model works: Pillow and hashlib release the interpreter's lock."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

Item = TypeVar("Item")
Read = TypeVar("Read")


def share_cores() -> None:
    """Let threads of torch that wait for each other sleep, so that threads that read have their cores.

    By default they spin, and with readers beside them both take up to four times as long. Of use before torch is
    loaded; ``OMP_WAIT_POLICY`` in the environment goes before.
    """
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")


def read_ahead(read: Callable[[Item], Read], items: Sequence[Item], *, size: int, workers: int) -> Iterator[list[Read]]:
    """``read`` of every item, in order and in lists of ``size``; the next list is read while the caller has this one.

    At most two lists are held, however many items there are.

    Args:
        read: called in threads; what it raises comes up where its list would.
        workers: threads.
    """
    with ThreadPoolExecutor(workers, thread_name_prefix="read") as pool:
        waiting: list[Future[Read]] = []
        try:
            for start in [*range(0, len(items), size), None]:
                ready = waiting
                waiting = [] if start is None else [pool.submit(read, item) for item in items[start : start + size]]
                if ready:
                    yield [future.result() for future in ready]
        finally:
            for future in waiting:
                future.cancel()
