"""Loggers: where the rows of a training go besides its own log; one module each, found by name.

A logger module, built in or announced by an entry point of the group ``sdpo.loggers``, has ``create(run) -> Logger``.
It works in a thread of its own: whatever it does, and however long a server does not answer, the training goes on.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from queue import SimpleQueue
from threading import Thread
from typing import Any, Protocol

from artifacts.errors import InputError
from artifacts.plugins import Call, Registry, place

REGISTRY = Registry(
    kind="logger", package="sdpo.training.loggers", group="sdpo.loggers", calls={"create": Call(("run",))}
)
PATIENCE_SECONDS = 20.0
"""What the end of a training waits for a logger that has not handed on all rows."""

Values = Mapping[str, float | None]


@dataclass(frozen=True)
class LoggedRun:
    """What a logger is told of the run whose rows it gets.

    Attributes:
        benchmark: its name.
        model: name of the model, ``<base>/<variant>/seed<k>``.
        digest: of benchmark, model, and all that shapes the run; a run that goes on has that of before.
        step: from which it goes on, 0 at the start; rows of later steps may have been logged before.
        folder: of the run's states. Files that a logger writes there, in a folder of its own, stay.
        spec: base, objective and training as the job description has them.
    """

    benchmark: str
    model: str
    digest: str
    step: int
    folder: Path
    spec: Mapping[str, Any]


class Logger(Protocol):
    """Takes the rows of one run."""

    def log(self, step: int, row: Values) -> None:
        """One row of the log: values by name, as ``training/loss`` and ``drift/winner_drift``; some may be missing.

        Args:
            step: optimizer steps taken, 0 for the drift of the start.
            row: ``None`` where the objective has no such value.
        """

    def close(self, *, finished: bool) -> None:
        """The training is done or, not ``finished``, goes on in another process or has failed."""


def names() -> list[str]:
    """Names of all loggers."""
    return REGISTRY.names()


@contextmanager
def opened(chosen: Sequence[str], run: LoggedRun) -> Iterator[Callable[[int, Values], None]]:
    """Open loggers for a run.

    Yields:
        What hands a row to all of them, and never fails or waits.
    """
    with ExitStack() as stack:
        feeds = [stack.enter_context(_Feed(name, run)) for name in chosen]

        def listen(step: int, row: Values) -> None:
            for feed in feeds:
                feed.rows.put((step, {**row}))

        yield listen


class _Feed(AbstractContextManager["_Feed"]):
    """Makes a logger and hands it rows, in a thread; what goes wrong is said once."""

    def __init__(self, name: str, run: LoggedRun) -> None:
        self.rows: SimpleQueue[tuple[int, Values] | None] = SimpleQueue()
        self._name, self._run = name, run
        self._warned = self._finished = False
        self._thread = Thread(target=self._work, name=f"logger {name}", daemon=True)
        self._thread.start()

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self._finished = kind is None
        self.rows.put(None)
        self._thread.join(PATIENCE_SECONDS)
        if self._thread.is_alive():
            self._warn(f"has not handed on all rows after {PATIENCE_SECONDS:g} s")

    def _work(self) -> None:
        self._tried(lambda: self._hand_on(REGISTRY.load(self._name).create(self._run)))

    def _hand_on(self, logger: Logger) -> None:
        while (row := self.rows.get()) is not None:
            self._tried(partial(logger.log, *row))
        logger.close(finished=self._finished)

    def _tried(self, action: Callable[[], object]) -> None:
        try:
            action()
        except InputError as error:
            self._warn(str(error))
        # Whatever a service or a plug-in raises.
        except (Exception, SystemExit) as error:
            self._warn(place(error, REGISTRY.file(self._name)))

    def _warn(self, what: str) -> None:
        if not self._warned:
            self._warned = True
            print(
                f"warning: logger '{self._name}' of {self._run.model}: {what}; the training goes on, and its log is in "
                f"{self._run.folder}",
                file=sys.stderr,
            )
