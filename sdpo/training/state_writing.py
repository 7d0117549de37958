"""States are written beside the training: it is held only while they are copied to host memory."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager
from itertools import zip_longest
from pathlib import Path
from typing import Any

from sdpo.training import checkpoint
from sdpo.training.sharding import whole


def on_host(state: Any, used: Any = None) -> Any:
    """A copy of a state in host memory, which the training does not change; mappings become dictionaries.

    Tensors that are shared out become whole, for which the other processes have to give their shares
    (:func:`sdpo.training.sharding.put_together`).

    Args:
        state: tensors and other values, in mappings and lists.
        used: a former copy, whose memory is taken for tensors of the same place, shape and type: memory that the system
            has to find first makes a copy several times as slow.
    """
    import torch

    if isinstance(state, torch.Tensor):
        state = whole(state)
        if isinstance(used, torch.Tensor) and (used.shape, used.dtype) == (state.shape, state.dtype):
            return used.copy_(state.detach())
        return state.detach().to("cpu", copy=True)
    if isinstance(state, Mapping):
        former = used if isinstance(used, Mapping) else {}
        return {key: on_host(value, former.get(key)) for key, value in state.items()}
    if isinstance(state, list | tuple):
        places = used if isinstance(used, list | tuple) else ()
        return type(state)(on_host(value, former) for value, former in zip_longest(state, places[: len(state)]))
    return state


class StateWriter(AbstractContextManager["StateWriter"]):
    """Writes states in a thread, one after another; leaving it waits for the last.

    The copy of the first state is kept in host memory for those after it.
    What goes wrong with one is raised by the next :meth:`write` or :meth:`finish`.
    """

    def __init__(self) -> None:
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="state")
        self._pending: Future[None] | None = None
        self._copy: Any = None
        self._began = self._longest = 0.0

    def write(self, folder: Path, step: int, state: dict[str, Any], *, kept: int) -> None:
        """When the one before is whole, copy a state and begin to write it: :func:`sdpo.training.checkpoint.save`."""
        self.finish()
        self._began = time.perf_counter()
        self._copy = on_host(state, self._copy)
        self._pending = self._thread.submit(self._save, folder, step, self._copy, kept)

    def finish(self) -> None:
        """Wait until the last state is whole."""
        pending, self._pending = self._pending, None
        if pending is not None:
            pending.result()

    @property
    def longest(self) -> float:
        """Seconds that a state took at most, from its copy until it was whole; one that is written counts so far."""
        under_way = self._pending is not None and not self._pending.done()
        return max(self._longest, time.perf_counter() - self._began if under_way else 0.0)

    def _save(self, folder: Path, step: int, state: dict[str, Any], kept: int) -> None:
        try:
            checkpoint.save(folder, step, state, kept=kept)
        finally:
            self._longest = max(self._longest, time.perf_counter() - self._began)

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        try:
            self.finish()
        except Exception as error:
            if kind is None:
                raise
            # What ended the training is what it is to be told; this comes beside it.
            print(f"warning: the last state could not be written ({error})", file=sys.stderr)
        finally:
            self._thread.shutdown()
