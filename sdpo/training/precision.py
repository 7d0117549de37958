"""Where and in which precision a denoiser computes: device, autocast, TF32, memory layout, compilation."""

from __future__ import annotations

import resource
import sys
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

from artifacts.device import take_device
from artifacts.errors import InputError

if TYPE_CHECKING:
    import torch

    from families.conditions import Conditions
    from sdpo.bases import Base
    from sdpo.training.settings import TrainingSettings


@cache
def _own_gpu() -> str:
    """The GPU that this process has taken."""
    return take_device()


def find_device(name: str, *, local_index: int | None = None) -> str:
    """The device of a process, as ``cpu`` or ``cuda:0``; one by itself takes a GPU that no other job has.

    Args:
        name: ``auto``, ``cpu`` or ``cuda``.
        local_index: number of the process on its machine, if it is one of several that train together.

    Raises:
        InputError: there is no such device.
    """
    import torch

    found = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if name == "cpu" or (name == "auto" and not found):
        return "cpu"
    if local_index is None and found:
        return _own_gpu()
    if (local_index or 0) >= found:
        raise InputError(
            f"training.device is '{name}', process {local_index or 0} of this machine needs a GPU of its own and "
            f"PyTorch finds {found}; lower execution.processes, ask for more GPUs, or set training.device to cpu"
        )
    return f"cuda:{local_index}"


@dataclass(frozen=True)
class Precision:
    """How predictions are computed; what comes out has dtype float32, whatever happens inside.

    Attributes:
        device: of the denoiser.
        precision: ``float32`` or ``bfloat16``.
        channels_last: memory layout of what goes in.
        keeps_casts: whether a weight that autocast has rounded is kept till the end of a pass. Where weights are shared
            out, a pass would end with all of them in this process.
    """

    device: str = "cpu"
    precision: str = "float32"
    channels_last: bool = False
    keeps_casts: bool = True

    def predict(
        self,
        base: Base,
        denoiser: torch.nn.Module,
        noisy: torch.Tensor,
        timesteps: torch.Tensor,
        conditions: Conditions,
    ) -> torch.Tensor:
        """Prediction (B, C, H, W) of a denoiser."""
        import torch

        if self.channels_last:
            noisy = noisy.to(memory_format=torch.channels_last)
        if self.precision == "float32":
            return base.predict(denoiser, noisy, timesteps, conditions)
        # Entered anew for each pass: weights that autocast has converted without gradients must not be found again
        # by a pass that needs them.
        with torch.autocast(torch.device(self.device).type, torch.bfloat16, cache_enabled=self.keeps_casts):
            predicted = base.predict(denoiser, noisy, timesteps, conditions)
        return predicted.float()

    def prepared(
        self, denoiser: torch.nn.Module, settings: TrainingSettings, *, trains: bool, fixed: bool = False
    ) -> torch.nn.Module:
        """The denoiser in its memory layout, compiled if asked for; the same module.

        Args:
            denoiser: of the policy or of the reference.
            settings: ``compile`` and, for what trains, ``gradient_checkpointing``.
            trains: whether it is the policy.
            fixed: whether weights that do not train never change: all of a reference that stays, and of a policy with
                adapters all but these. Those that every pass would round are then kept rounded, in half the memory and
                to the same predictions.

        Raises:
            InputError: the denoiser has no gradient checkpointing.
        """
        import torch

        if self.channels_last:
            denoiser.to(memory_format=torch.channels_last)
        if trains and settings.gradient_checkpointing:
            enable: Any = getattr(denoiser, "enable_gradient_checkpointing", None)
            if enable is None:
                raise InputError(
                    f"training.gradient_checkpointing is true, which a {type(denoiser).__name__} does not have; "
                    "leave it out"
                )
            enable()
        if fixed and self.precision == "bfloat16":
            _round_as_autocast_does(denoiser)
        if settings.compile:
            # In place, so that names of weights stay as they are.
            denoiser.compile()
        return denoiser


def _round_as_autocast_does(denoiser: torch.nn.Module) -> None:
    """Round what autocast rounds before each product: weights and biases of linear layers and convolutions.

    Those that train stay as they are.
    """
    import torch

    for module in denoiser.modules():
        frozen = not any(p.requires_grad for p in module.parameters(recurse=False))
        if frozen and isinstance(module, torch.nn.Linear | torch.nn.Conv2d):
            module.to(torch.bfloat16)


def create(settings: TrainingSettings, device: str, *, sharded: bool = False) -> Precision:
    """The precision of a training; TF32 is switched for the whole process.

    Args:
        settings: of the training.
        device: of the denoisers.
        sharded: whether their weights are shared out among processes.
    """
    import torch

    torch.backends.cuda.matmul.allow_tf32 = settings.tf32
    # On by default in PyTorch, unlike for products.
    torch.backends.cudnn.allow_tf32 = settings.tf32
    return Precision(device, settings.precision, settings.channels_last, keeps_casts=not sharded)


def peak_memory_bytes(device: str = "cpu") -> int:
    """Largest memory use so far: of the GPU's allocator, or the resident memory of this process."""
    import torch

    if torch.device(device).type == "cuda":
        return int(torch.cuda.max_memory_allocated(device))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    # Linux counts kibibytes, macOS bytes.
    return peak if sys.platform == "darwin" else peak * 1024
