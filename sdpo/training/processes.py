"""Several processes that train one model: each computes the gradients of its micro-batches, and all add them up.

The processes are started by ``sdpo train --processes N``, ``accelerate launch`` or ``torchrun``; accelerate finds them
and their devices. Gradients are summed by one explicit all-reduce a step instead of inside the backward pass, since a λ
of granularity ``global`` is known only after the last of them, and no gradient of a step is ready before.
"""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from functools import cache
from typing import TYPE_CHECKING, Any, TypeVar

from artifacts.errors import InputError

if TYPE_CHECKING:
    import torch

    from sdpo.objectives import Objective
    from sdpo.safeguard.settings import Granularity
    from sdpo.training.settings import TrainingSettings

T = TypeVar("T")
_PATIENCE = timedelta(minutes=30)
"""What a sum or a message waits for the others: for their steps, a state that is written, a model that is compiled."""
_LONG_PATIENCE = timedelta(hours=12)
"""What :meth:`Processes.wait` waits: for a cache of hundreds of gigabytes that is checked, a lock, an export."""
_BUCKET = 1 << 25
"""Values that one all-reduce sums."""


@dataclass(frozen=True)
class Processes:
    """This process among those of a training.

    Attributes:
        index: from 0.
        count: of all.
        local_index: number on this machine, which is that of its GPU.
    """

    index: int = 0
    count: int = 1
    local_index: int = 0

    @property
    def main(self) -> bool:
        """Whether this process writes files and shows progress."""
        return self.index == 0

    def share(self, items: Sequence[T], *, together: int = 1) -> Sequence[T]:
        """A consecutive part of ``items``; the parts of all processes are all of them, in order.

        Args:
            items: to share out.
            together: so many consecutive items stay in one process.
        """
        groups = -(-len(items) // together)
        first, last = (groups * i // self.count * together for i in (self.index, self.index + 1))
        return items[first:last]

    def add_up(self, tensors: Iterable[torch.Tensor]) -> None:
        """Replace each tensor by its sum over the processes; all have the same bits afterwards."""
        if self.count == 1:
            return
        import torch
        import torch.distributed as dist

        for bucket in _buckets(tensors):
            flat = torch.cat([tensor.flatten() for tensor in bucket])
            dist.all_reduce(flat)
            for tensor, summed in zip(bucket, flat.split([t.numel() for t in bucket]), strict=True):
                tensor.copy_(summed.view_as(tensor))

    def least(self, tensor: torch.Tensor) -> None:
        """Replace a tensor by its minimum over the processes."""
        if self.count > 1:
            import torch.distributed as dist

            dist.all_reduce(tensor, op=dist.ReduceOp.MIN)

    def any(self, flag: bool) -> bool:
        """Whether the flag is set in any of them; GPUs take no part, and go on meanwhile."""
        if self.count == 1:
            return flag
        import torch
        import torch.distributed as dist

        votes = torch.tensor([float(flag)])
        dist.all_reduce(votes, group=_host_group(_PATIENCE))
        return bool(votes.item())

    def told(self, value: T) -> T:
        """The main process's value."""
        if self.count == 1:
            return value
        from accelerate.utils import broadcast_object_list

        return broadcast_object_list([value])[0]  # type: ignore[no-any-return]

    def wait(self) -> None:
        """Wait for the others, for hours if need be."""
        if self.count > 1:
            import torch.distributed as dist

            dist.barrier(group=_host_group(_LONG_PATIENCE))


def _buckets(tensors: Iterable[torch.Tensor]) -> Iterable[list[torch.Tensor]]:
    """Tensors of one dtype, in order, about :data:`_BUCKET` values each time."""
    bucket: list[torch.Tensor] = []
    size = 0
    for tensor in tensors:
        if bucket and (size + tensor.numel() > _BUCKET or tensor.dtype != bucket[0].dtype):
            yield bucket
            bucket, size = [], 0
        bucket.append(tensor)
        size += tensor.numel()
    if bucket:
        yield bucket


@cache
def _host_group(patience: timedelta) -> Any:
    """All processes, over the network whatever their devices."""
    import torch.distributed as dist

    return dist.new_group(backend="gloo", timeout=patience)


def join(device: str) -> Processes:
    """This process among those it was started with; alone where it was started by itself.

    Args:
        device: ``training.device``; ``cpu`` keeps processes off the GPUs.
    """
    if not started_with_others():
        return Processes()
    import torch
    from accelerate import PartialState

    state = PartialState(cpu=device == "cpu" or not torch.cuda.is_available(), timeout=_PATIENCE)
    # All processes have to make each group, and in the same order.
    for patience in (_PATIENCE, _LONG_PATIENCE):
        _host_group(patience)
    return Processes(state.process_index, state.num_processes, state.local_process_index)


def started_with_others() -> bool:
    """Whether a launcher has started this process as one of several."""
    # A scheduler or a container may have set it to 1 for everything that it starts.
    return int(os.environ.get("WORLD_SIZE") or 1) > 1


def is_main() -> bool:
    """Whether this process is the only one, or the one that writes files, of those that have joined."""
    if not _joined():
        return True
    import torch.distributed as dist

    return dist.get_rank() == 0


def leave() -> None:
    """Part with the other processes, at the end."""
    if _joined():
        import torch.distributed as dist

        _host_group.cache_clear()
        dist.destroy_process_group()


def abandon(error: BaseException) -> None:
    """End this process at once with its error, where others train with it; else return.

    They wait for it in a sum, and parting with them would wait for that. The launcher ends them when this one is gone.
    """
    if not _joined():
        return
    if isinstance(error, InputError):
        sys.stderr.write(f"error: {error}\n")
    else:
        traceback.print_exception(error)
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(2 if isinstance(error, InputError) else 1)


def _joined() -> bool:
    """Whether this process is one of several; torch is not imported to find out."""
    distributed = sys.modules.get("torch.distributed")
    return distributed is not None and distributed.is_available() and distributed.is_initialized()


def micro_batches(settings: TrainingSettings, objective: Objective, processes: int) -> list[range]:
    """Places of each micro-batch in a step.

    They do not depend on the number of processes where a λ is one micro-batch's; so no result does, but for rounding
    and for losses that take in the micro-batches of other processes (Diffusion-KTO). Where a λ is that of a number of
    pairs, it does not depend on the micro-batches either.

    Args:
        settings: ``batch_size`` and ``micro_batch_size``.
        objective: its safeguard says what shares a λ.
        processes: that share the step.

    Raises:
        InputError: see :func:`granularity_instead` and :func:`expected_instead`.
    """
    pairs, size, guard = settings.batch_size, settings.micro_batch_size, objective.safeguard
    granularity = None if guard is None else guard.granularity
    expected = granularity_instead(pairs, size, processes, granularity)
    if expected:
        raise InputError(f"safeguard.granularity is {granularity}: {expected}")
    expected = expected_instead(
        pairs,
        size,
        processes,
        granularity=granularity,
        reduces=getattr(objective.module, "REDUCES", False),
        objective=objective.name,
    )
    if expected:
        raise InputError(f"training.micro_batch_size is {'left out' if size is None else size}: {expected}")
    return _split(pairs, size, processes)


def granularity_instead(pairs: int, size: int | None, processes: int, granularity: Granularity | None) -> str | None:
    """What is wrong with a number of pairs that share a λ; ``None`` if nothing is, or if it is no number.

    A step has to have whole groups, and a micro-batch whole groups or a group whole micro-batches: then the groups are
    the same ones whatever passes through the denoiser at once.

    Args:
        pairs: of a step.
        size: of a micro-batch; ``None`` gives each process one.
        processes: that share the step.
        granularity: of the safeguard; ``None`` is off.
    """
    if not isinstance(granularity, int):
        return None
    if pairs % granularity:
        return f"expected a divisor of training.batch_size, {pairs}"
    whole = len(_split(pairs, size, processes)[0])
    if whole % granularity and granularity % whole:
        left_out = ", of which each process has one; give training.micro_batch_size" if size is None else ""
        return f"expected a divisor or a multiple of the pairs of a micro-batch, {whole}{left_out}"
    return None


def expected_instead(
    pairs: int, size: int | None, processes: int, *, granularity: Granularity | None, reduces: bool, objective: str
) -> str | None:
    """What is wrong with a micro-batch's size; ``None`` if nothing is.

    Every process has to get a micro-batch, none may change what shares a λ, and none may wait within a loss for one
    that has no micro-batch left.

    Args:
        pairs: of a step.
        size: of a micro-batch; ``None`` gives each process one.
        processes: that share the step.
        granularity: of the safeguard; ``None`` is off.
        reduces: whether the loss of a pair takes in the micro-batches of other processes.
        objective: its name.
    """
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
    if count % processes and reduces:
        kind = "micro-batches" if count == len(parts) else "groups of micro-batches"
        return (
            f"{pairs} pairs make {count} {kind}, and objective '{objective}' takes means over the {processes} "
            f"processes; expected a size that makes a multiple of {processes}"
        )
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
