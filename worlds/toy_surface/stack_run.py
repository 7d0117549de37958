"""The training loop of a stack: V variants with S seeds each, every model trained as if it were alone.

Models of one seed see the same pairs, noise and times, drawn in step s of seed k from a generator seeded with (k, s),
whatever else is in the stack. The seeds of a variant go through one batched pass, which keeps its activations in the
processor's cache; batches and the base's predictions are made once for all variants.
"""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from artifacts.device import denormals_as_zeros
from artifacts.errors import InputError
from artifacts.progress import progress
from sdpo.training import checkpoint
from sdpo.training.noise_buckets import bucket_columns, bucket_sums
from sdpo.training.precision import peak_memory_bytes
from worlds.toy_surface.heldout_probe import HeldoutProbe
from worlds.toy_surface.joint_objectives import joint_loss, joint_pairs, of_each
from worlds.toy_surface.mlp_stack import predict

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from sdpo.objectives import Objective, PairPrediction
    from sdpo.training.settings import TrainingSettings
    from worlds.toy_surface.base import SurfaceBase
    from worlds.toy_surface.point_pairs import Batch, Points

OWN_SETTINGS = ("learning_rate", "max_grad_norm")
"""Training settings that may differ between the variants of a stack."""


@dataclass
class Variant:
    """The S models of a variant, one a seed, in training.

    Attributes:
        objective: theirs.
        settings: theirs.
        models: (S, P), what is trained.
        reference: (S, P), the base or, where the reference follows the policy, a tensor of the variant's own.
    """

    objective: Objective
    settings: TrainingSettings
    models: torch.nn.Parameter
    reference: Tensor

    @property
    def decay(self) -> float:
        """Decay of the reference's moving average; 1 keeps it fixed."""
        return float(getattr(self.objective.parameters, "reference_decay", 1.0))


