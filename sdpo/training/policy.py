"""The denoisers of a training: the policy, the frozen or moving reference, what of the policy trains, its average."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

from artifacts.errors import InputError
from sdpo.training.sharding import as_shared, spread, whole

if TYPE_CHECKING:
    import torch

    from sdpo.bases import Base
    from sdpo.training.lora import Adapters
    from sdpo.training.precision import Precision
    from sdpo.training.settings import TrainingSettings


class Policy:
    """A policy with its reference: a second denoiser, or under LoRA the same one with its adapters off.

    Args:
        base: both start from it.
        settings: ``lora``, ``ema_decay``, ``compile``, ``gradient_checkpointing``.
        precision: device and memory layout.
        reference_decay: of a reference that follows the policy; 1 for one that stays.
        seed: of the adapters' start.
        sharded: whether this process holds a share of all weights, and the others the rest.

    Raises:
        InputError: the denoiser has not what the settings ask for.
    """

    def __init__(
        self,
        base: Base,
        settings: TrainingSettings,
        precision: Precision,
        *,
        reference_decay: float,
        seed: int,
        sharded: bool = False,
    ) -> None:
        self.base = base
        self.settings = settings
        self.reference_decay = reference_decay
        self.sharded = sharded
        # As the reference, without dropout: that would make two predictions of equal weights, and no two runs the same.
        self.denoiser = load_denoiser(base, sharded=sharded).eval()
        self.adapters: Adapters | None = None
        self._own_reference: torch.nn.Module | None = None
        if settings.lora is None:
            self._own_reference = load_denoiser(base, sharded=sharded).eval().requires_grad_(False)
            precision.prepared(self._own_reference, settings, trains=False, fixed=reference_decay == 1.0)
        else:
            from sdpo.training.lora import Adapters

            if reference_decay < 1.0:
                raise InputError(
                    "training.lora: this objective's reference follows the policy (reference_decay), which needs a "
                    "copy of its own; leave training.lora out"
                )
            self.adapters = Adapters(self.denoiser, settings.lora, seed)
        precision.prepared(self.denoiser, settings, trains=True, fixed=True)
        if sharded:
            for each in (self.denoiser, self._own_reference):
                assert each is not None
                spread(each, precision.device)
        self.trained = [p for p in self.denoiser.parameters() if p.requires_grad]
        self.average = None if settings.ema_decay is None else MovingAverage(self.trained, settings.ema_decay)

    @contextmanager
    def as_reference(self) -> Iterator[torch.nn.Module]:
        """The reference's denoiser."""
        if self._own_reference is not None:
            yield self._own_reference
            return
        assert self.adapters is not None
        with self.adapters.off():
            yield self.denoiser

    @contextmanager
    def as_exported(self) -> Iterator[torch.nn.Module]:
        """The policy as it would be written now: under EMA with the average as its weights."""
        with nullcontext() if self.average is None else self.average.in_place():
            yield self.denoiser

    def follow(self, step: int) -> None:
        """After optimizer step ``step`` (from 1): average and moving reference take in the new weights."""
        import torch

        if self.average is not None:
            self.average.update(step)
        if self.reference_decay < 1.0 and self._own_reference is not None:
            with torch.no_grad():
                for old, new in zip(self._own_reference.parameters(), self.denoiser.parameters(), strict=True):
                    old.lerp_(new, 1.0 - self.reference_decay)

    def state(self) -> dict[str, Any]:
        """Everything that :meth:`resume` needs; of a policy with adapters, these alone."""
        found: dict[str, Any] = {
            "policy": self.denoiser.state_dict() if self.adapters is None else self.adapters.weights()
        }
        if self.reference_decay < 1.0 and self._own_reference is not None:
            found["reference"] = self._own_reference.state_dict()
        if self.average is not None:
            found["average"] = self.average.state()
        return found

    def resume(self, state: dict[str, Any]) -> None:
        """Take up a saved state."""
        if self.adapters is None:
            _take_up(self.denoiser, state["policy"])
        else:
            self.adapters.load(state["policy"])
        if "reference" in state and self._own_reference is not None:
            _take_up(self._own_reference, state["reference"])
        if self.average is not None:
            self.average.load(state["average"])

    def export(self, folder: Path | None) -> None:
        """Write the denoiser in diffusers' layout; of adapters, their own file and a denoiser that has taken them in.

        Generation reads the denoiser and needs to know nothing of adapters.

        Args:
            folder: gets them; ``None`` in a process that only gives its share of the weights.
        """
        if folder is None and not self.sharded:
            return
        with self.as_exported() as denoiser:
            if self.sharded:
                weights = self._gathered(denoiser, keep=folder is not None)
                if folder is not None:
                    plain = load_denoiser(self.base, sharded=True)
                    plain.load_state_dict(weights, assign=True)
                    self.base.save_denoiser(plain, folder)
                return
            assert folder is not None
            if self.adapters is None:
                self.base.save_denoiser(denoiser, folder)
                return
            from sdpo.training.lora import Adapters

            self.adapters.save(folder, self.base.denoiser_folder)
            assert self.settings.lora is not None
            merged = self.base.load_denoiser()
            adapters = Adapters(merged, self.settings.lora, seed=0)
            adapters.load(self.adapters.weights())
            adapters.merge()
            self.base.save_denoiser(merged, folder)

    @staticmethod
    def _gathered(denoiser: torch.nn.Module, *, keep: bool) -> dict[str, torch.Tensor]:
        """The whole weights in host memory, where they are kept."""
        found = {}
        for name, tensor in denoiser.state_dict().items():
            value = whole(tensor)
            if keep:
                found[name] = value.cpu()
        return found


