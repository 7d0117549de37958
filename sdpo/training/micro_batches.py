"""Micro-batches of an optimizer step, and how many processes can share them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from artifacts.errors import InputError

if TYPE_CHECKING:
    from sdpo.objectives import Objective
    from sdpo.training.settings import TrainingSettings


def micro_batches(settings: TrainingSettings, objective: Objective, processes: int) -> list[range]:
    """Places of each micro-batch in a step.

    They do not depend on the number of processes where a λ is one micro-batch's; so no result does, but for rounding
    and for losses that take in the micro-batches of other processes (Diffusion-KTO).

    Args:
        settings: ``batch_size`` and ``micro_batch_size``.
        objective: its safeguard says what shares a λ.
        processes: that share the step.

    Raises:
        InputError: see :func:`expected_instead`.
    """
    pairs, size, guard = settings.batch_size, settings.micro_batch_size, objective.safeguard
    expected = expected_instead(
        pairs,
        size,
        processes,
        shares_scale=guard is not None and guard.granularity == "microbatch",
        reduces=getattr(objective.module, "REDUCES", False),
        objective=objective.name,
    )
    if expected:
        raise InputError(f"training.micro_batch_size is {'left out' if size is None else size}: {expected}")
    return _split(pairs, size, processes)


def expected_instead(
    pairs: int, size: int | None, processes: int, *, shares_scale: bool, reduces: bool, objective: str
) -> str | None:
    """What is wrong with a micro-batch's size; ``None`` if nothing is.

    Every process has to get a micro-batch, none may change what shares a λ, and none may wait within a loss for one
    that has no micro-batch left.

    Args:
        pairs: of a step.
        size: of a micro-batch; ``None`` gives each process one.
        processes: that share the step.
        shares_scale: whether the pairs of a micro-batch share a λ.
        reduces: whether the loss of a pair takes in the micro-batches of other processes.
        objective: its name.
    """
    if processes > 1 and size is None and shares_scale:
        return f"expected a number of pairs, since these share a λ and {processes} processes share a step"
    if pairs < processes:
        return f"{processes} processes cannot share {pairs} pairs; lower execution.processes"
    count = len(_split(pairs, size, processes))
    if count < processes:
        return f"expected at most {pairs // processes}: {processes} processes share {pairs} pairs"
    if count % processes and reduces:
        return (
            f"{pairs} pairs make {count} micro-batches, and objective '{objective}' takes means over the {processes} "
            f"processes; expected a size that makes a multiple of {processes}"
        )
    return None


def _split(pairs: int, size: int | None, processes: int) -> list[range]:
    size = size or -(-pairs // processes)
    return [range(start, min(start + size, pairs)) for start in range(0, pairs, size)]