class StackRun:
    """A stack in training: model v·S + s is variant v with the s-th seed.

    Args:
        base: where the models start.
        objectives: one a variant.
        settings: one a variant, equal but for :data:`OWN_SETTINGS`.
        training: pairs to train on.
        heldout: pairs to measure drift on.
        seeds: training seeds.
        label: name on the progress bar and in errors.

    Raises:
        InputError: an optimizer that is neither ``adam`` nor ``adamw``.
    """

    def __init__(
        self,
        base: SurfaceBase,
        objectives: Sequence[Objective],
        settings: Sequence[TrainingSettings],
        training: Points,
        heldout: Points,
        seeds: Sequence[int],
        *,
        label: str | None,
    ) -> None:
        import torch

        optimizers = {"adamw": torch.optim.AdamW, "adam": torch.optim.Adam}
        self.settings = common = settings[0]
        if common.optimizer not in optimizers:
            raise InputError(f"training.optimizer is '{common.optimizer}', expected one of {', '.join(optimizers)}")
        self.training, self.seeds, self.sizes, self.label = training, list(seeds), base.sizes, label
        self.start = torch.stack([base.pretrained(seed) for seed in self.seeds])
        self.variants = [
            Variant(objective, own, torch.nn.Parameter(self.start.clone()), self.start)
            for objective, own in zip(objectives, settings, strict=True)
        ]
        for variant in self._moving():
            variant.reference = self.start.clone()
        self.optimizer = optimizers[common.optimizer](
            [{"params": [v.models], "lr": v.settings.learning_rate} for v in self.variants],
            weight_decay=common.weight_decay,
            fused=True,
        )
        self.losers = any(v.objective.module.HAS_LOSER for v in self.variants)
        self.probe = HeldoutProbe(heldout, common.heldout_pairs, self.start, self.sizes)
        self.step = self.resumed_from = 0
        self.rows: list[list[dict[str, Any]]] = [[] for _ in range(len(self))]
        self.drift: list[list[dict[str, float]]] = [[] for _ in range(len(self))]
        self._measure_drift()

    def __len__(self) -> int:
        """Number of models."""
        return len(self.variants) * len(self.seeds)

    def model(self, number: int) -> Tensor:
        """Parameters of a model, (P,)."""
        variant, seed = divmod(number, len(self.seeds))
        return self.variants[variant].models.detach()[seed]

    def _moving(self) -> list[Variant]:
        return [variant for variant in self.variants if variant.decay < 1.0]

    def resume(self, state: dict[str, Any] | None) -> None:
        """Take up a saved state; ``None`` starts from the base."""
        if state is None:
            return
        for variant, saved in zip(self.variants, state["models"], strict=True):
            variant.models.detach().copy_(saved)
        for variant, saved in zip(self._moving(), state["references"], strict=True):
            variant.reference.copy_(saved)
        self.optimizer.load_state_dict(state["optimizer"])
        self.step = self.resumed_from = state["step"]
        self.rows, self.drift = state["rows"], state["drift"]

    def state(self) -> dict[str, Any]:
        """Everything that :meth:`resume` needs."""
        return {
            "models": [variant.models.detach() for variant in self.variants],
            "references": [variant.reference for variant in self._moving()],
            "optimizer": self.optimizer.state_dict(),
            "step": self.step,
            "rows": self.rows,
            "drift": self.drift,
        }

    @denormals_as_zeros()
    def go(self, state_folder: Path | None) -> None:
        """Train to the end, logging, measuring drift and saving state on the way."""
        settings = self.settings
        clock, since = time.perf_counter(), self.step
        with progress(total=settings.steps, initial=self.step, label=self.label, unit="step") as bar:
            while self.step < settings.steps:
                self.step += 1
                last = self.step == settings.steps
                logged = self.step % settings.log_every == 0 or last
                rows = self.one_step(logged=logged)
                if logged:
                    pairs = (self.step - since) * settings.batch_size
                    for log, row in zip(self.rows, rows, strict=True):
                        row["samples_per_second"] = pairs / max(time.perf_counter() - clock, 1e-9)
                        row["peak_memory_bytes"] = peak_memory_bytes()
                        log.append(row)
                    clock, since = time.perf_counter(), self.step
                if self.step % settings.drift_every == 0 or last:
                    self._measure_drift()
                if state_folder is not None and (self.step % settings.checkpoint_every == 0 or last):
                    checkpoint.save(state_folder, self.step, self.state())
                bar.update()

    def _measure_drift(self) -> None:
        measured = [row for variant in self.variants for row in self.probe.measure(variant.models, self.step)]
        for drift, row in zip(self.drift, measured, strict=True):
            drift.append(row)

    def one_step(self, *, logged: bool) -> list[dict[str, Any]]:
        """Step number :attr:`step`; one row of contract ``training`` a model if ``logged``."""
        import torch

        batch = self.training.drawn(self.seeds, self.step, self.settings.batch_size, losers=self.losers)
        with torch.no_grad():
            base = predict(self.start, batch.inputs, self.sizes)
        warmth = min(1.0, self.step / max(self.settings.warmup_steps, 1))
        rows = []
        self.optimizer.zero_grad()
        for number, (variant, group) in enumerate(zip(self.variants, self.optimizer.param_groups, strict=True)):
            policy, pairs = self._predicted(variant, batch, base)
            try:
                joint_loss(variant.objective, pairs, len(self.seeds)).backward()
            except InputError as error:
                self._refuse(number, policy.isfinite().flatten(1).all(1), f"prediction ({error})")
                raise
            norms = self._clip(number)
            group["lr"] = warmth * variant.settings.learning_rate
            if logged:
                own = zip(self._log_rows(variant, pairs), norms.tolist(), strict=True)
                rows += [{**row, "grad_norm": norm, "learning_rate": group["lr"]} for row, norm in own]
        self.optimizer.step()
        for variant in self._moving():
            variant.reference.lerp_(variant.models.detach(), 1.0 - variant.decay)
        return rows

    def _predicted(self, variant: Variant, batch: Batch, base: Tensor) -> tuple[Tensor, PairPrediction]:
        """The policy's predictions, (S, 3, N), and with the reference's the pairs of all S models.

        Args:
            variant: whose models predict.
            batch: what they see.
            base: predictions of the base for it, (S, 3, N).
        """
        import torch

        count = (2 if variant.objective.module.HAS_LOSER else 1) * self.settings.batch_size
        inputs = batch.inputs[:, :, :count]
        policy = predict(variant.models, inputs, self.sizes)
        reference = base[:, :, :count]
        if variant.decay < 1.0:
            with torch.no_grad():
                reference = predict(variant.reference, inputs, self.sizes)
        return policy, joint_pairs(policy, reference, batch.target[:, :, :count], batch.time)

    def _clip(self, number: int) -> Tensor:
        """Clip the gradient of each model of a variant to its limit; the norms before, (S,)."""
        gradient = self.variants[number].models.grad
        assert gradient is not None
        norms: Tensor = gradient.norm(dim=1)
        self._refuse(number, norms.isfinite(), "gradient norm")
        limit = self.variants[number].settings.max_grad_norm
        gradient.mul_((limit / (norms + 1e-6)).clamp(max=1.0)[:, None])
        return norms

    def _refuse(self, number: int, finite: Tensor, what: str) -> None:
        """Stop at the first model of a variant for which ``finite``, (S,), is false."""
        if finite.all():
            return
        place = int(finite.logical_not().nonzero()[0])
        raise InputError(
            f"{self.label}: {what} of model {number * len(self.seeds) + place} (variant {number}, "
            f"seed {self.seeds[place]}) is not finite at step {self.step}; lower training.learning_rate or beta"
        )

    def _log_rows(self, variant: Variant, pairs: PairPrediction) -> list[dict[str, Any]]:
        """What the objective itself says of every model of a variant."""
        import torch

        drifts = ("winner_drift", "loser_drift", "margin", "implicit_accuracy")
        keys = (*drifts, "safe_scale_mean", "safe_scale_min", "residual_cosine")
        rows = []
        for own in of_each(pairs, len(self.seeds)):
            with torch.no_grad():
                out = variant.objective(own)
            if not math.isfinite(loss := float(out.loss)):
                raise InputError(
                    f"{self.label}: loss {loss} is not finite at step {self.step}; lower the learning rate"
                )
            values = {key: float(out.metrics[key]) if key in out.metrics else None for key in keys}
            assert own.time is not None
            # α = 1 − t, σ = t: the time is the share of noise.
            by_noise = bucket_columns(bucket_sums(own.time, out).tolist(), out)
            rows.append({"step": self.step, "loss": loss, **values, **by_noise})
        return rows
