from __future__ import annotations

import pytest

from pipeline.job_lines import JobLines


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def ran(lines: JobLines, clock: Clock, rule: str, *numbers: int, seconds: float) -> None:
    """Jobs at once, alone."""
    for number in numbers:
        lines.begins(number, rule)
    clock.now += seconds
    for number in numbers:
        lines.ends(number)


def test_the_rest_takes_as_long_as_the_jobs_before_on_as_many_cores(clock: Clock) -> None:
    lines = JobLines({"train": 6, "score": 4, "report": 1, "all": 1}, clock)
    ran(lines, clock, "train", 1, 2, seconds=300)
    assert lines.progress(2, 12) == "2 of 12 jobs done in 5 min 00 s"
    ran(lines, clock, "score", 3, 4, seconds=60)
    # Two at a time: four trainings of 300 s and two scorings of 60 s.
    assert lines.seconds_left() == pytest.approx((4 * 300 + 2 * 60) / 2)
    assert lines.progress(4, 12) == "4 of 12 jobs done in 6 min 00 s, about 11 min left"


def test_what_runs_already_counts_by_what_is_left_of_it(clock: Clock) -> None:
    lines = JobLines({"train": 2}, clock)
    ran(lines, clock, "train", 1, seconds=300)
    lines.begins(2, "train")
    clock.now += 100
    assert lines.seconds_left() == pytest.approx(200)
    clock.now += 300
    assert lines.seconds_left() == 0
    assert lines.progress(1, 2) == "1 of 2 jobs done in 11 min 40 s, about 1 min left"


def test_one_that_is_left_alone_does_not_run_on_all_cores(clock: Clock) -> None:
    lines = JobLines({"train": 5}, clock)
    ran(lines, clock, "train", 1, 2, 3, 4, seconds=300)
    lines.begins(5, "train")
    assert lines.seconds_left() == pytest.approx(300)


def test_a_job_that_is_tried_again_counts_once(clock: Clock) -> None:
    lines = JobLines({"train": 2}, clock)
    lines.begins(1, "train")
    clock.now += 1000
    ran(lines, clock, "train", 1, seconds=100)
    assert lines.seconds_left() == pytest.approx(100)


def test_single_jobs_are_not_waited_for_and_the_end_says_nothing(clock: Clock) -> None:
    lines = JobLines({"score": 2, "report": 1, "all": 1}, clock)
    ran(lines, clock, "score", 1, seconds=7200 * 2)
    assert lines.progress(1, 4) == "1 of 4 jobs done in 4 h 00 min, about 4.0 h left"
    ran(lines, clock, "score", 2, seconds=60)
    assert lines.progress(2, 4) == "2 of 4 jobs done in 4 h 01 min, about 1 min left"
    ran(lines, clock, "report", 3, seconds=60)
    ran(lines, clock, "all", 4, seconds=0)
    assert lines.progress(4, 4) == "4 of 4 jobs done in 4 h 02 min"
