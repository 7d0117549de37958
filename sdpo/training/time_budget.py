"""Leaving in time: before a cluster's time limit, and when asked to end (SIGTERM), a training saves its state."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

EXIT_STATUS = 75
"""Of a training that saved its state and left; ``EX_TEMPFAIL`` of sysexits.h: run it again."""
_MARGIN_SECONDS, _MARGIN_SHARE = 120.0, 0.1


def process_start() -> float:
    """When this process was started, seconds since the epoch: imports count as well."""
    import psutil

    return float(psutil.Process().create_time())


class StepDropped(Exception):
    """A step was given up between two of its micro-batches; the weights are those before it."""


class StoppedEarly(Exception):
    """A training left before its end, its state saved; the message says why and where."""


class TimeBudget:
    """How long a command may run.

    Args:
        minutes: from ``started``; ``None`` for no limit.
        started: when the command started, in seconds of ``clock``; now by default.
        clock: seconds.

    Attributes:
        asked_to_end: whether SIGTERM has come.
    """

    def __init__(
        self, minutes: float | None = None, *, started: float | None = None, clock: Callable[[], float] = time.time
    ) -> None:
        self.minutes = minutes
        self._clock = clock
        self._started = clock() if started is None else started
        self.asked_to_end = False

    def reason_to_leave(self, reserve: float) -> str | None:
        """Why to save and leave now; ``None`` to go on.

        Args:
            reserve: seconds that the next step and saving the state take at most. Two minutes, or a tenth of the
                budget if that is less, stay unused beside it.
        """
        if self.asked_to_end:
            return "asked to end (SIGTERM)"
        if self.minutes is None:
            return None
        budget = 60.0 * self.minutes
        left = budget - (self._clock() - self._started)
        if left > reserve + min(_MARGIN_SECONDS, _MARGIN_SHARE * budget):
            return None
        return f"{max(left, 0.0) / 60:.1f} of {self.minutes:g} minutes are left"

    @contextmanager
    def heeding_sigterm(self) -> Iterator[None]:
        """Within, SIGTERM asks the training to end after its micro-batch instead of killing it."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return

        def handle(number: int, frame: FrameType | None) -> None:
            self.asked_to_end = True

        before = signal.signal(signal.SIGTERM, handle)
        try:
            yield
        finally:
            signal.signal(signal.SIGTERM, before)
