"""Drawing the next step while this one is computed."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

T = TypeVar("T")


def prefetched(draw: Callable[[int], T], steps: Iterable[int], *, ahead: bool) -> Iterator[T]:
    """``draw(step)`` for each step in order.

    Args:
        draw: depends on the step alone, so that it does not matter when it is called.
        steps: numbers of steps.
        ahead: draw one step ahead in a thread. It pays where the denoiser computes on a GPU; on the CPU both would
            share the cores.

    Raises:
        Exception: whatever ``draw`` raises, when its step comes.
    """
    if not ahead:
        yield from map(draw, steps)
        return
    with ThreadPoolExecutor(max_workers=1) as thread:
        waiting = None
        for step in steps:
            before, waiting = waiting, thread.submit(draw, step)
            if before is not None:
                yield before.result()
        if waiting is not None:
            yield waiting.result()
