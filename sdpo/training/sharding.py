"""What each of several processes holds of a model: all of it, or its share by torch's FSDP2 (``fully_shard``).

Under ``fsdp2`` every tensor of policy, reference, gradients, moments and moving average is cut along its first
dimension, and a process holds its piece. A block's weights are brought together for the block's own pass and dropped
after it; its gradient is summed over the processes as it is made, and each keeps its piece of the sum. So every pass
needs all processes: they make as many of them, in the same order. A state or a model on disk is whole, the same as
that of processes that hold everything.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import TYPE_CHECKING, Any, Literal

from artifacts.errors import InputError

if TYPE_CHECKING:
    import torch
    from torch.distributed.device_mesh import DeviceMesh

Sharding = Literal["replicated", "fsdp2"]
_REFUSED: Mapping[str, tuple[tuple[Any, ...], str]] = {
    "lora": ((None,), "nothing: all weights are trained"),
    "optimizer": (("adamw", "adam"), "adamw or adam: moments of the others are of other shapes than the weights"),
    "compile": ((False,), "false"),
    "channels_last": ((False,), "false: shares of weights lie one after another"),
}
"""Settings of the training that are limited: what may be, and how it is said."""


def expected_instead(training: Mapping[str, Any]) -> tuple[str, str] | None:
    """The first setting of a training that shares of its weights do not allow, and what was expected of it."""
    for name, (allowed, expected) in _REFUSED.items():
        if name in training and training[name] not in allowed:
            return name, f"expected {expected}, under execution.sharding: fsdp2"
    return None


def replicated_instead(family: str, module: object) -> str | None:
    """Why processes cannot share the weights of a base family's denoisers; ``None`` if they can.

    Args:
        family: its name.
        module: of the family.
    """
    if not getattr(module, "PASSES_VARY", False):
        return None
    return (
        f"expected replicated: base family '{family}' makes a pass for each length of prompts, and all have to be alike"
    )


def check(training: Mapping[str, Any], family: str, module: object) -> None:
    """Refuse what :func:`replicated_instead` and :func:`expected_instead` find.

    Raises:
        InputError: there is something.
    """
    if expected := replicated_instead(family, module):
        raise InputError(f"--sharding is fsdp2: {expected}")
    if found := expected_instead(training):
        name, expected = found
        raise InputError(f"training.{name} is {training[name]!r}: {expected}")


def spread(denoiser: torch.nn.Module, device: str) -> torch.nn.Module:
    """Share out the weights of a denoiser among the processes, in place; the same module.

    Blocks are those that the denoiser's class says are not to be split (``_no_split_modules`` of diffusers), which is
    also what accelerate takes; what lies outside of them is one more. They move to the device one after another, so
    that no more than one is there whole.

    Args:
        denoiser: with all its weights, on the CPU or the device; prepared, since its parameters become others.
        device: that the processes compute on.
    """
    from torch.distributed.fsdp import FSDPModule, fully_shard

    names = set(getattr(denoiser, "_no_split_modules", None) or ())
    blocks = [module for module in denoiser.modules() if type(module).__name__ in names]
    for module in (*reversed(blocks), denoiser):
        # Also of the outermost: what it kept would be its weights from before a step, or an exchange with an average.
        fully_shard(module, mesh=_mesh(device), reshard_after_forward=True)
    for module in denoiser.modules():
        if isinstance(module, FSDPModule):
            # Sums instead of means: a loss is already divided by the pairs of the step in all processes.
            module.set_gradient_divide_factor(1.0)
            module.set_force_sum_reduction_for_comms(True)
    return denoiser


@cache
def _mesh(device: str) -> DeviceMesh:
    import torch
    from torch.distributed import get_world_size
    from torch.distributed.device_mesh import init_device_mesh

    return init_device_mesh(torch.device(device).type, (get_world_size(),))


def whole(tensor: torch.Tensor) -> torch.Tensor:
    """A tensor of which this process may hold a share, whole; all processes have to ask for it."""
    from torch.distributed.tensor import DTensor

    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def own_piece(tensor: torch.Tensor) -> torch.Tensor:
    """What this process holds of a tensor: the same memory."""
    from torch.distributed.tensor import DTensor

    return tensor.to_local() if isinstance(tensor, DTensor) else tensor


def as_shared(tensor: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
    """A whole tensor, shared out as another of its shape is; as it is where that is whole too."""
    from torch.distributed.tensor import DTensor, distribute_tensor

    if not isinstance(like, DTensor) or tensor.shape != like.shape:
        return tensor
    # Every process has it whole, and takes its own piece.
    return distribute_tensor(tensor, like.device_mesh, like.placements, src_data_rank=None)


def put_together(state: Any) -> None:
    """Give this process's shares of a state to the one that asks for each tensor whole, in the order of the state."""
    import torch

    if isinstance(state, torch.Tensor):
        whole(state)
    elif isinstance(state, Mapping):
        for value in state.values():
            put_together(value)
    elif isinstance(state, list | tuple):
        for value in state:
            put_together(value)
