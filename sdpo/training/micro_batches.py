"""How a step is cut into micro-batches, and what is wrong with a cut that the processes could not share."""

from __future__ import annotations

from typing import TYPE_CHECKING

from artifacts.errors import InputError

if TYPE_CHECKING:
    from sdpo.objectives import Objective
    from sdpo.safeguard.settings import Granularity
    from sdpo.training.settings import TrainingSettings


def micro_batches(
    settings: TrainingSettings,
    objective: Objective,
    processes: int,
    *,
    sharded: bool = False,
    several_shapes: bool = False,
) -> list[range]:
    """Places of each micro-batch in a step.

    They do not depend on the number of processes where a λ is one micro-batch's; so no result does, but for rounding
    and for losses that take in the micro-batches of other processes (Diffusion-KTO). Where a λ is that of a number of
    pairs, it does not depend on the micro-batches either.

    Args:
        settings: ``batch_size`` and ``micro_batch_size``.
        objective: its safeguard says what shares a λ.
        processes: that share the step.
        sharded: whether each holds a share of the weights.
        several_shapes: whether the pairs' latents are of several shapes.

    Raises:
        InputError: see :func:`granularity_instead` and :func:`expected_instead`.
    """
    pairs, size, guard = settings.batch_size, settings.micro_batch_size, objective.safeguard
    granularity = None if guard is None else guard.granularity
    expected = granularity_instead(pairs, size, processes, granularity, sharded=sharded)
    if expected:
        raise InputError(f"safeguard.granularity is {granularity}: {expected}")
    expected = expected_instead(
        pairs,
        size,
        processes,
        granularity=granularity,
        alike=reason_for_alike(
            objective.name, processes, reduces=getattr(objective.module, "REDUCES", False), sharded=sharded
        ),
        several_shapes=several_shapes,
    )
    if expected:
        raise InputError(f"training.micro_batch_size is {'left out' if size is None else size}: {expected}")
    return _split(pairs, size, processes)


def granularity_instead(
    pairs: int, size: int | None, processes: int, granularity: Granularity | None, *, sharded: bool = False
) -> str | None:
    """What is wrong with a number of pairs that share a λ; ``None`` if nothing is, or if it is no number.

    A step has to have whole groups, and a micro-batch whole groups or a group whole micro-batches: then the groups are
    the same ones whatever passes through the denoiser at once.

    Args:
        pairs: of a step.
        size: of a micro-batch; ``None`` gives each process one.
        processes: that share the step.
        granularity: of the safeguard; ``None`` is off.
        sharded: whether each process holds a share of the weights. Then a pass ends with the gradients of all processes
            in one sum, and none is left to scale for the pairs of several passes of one process.
    """
    if not isinstance(granularity, int):
        return None
    if pairs % granularity:
        return f"expected a divisor of training.batch_size, {pairs}"
    whole = len(_split(pairs, size, processes)[0])
    if whole % granularity and granularity % whole:
        left_out = ", of which each process has one; give training.micro_batch_size" if size is None else ""
        return f"expected a divisor or a multiple of the pairs of a micro-batch, {whole}{left_out}"
    if sharded and granularity > whole:
        return f"expected at most the pairs of a micro-batch, {whole}, or global, under execution.sharding: fsdp2"
    return None


def reason_for_alike(objective: str, processes: int, *, reduces: bool, sharded: bool) -> str | None:
    """Why all processes have to have as many micro-batches; ``None`` if they need not.

    Args:
        objective: its name.
        processes: that share a step.
        reduces: whether the loss of a pair takes in the micro-batches of other processes.
        sharded: whether each process holds a share of the weights.
    """
    if reduces:
        return f"objective '{objective}' takes means over the {processes} processes"
    return f"execution.sharding: fsdp2 makes each pass with all {processes} processes" if sharded else None


def expected_instead(
    pairs: int,
    size: int | None,
    processes: int,
    *,
    granularity: Granularity | None,
    alike: str | None,
    several_shapes: bool = False,
) -> str | None:
    """What is wrong with a micro-batch's size; ``None`` if nothing is.

    Every process has to get a micro-batch, none may change what shares a λ, and none may wait within a loss or a pass
    for one that has no micro-batch left. Pairs of several shapes are put in order in pieces of a micro-batch each.

    Args:
        pairs: of a step.
        size: of a micro-batch; ``None`` gives each process one.
        processes: that share the step.
        granularity: of the safeguard; ``None`` is off.
        alike: of :func:`reason_for_alike`.
        several_shapes: whether the pairs' latents are of several shapes.
    """
    if several_shapes and processes > 1 and size is None:
        return f"expected a number of pairs: images are of several sizes, and {processes} processes share a step"
    if several_shapes and size is not None and pairs % size:
        return f"expected a divisor of training.batch_size, {pairs}: a micro-batch has images of one of several sizes"
    if processes > 1 and size is None and granularity == "microbatch":
        return f"expected a number of pairs, since these share a λ and {processes} processes share a step"
    if pairs < processes:
        return f"{processes} processes cannot share {pairs} pairs; lower execution.processes"
    parts = _split(pairs, size, processes)
    if len(parts) < processes:
        return f"expected at most {pairs // processes}: {processes} processes share {pairs} pairs"
    count = len(parts) // parts_together(granularity, len(parts[0]))
    if count < processes:
        return (
            f"{processes} processes cannot share {pairs} pairs of which each {granularity} share a λ; lower "
            "execution.processes"
        )
    if count % processes and alike is not None:
        kind = "micro-batches" if count == len(parts) else "groups of micro-batches"
        return f"{pairs} pairs make {count} {kind}, and {alike}; expected a size that makes a multiple of {processes}"
    return None


def parts_together(granularity: Granularity | None, size: int) -> int:
    """How many consecutive micro-batches stay in one process, since a number of pairs that share a λ makes so many.

    Args:
        granularity: of the safeguard, one that :func:`granularity_instead` lets pass; ``None`` is off.
        size: pairs of a micro-batch.
    """
    return max(1, granularity // size) if isinstance(granularity, int) else 1


def _split(pairs: int, size: int | None, processes: int) -> list[range]:
    size = size or -(-pairs // processes)
    return [range(start, min(start + size, pairs)) for start in range(0, pairs, size)]
