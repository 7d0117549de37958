"""The training loop of a stack: V variants with S seeds each, every model trained as if it were alone.

Models of one seed see the same pairs, noise and times, drawn in step s of seed k from a generator seeded with (k, s),
whatever else is in the stack; batches and the base's predictions are made once a seed. One optimizer step serves all.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any

from artifacts.errors import InputError
from artifacts.progress import progress
from sdpo.diffusion.errors import prediction_errors
from sdpo.training import checkpoint
from sdpo.training.precision import peak_memory_bytes
from worlds.toy_surface.heldout_probe import HeldoutProbe
from worlds.toy_surface.joint_objectives import JointGroup, Predictions, joint_groups
from worlds.toy_surface.mlp_stack import Activations, MlpStack

if TYPE_CHECKING:
    from torch import Tensor

    from sdpo.objectives import Objective
    from sdpo.training.settings import TrainingSettings
    from worlds.toy_surface.base import SurfaceBase
    from worlds.toy_surface.point_pairs import Batch, Points

OWN_SETTINGS = ("learning_rate", "max_grad_norm")
"""Training settings that may differ between the variants of a stack."""

NEGLIGIBLE = 2.0**-32
"""Share of a micro-batch's largest gradient of a prediction up to which another is left out of the backward pass.

A preference that is met by a wide margin has a gradient of zero or near it. A thousand of them are less than 2^-22 of
the largest, where float32 rounds every partial sum to 2^-24."""

GATHER_BELOW = 0.9
"""Share of rows to go through up to which it pays to gather them."""


@contextmanager
def denormals_as_zero() -> Iterator[None]:
    """Within it denormal numbers count as zero; it is a state of the thread, which is put back."""
    import torch

    before = not torch.tensor(1e-40) > 0.0
    torch.set_flush_denormal(True)
    try:
        yield
    finally:
        torch.set_flush_denormal(before)


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
        self.objectives, self.training, self.label = list(objectives), training, label
        self.seeds = list(seeds)
        count = len(self.seeds)
        start = torch.stack([base.pretrained(seed) for seed in self.seeds])
        self.stack = MlpStack(start.repeat(len(self.objectives), 1), base.sizes)
        self._rates = [s.learning_rate for s in settings for _ in self.seeds]
        self._limits = torch.tensor([s.max_grad_norm for s in settings]).repeat_interleave(count)
        self.optimizer = optimizers[common.optimizer](
            self._parameter_groups(), lr=common.learning_rate, weight_decay=common.weight_decay, fused=True
        )
        # A variant whose reference follows its policy has references of its own, one a seed; the others have the base.
        self.decays = [float(getattr(o.parameters, "reference_decay", 1.0)) for o in self.objectives]
        moving = [v for v, decay in enumerate(self.decays) if decay < 1.0]
        self.reference = MlpStack(start.repeat(1 + len(moving), 1), base.sizes)
        self.reference_of = [
            (1 + moving.index(v) if v in moving else 0) * count + s
            for v in range(len(self.objectives))
            for s in range(count)
        ]
        self.groups = joint_groups(self.objectives, count, common.batch_size)
        self.losers = any(group.losers for group in self.groups)
        self.probe = HeldoutProbe(heldout, common.heldout_pairs, MlpStack(start, base.sizes))
        self.step = self.resumed_from = 0
        models = range(len(self.stack))
        self.rows: list[list[dict[str, Any]]] = [[] for _ in models]
        self.drift = [[self.probe.measure(self.stack, m, m % count, 0)] for m in models]
        # Buffers serve one group after the other.
        self._kept: dict[int, list[Activations]] = {}
        for group in self.groups:
            rows = (2 if group.losers else 1) * common.batch_size
            kept = self._kept.setdefault(rows, [])
            kept += [Activations(rows, base.sizes, start.dtype) for _ in range(len(group) - len(kept))]

    def _parameter_groups(self) -> list[dict[str, Any]]:
        """Models in a row with one learning rate, as one parameter."""
        import torch

        groups, start = [], 0
        for rate, same in groupby(self._rates):
            stop = start + len(list(same))
            parameter = torch.nn.Parameter(self.stack.parameters[start:stop], requires_grad=False)
            parameter.grad = self.stack.gradient[start:stop]
            groups.append({"params": [parameter], "lr": rate})
            start = stop
        return groups

    def resume(self, state: dict[str, Any] | None) -> None:
        """Take up a saved state; ``None`` starts from the base."""
        if state is None:
            return
        self.stack.parameters.copy_(state["parameters"])
        self.reference.parameters.copy_(state["reference"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.step = self.resumed_from = state["step"]
        self.rows, self.drift = state["rows"], state["drift"]

    def state(self) -> dict[str, Any]:
        """Everything that :meth:`resume` needs."""
        return {
            "parameters": self.stack.parameters,
            "reference": self.reference.parameters,
            "optimizer": self.optimizer.state_dict(),
            "step": self.step,
            "rows": self.rows,
            "drift": self.drift,
        }

    # Where a preference is met, its gradient is a denormal number, on which a processor is 100 times slower.
    @denormals_as_zero()
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
                    for model, drift in enumerate(self.drift):
                        drift.append(self.probe.measure(self.stack, model, model % len(self.seeds), self.step))
                if state_folder is not None and (self.step % settings.checkpoint_every == 0 or last):
                    checkpoint.save(state_folder, self.step, self.state())
                bar.update()

    def one_step(self, *, logged: bool) -> list[dict[str, Any]]:
        """Step number :attr:`step`; one row of contract ``training`` a model if ``logged``."""
        count, rows = self.settings.batch_size, []
        batch = self.training.drawn(self.seeds, self.step, count, losers=self.losers)
        base: dict[int, tuple[Tensor, Tensor]] = {}
        for group in self.groups:
            predictions = self._predictions(group, batch, base)
            try:
                gradient = group.gradient(predictions).flatten(1, 2)
            except InputError as error:
                finite = predictions.policy.movedim(2, 0).flatten(1).isfinite().all(1)
                self._refuse(list(group), finite, f"prediction ({error})")
                raise
            sizes = gradient.abs().amax(2)
            self._refuse(list(group), sizes.amax(1).isfinite(), "gradient of a prediction")
            inputs = self._inputs(group, batch)
            every = zip(group, gradient.unbind(), rows_to_take(sizes), strict=True)
            for place, (model, own, taken) in enumerate(every):
                seen = inputs[model % len(self.seeds)]
                self.stack.backward(model, seen, self._kept[len(seen)][place], own, taken)
            rows += self._log_rows(group, predictions) if logged else []
        norms = self._clip()
        warmth = min(1.0, self.step / max(self.settings.warmup_steps, 1))
        for model, row in enumerate(rows):
            row |= {"grad_norm": float(norms[model]), "learning_rate": warmth * self._rates[model]}
        for parameters, (rate, _) in zip(self.optimizer.param_groups, groupby(self._rates), strict=True):
            parameters["lr"] = warmth * rate
        self.optimizer.step()
        self._move_references()
        return rows

    def _predictions(self, group: JointGroup, batch: Batch, base: dict[int, tuple[Tensor, Tensor]]) -> Predictions:
        """Forward passes of a group; ``base`` collects what the base's models predict, for the groups after it."""
        import torch

        seeds, pairs, branches = len(self.seeds), self.settings.batch_size, 2 if group.losers else 1
        inputs = self._inputs(group, batch)
        policy = torch.empty(len(group), branches * pairs, 3)
        references = []
        for place, (model, out) in enumerate(zip(group, policy.unbind(), strict=True)):
            seen = inputs[model % seeds]
            self.stack.forward(model, seen, self._kept[len(seen)][place], out)
            reference = self.reference_of[model]
            predicted = base.get(reference)
            if predicted is None:
                # The base's predictions serve groups with losers and without.
                seen = batch.inputs[model % seeds] if reference < seeds else seen
                rows = self.reference.predict(reference, seen)
                error, _ = prediction_errors(rows, batch.target[model % seeds, : len(seen)])
                predicted = _coordinates(rows[None], pairs), error.view(-1, 1, pairs)
                if reference < seeds:
                    base[reference] = predicted
            references.append([part[:branches] for part in predicted])
        variants = len(group) // seeds
        targets = _coordinates(batch.target, pairs)[:branches]
        values, errors = zip(*references, strict=True)
        return Predictions(
            policy=_coordinates(policy, pairs),
            reference=torch.cat(values, dim=2),
            target=targets.repeat(1, 1, variants, 1),
            reference_error=torch.cat(errors, dim=1),
            time=batch.time.repeat(variants, 1),
        )

    def _inputs(self, group: JointGroup, batch: Batch) -> tuple[Tensor, ...]:
        """What the models of a group see, (2·B or B, 4) a seed."""
        rows = (2 if group.losers else 1) * self.settings.batch_size
        return batch.inputs[:, :rows].unbind()

    def _clip(self) -> Tensor:
        """Clip each model's gradient to its limit; the norms before, (M,)."""
        import torch

        norms: Tensor = self.stack.gradient.norm(dim=1)
        self._refuse(range(len(norms)), torch.isfinite(norms), "gradient norm")
        self.stack.gradient.mul_((self._limits / (norms + 1e-6)).clamp(max=1.0)[:, None])
        return norms

    def _refuse(self, models: Sequence[int], finite: Tensor, what: str) -> None:
        """Stop at the first of some models for which ``finite`` is false."""
        if finite.all():
            return
        wrong, seeds = models[int(finite.logical_not().nonzero()[0])], len(self.seeds)
        raise InputError(
            f"{self.label}: {what} of model {wrong} (variant {wrong // seeds}, seed {self.seeds[wrong % seeds]}) is "
            f"not finite at step {self.step}; lower training.learning_rate or beta"
        )

    def _move_references(self) -> None:
        """Exponential moving average of the policy, for variants whose reference follows it."""
        seeds = len(self.seeds)
        for variant, decay in enumerate(self.decays):
            if decay < 1.0:
                first = self.reference_of[variant * seeds]
                policy = self.stack.parameters[variant * seeds : (variant + 1) * seeds]
                self.reference.parameters[first : first + seeds].lerp_(policy, 1.0 - decay)

    def _log_rows(self, group: JointGroup, predictions: Predictions) -> list[dict[str, Any]]:
        """What the objective itself says of every model of a group."""
        rows = []
        for place, objective in enumerate(group.own):
            out = objective(predictions.of(slice(place, place + 1)).pairs())
            drifts = ("winner_drift", "loser_drift", "margin", "implicit_accuracy")
            keys = (*drifts, "safe_scale_mean", "safe_scale_min", "residual_cosine")
            loss = float(out.loss)
            if not math.isfinite(loss):
                raise InputError(
                    f"{self.label}: loss {loss} is not finite at step {self.step}; lower the learning rate"
                )
            values = {key: float(out.metrics[key]) if key in out.metrics else None for key in keys}
            rows.append({"step": self.step, "loss": loss, **values})
        return rows


def rows_to_take(sizes: Tensor) -> list[Tensor | None]:
    """Rows that a model's backward pass goes through, as indices (n,), by what its gradients say.

    Args:
        sizes: of the gradient of each prediction, (M, N), at least 0.

    Returns:
        One a model, ``None`` where all rows may as well be taken.
    """
    used = sizes > NEGLIGIBLE * sizes.amax(1, keepdim=True)
    counts = used.sum(1).tolist()
    few = GATHER_BELOW * sizes.shape[1]
    return [
        own.nonzero().squeeze(1) if count <= few else None for own, count in zip(used.unbind(), counts, strict=True)
    ]


def _coordinates(values: Tensor, pairs: int) -> Tensor:
    """From (M, branches · B, 3), winners before losers, to (branches, 3, M, B), contiguous."""
    models, rows, coordinates = values.shape
    return values.view(models, rows // pairs, pairs, coordinates).permute(1, 3, 0, 2).contiguous()
