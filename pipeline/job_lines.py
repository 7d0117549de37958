"""What a run of many jobs says of itself: a line as a job begins, and one as it ends, with how long the rest takes."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from statistics import fmean

from artifacts.durations import duration


@dataclass
class JobLines:
    """Jobs of one run of the workflow.

    Attributes:
        wanted: jobs by rule that are to be run.
        clock: seconds, from any beginning.
    """

    wanted: Mapping[str, int]
    clock: Callable[[], float] = time.monotonic
    _begun: dict[int, tuple[str, float]] = field(default_factory=dict)
    _took: dict[str, list[float]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._start = self.clock()

    def begins(self, job: int, rule: str) -> None:
        """A job was started, for the first time or again."""
        self._begun[job] = rule, self.clock()

    def ends(self, job: int) -> None:
        """A job has ended well."""
        if job in self._begun:
            rule, begun = self._begun.pop(job)
            self._took.setdefault(rule, []).append(self.clock() - begun)

    def progress(self, done: int, total: int) -> str:
        """How far the run is."""
        left = self.seconds_left()
        return f"{done} of {total} jobs done in {duration(self.clock() - self._start)}{_about(left)}"

    def seconds_left(self) -> float | None:
        """What the rest takes if jobs of a rule take as long as those before, on as many cores as were busy so far.

        ``None`` while that is not known of a rule of several jobs, and when all are done. Single jobs, as tables and
        page, are short, and not counted before they have run.
        """
        ended = Counter({rule: len(times) for rule, times in self._took.items()})
        now, running = self.clock(), Counter(rule for rule, _ in self._begun.values())
        left = {rule: count - ended[rule] for rule, count in self.wanted.items() if count > ended[rule]}
        if not left or any(rule not in self._took and self.wanted[rule] > 1 for rule in left):
            return None
        known = {rule: fmean(self._took[rule]) for rule in left if rule in self._took}
        begun = sum(min(now - since, known[rule]) for rule, since in self._begun.values() if rule in known)
        work = sum(known[rule] * left[rule] for rule in known) - begun
        spent = sum(map(sum, self._took.values())) + sum(now - since for _, since in self._begun.values())
        busy = max(1.0, spent / max(now - self._start, 1.0))
        return work / min(busy, max(1.0, float(sum(left.values())), running.total()))


def _about(seconds: float | None) -> str:
    if seconds is None:
        return ""
    minutes = max(1, round(seconds / 60))
    return f", about {minutes} min left" if minutes < 90 else f", about {minutes / 60:.1f} h left"