def load_denoiser(base: Base, *, sharded: bool) -> torch.nn.Module:
    """A fresh copy of the base's denoiser; one that is to be shared out stays on the CPU till then."""
    return base.load_denoiser("cpu") if sharded else base.load_denoiser()


def _take_up(denoiser: torch.nn.Module, weights: Mapping[str, torch.Tensor]) -> None:
    own = denoiser.state_dict()
    denoiser.load_state_dict({name: as_shared(x, own[name]) if name in own else x for name, x in weights.items()})


class MovingAverage:
    """An average that starts as a copy of the weights; memory of one more copy of what trains.

    The decay of step s (from 1) is ``min(decay, (1 + s) / (10 + s))``, so that the first weights do not linger.

    Args:
        parameters: those that train.
        decay: in [0, 1).
    """

    def __init__(self, parameters: Sequence[torch.nn.Parameter], decay: float) -> None:
        self.parameters = list(parameters)
        self.decay = decay
        self.average = [p.detach().clone() for p in self.parameters]

    def update(self, step: int) -> None:
        """Take in the weights after step ``step`` (from 1)."""
        import torch

        decay = min(self.decay, (1 + step) / (10 + step))
        with torch.no_grad():
            for mean, parameter in zip(self.average, self.parameters, strict=True):
                mean.lerp_(parameter, 1.0 - decay)

    def _exchange(self) -> None:
        import torch

        with torch.no_grad():
            for mean, parameter in zip(self.average, self.parameters, strict=True):
                held = parameter.clone()
                parameter.copy_(mean)
                mean.copy_(held)

    @contextmanager
    def in_place(self) -> Iterator[None]:
        """Within, the model has the average as its weights; afterwards its own, to the last bit."""
        self._exchange()
        try:
            yield
        finally:
            self._exchange()

    def state(self) -> list[torch.Tensor]:
        """What :meth:`load` takes."""
        return self.average

    def load(self, state: Sequence[torch.Tensor]) -> None:
        """Take up a saved average."""
        for mean, saved in zip(self.average, state, strict=True):
            mean.copy_(as_shared(saved, mean))
