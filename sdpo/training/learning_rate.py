"""The learning rate of each step: warm-up, then a schedule."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from artifacts.errors import InputError

if TYPE_CHECKING:
    from sdpo.training.settings import TrainingSettings

SCHEDULES = ("constant", "linear", "cosine")


def peak(settings: TrainingSettings) -> float:
    """Learning rate at the end of warm-up; with scaling, ``learning_rate`` is that of a batch of one pair."""
    return settings.learning_rate * (settings.batch_size if settings.scale_learning_rate else 1)


def learning_rate(settings: TrainingSettings, step: int) -> float:
    """Learning rate of step ``step`` (from 1).

    Warm-up rises linearly and reaches the peak at step ``warmup_steps``; ``linear`` and ``cosine`` fall from there and
    would be 0 one step after the last.

    Raises:
        InputError: no such schedule.
    """
    if settings.schedule not in SCHEDULES:
        raise InputError(f"training.schedule is '{settings.schedule}', expected one of {', '.join(SCHEDULES)}")
    rate = peak(settings) * min(1.0, step / max(settings.warmup_steps, 1))
    if settings.schedule == "constant" or step <= settings.warmup_steps:
        return rate
    done = (step - settings.warmup_steps) / (settings.steps - settings.warmup_steps + 1)
    return rate * (1.0 - done if settings.schedule == "linear" else (1.0 + math.cos(math.pi * done)) / 2.0)
