"""Several processes that train one model: each computes the gradients of its micro-batches, and all add them up.

The processes are started by ``sdpo train --processes N``, ``accelerate launch`` or ``torchrun``; accelerate finds them
and their devices. Processes that hold all of a model sum its gradients by one explicit all-reduce a step instead of
inside the backward pass, since a λ of granularity ``global`` is known only after the last of them, and no gradient of a
step is ready before.
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
from sdpo.training.sharding import Sharding

if TYPE_CHECKING:
    import torch

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
        sharding: what each holds of the model.
    """

    index: int = 0
    count: int = 1
    local_index: int = 0
    sharding: Sharding = "replicated"

    @property
    def sharded(self) -> bool:
        """Whether each holds a share of the weights, and all are needed for every pass."""
        return self.sharding == "fsdp2"

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


def join(device: str, sharding: Sharding = "replicated") -> Processes:
    """This process among those it was started with; alone where it was started by itself.

    Args:
        device: ``training.device``; ``cpu`` keeps processes off the GPUs.
        sharding: what each is to hold of the model.

    Raises:
        InputError: there are no others to share the model with.
    """
    if not started_with_others():
        if sharding != "replicated":
            raise InputError(f"--sharding is {sharding}, which shares a model out; expected --processes of at least 2")
        return Processes()
    import torch
    from accelerate import PartialState

    state = PartialState(cpu=device == "cpu" or not torch.cuda.is_available(), timeout=_PATIENCE)
    # All processes have to make each group, and in the same order.
    for patience in (_PATIENCE, _LONG_PATIENCE):
        _host_group(patience)
    return Processes(state.process_index, state.num_processes, state.local_process_index, sharding)


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
