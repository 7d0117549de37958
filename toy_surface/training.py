"""Training of many small models at once: all variants and seeds of a job in one stack.

Every model is trained as if it were alone. Models of one seed see the same pairs, noise and times, drawn in step s
of seed k from a generator seeded with (k, s), whatever else is in the job.
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any

from artifacts import layout
from artifacts.atomic import file_sha256, json_sha256, replaced_directory, tree_sha256, write_json
from artifacts.contracts import write_table
from artifacts.errors import InputError
from artifacts.progress import progress
from artifacts.provenance import describe
from sdpo import checkpoint
from sdpo.drawing import stream
from sdpo.precision import peak_memory_bytes
from sdpo.training_settings import TrainingSettings
from toy_surface.base import WEIGHTS, SurfaceBase
from toy_surface.joint_objectives import Predictions, joint_groups
from toy_surface.mlp_stack import Activations, MlpStack

if TYPE_CHECKING:
    from torch import Tensor

    from sdpo.objectives import Objective
    from sdpo.pairs.cache import Pairs

# Domains of the random streams, apart from those of the trainer.
_STEP, _HELDOUT = 11, 12
NOT_HERE = (
    *("lora", "ema_decay", "precision", "channels_last", "compile", "gradient_checkpointing", "sample_every"),
    *("schedule", "scale_learning_rate"),
)
"""Settings of the common trainer that these models have no use for."""


def train_together(specs: Sequence[Mapping[str, Any]]) -> None:
    """Train several variants, each for all its seeds.

    Args:
        specs: specs of ``sdpo train``; those that follow one another with equal settings share a stack.

    Raises:
        InputError: bad settings or damaged input files.
    """
    groups = groupby(specs, key=lambda s: json_sha256([s[k] for k in ("base", "pairs", "training", "seeds")]))
    states = [_train_stack(list(group)) for _, group in groups]
    # A workflow deletes all outputs of a job that was killed: until the last stack is done, finished ones keep their
    # state, from which they are written again.
    for state in states:
        checkpoint.remove(state)


def _train_stack(specs: Sequence[Mapping[str, Any]]) -> Path:
    """Train one stack and write its models; the folder of its state."""
    import torch

    from sdpo import objectives
    from sdpo.pairs import cache

    first = specs[0]
    settings = TrainingSettings(**first["training"])
    settings.refuse("base family 'toy_surface'", *NOT_HERE)
    torch.set_num_threads(settings.threads)
    base_path, pairs = Path(first["base"]["path"]), Path(first["pairs"])
    base = SurfaceBase(base_path)
    asked = [spec["objective"] for spec in specs]
    made = [objectives.create(a["name"], safeguard=a["safeguard"], **a["parameters"]) for a in asked]
    points = [Points.of(cache.load(pairs, split)) for split in ("train", "heldout")]
    inputs = {str(base_path): tree_sha256(base_path), str(pairs): cache.content_sha256(pairs)}
    keys = ("stage_version", "base", "variant", "objective", "training")
    shaping = [{key: spec[key] for key in keys} for spec in specs]
    digest = json_sha256([shaping, list(inputs.values()), list(first["seeds"])])
    state = layout.checkpoints(first["root"], f"{first['base']['name']}/{first['variant']}/together", digest)
    started = time.time()
    with checkpoint.owned(state):
        names = [spec["variant"] for spec in specs]
        run = StackRun(base, made, settings, points[0], points[1], first["seeds"], label=_label(names))
        run.resume(checkpoint.load_newest(state))
        run.go(state)
        for model, (variant, seed) in enumerate((v, s) for v in range(len(specs)) for s in first["seeds"]):
            provenance = describe(
                stage="train",
                spec={**shaping[variant], "pairs": str(pairs)},
                inputs=inputs,
                started=started,
                seed=seed,
                dtype="float32",
                resumed_from_step=run.resumed_from,
                trained_together=len(run.stack),
            )
            _export(layout.model(first["root"], layout.model_name(base_name(first), names[variant], seed)), run, model,
                    provenance)  # fmt: skip
    return state


def base_name(spec: Mapping[str, Any]) -> str:
    """Name of the base of a spec."""
    name: str = spec["base"]["name"]
    return name


def _label(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{names[0]} to {names[-1]}"


def _export(out: Path, run: StackRun, model: int, provenance: dict[str, Any]) -> None:
    import pandas as pd
    from safetensors.torch import save_file

    with replaced_directory(out) as folder:
        save_file({"parameters": run.stack.parameters[model].clone()}, folder / WEIGHTS)
        write_table(folder / "training.parquet", pd.DataFrame(run.rows[model]), "training")
        write_table(folder / "drift.parquet", pd.DataFrame(run.drift[model]), "drift")
        write_json(folder / "provenance.json", {**provenance, "outputs": {WEIGHTS: file_sha256(folder / WEIGHTS)}})


@dataclass(frozen=True)
class Points:
    """Pairs of points: winners and losers, (N, 3) each."""

    winner: Tensor
    loser: Tensor

    @classmethod
    def of(cls, pairs: Pairs) -> Points:
        """All pairs of points of a pair cache, whose latents are clouds (clouds, 3, points, 1)."""
        import torch

        rows = torch.arange(len(pairs))
        clouds = (side.latents.mean for side in (pairs.winners(rows), pairs.losers(rows)))
        return cls(*(x.squeeze(-1).transpose(1, 2).reshape(-1, 3).contiguous() for x in clouds))

    def __len__(self) -> int:
        return len(self.winner)


class Batch:
    """The pairs of one step of one seed: inputs and targets, (branches · B, 4 and 3), winners before losers."""

    def __init__(self, points: Points, rows: Tensor, noise: Tensor, times: Tensor, *, losers: bool) -> None:
        import torch

        clean = torch.cat([points.winner[rows], points.loser[rows]] if losers else [points.winner[rows]])
        branches = 2 if losers else 1
        both, share = noise.repeat(branches, 1), times.repeat(branches)[:, None]
        # Members of a pair share noise and time; rectified flow: x_t = (1 − t)·x0 + t·ε, target ε − x0.
        self.inputs = torch.cat([(1.0 - share) * clean + share * both, share], dim=1)
        self.target = both - clean
        self.time = times


class StackRun:
    """V variants with S seeds each in training: model v·S + s is variant v with the s-th seed."""

    def __init__(
        self,
        base: SurfaceBase,
        objectives: Sequence[Objective],
        settings: TrainingSettings,
        training: Points,
        heldout: Points,
        seeds: Sequence[int],
        *,
        label: str | None,
    ) -> None:
        import torch

        optimizers = {"adamw": torch.optim.AdamW, "adam": torch.optim.Adam}
        if settings.optimizer not in optimizers:
            raise InputError(f"training.optimizer is '{settings.optimizer}', expected one of {', '.join(optimizers)}")
        self.objectives, self.settings, self.training, self.label = list(objectives), settings, training, label
        self.seeds = list(seeds)
        models, rows = len(self.objectives) * len(self.seeds), settings.batch_size
        self.losers = any(o.module.HAS_LOSER for o in self.objectives)
        start = torch.stack([base.pretrained(seed) for seed in self.seeds])
        self.stack = MlpStack(start.repeat(len(self.objectives), 1), base.sizes)
        self.parameter = torch.nn.Parameter(self.stack.parameters, requires_grad=False)
        self.parameter.grad = self.stack.gradient
        self.optimizer = optimizers[settings.optimizer](
            [self.parameter], lr=settings.learning_rate, weight_decay=settings.weight_decay, fused=True
        )
        # Reference s is the s-th seed's base; a variant whose reference follows its policy has one a seed of its own.
        self.decays = [float(getattr(o.parameters, "reference_decay", 1.0)) for o in self.objectives]
        moving = [v for v, decay in enumerate(self.decays) if decay < 1.0]
        self.reference = MlpStack(start.repeat(1 + len(moving), 1), base.sizes)
        self.reference_of = [
            (1 + moving.index(v) if v in moving else 0) * len(self.seeds) + s
            for v in range(len(self.objectives))
            for s in range(len(self.seeds))
        ]
        self.groups = joint_groups(self.objectives, len(self.seeds), rows)
        self.probe = HeldoutProbe(heldout, settings.heldout_pairs, MlpStack(start, base.sizes))
        self.step = self.resumed_from = 0
        self.rows: list[list[dict[str, Any]]] = [[] for _ in range(models)]
        self.drift = [[self.probe.measure(self.stack, m, m % len(self.seeds), 0)] for m in range(models)]
        branches = 2 if self.losers else 1
        self._kept = [Activations(branches * rows, base.sizes, start.dtype) for _ in range(models)]
        self._policy = start.new_empty(models, branches, rows, 3)

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

    def go(self, state_folder: Path | None) -> None:
        """Train to the end, logging, measuring drift and saving state on the way."""
        import torch

        # Where a preference is met, its gradient is a denormal number, on which a processor is 100 times slower.
        torch.set_flush_denormal(True)
        settings = self.settings
        clock, since = time.perf_counter(), self.step
        with progress(total=settings.steps, initial=self.step, label=self.label, unit="step") as bar:
            while self.step < settings.steps:
                self.step += 1
                last = self.step == settings.steps
                logged = self.step % settings.log_every == 0 or last
                rows = self._one_step(self.step, logged=logged)
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

    def batch(self, seed: int, step: int) -> Batch:
        """What seed ``seed`` sees in step ``step``."""
        import torch

        random, count = stream(_STEP, seed, step), self.settings.batch_size
        rows = torch.randint(len(self.training), (count,), generator=random)
        noise = torch.randn(count, 3, generator=random)
        times = torch.rand(count, generator=random)
        return Batch(self.training, rows, noise, times, losers=self.losers)

    def _one_step(self, step: int, *, logged: bool) -> list[dict[str, Any]]:
        import torch

        settings, seeds = self.settings, len(self.seeds)
        batches = [self.batch(seed, step) for seed in self.seeds]
        policy = self._policy
        for model in range(len(self.stack)):
            self.stack.forward(model, batches[model % seeds].inputs, self._kept[model], policy[model].flatten(0, 1))
        shape = policy.shape[1:]
        # Only references that a model of the stack looks at.
        looked_at = {
            r: self.reference.predict(r, batches[r % seeds].inputs).view(shape) for r in set(self.reference_of)
        }
        variants = len(self.objectives)
        predictions = Predictions(
            policy=policy,
            reference=torch.stack([looked_at[r] for r in self.reference_of]),
            target=torch.stack([b.target.view(shape) for b in batches]).repeat(variants, 1, 1, 1),
            time=torch.stack([b.time for b in batches]).repeat(variants, 1),
        )
        gradient = torch.cat([group.gradient(predictions.of(group.models)) for group in self.groups])
        for model in range(len(self.stack)):
            inputs = batches[model % seeds].inputs
            self.stack.backward(model, inputs, self._kept[model], gradient[model].flatten(0, 1))
        norms = self.stack.gradient.norm(dim=1)
        self._refuse(torch.isfinite(norms), "gradient norm", step)
        self.stack.gradient.mul_((settings.max_grad_norm / (norms + 1e-6)).clamp(max=1.0)[:, None])
        rate = settings.learning_rate * min(1.0, step / max(settings.warmup_steps, 1))
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        rows = self._log_rows(predictions, norms, rate, step) if logged else []
        self.optimizer.step()
        self._move_references()
        return rows

    def _refuse(self, finite: Tensor, what: str, step: int) -> None:
        """Stop at the first model for which ``finite``, (M,), is false."""
        if finite.all():
            return
        wrong, seeds = int(finite.logical_not().nonzero()[0]), len(self.seeds)
        raise InputError(
            f"{self.label}: {what} of model {wrong} (variant {wrong // seeds}, seed {self.seeds[wrong % seeds]}) is "
            f"not finite at step {step}; lower training.learning_rate or beta"
        )

    def _move_references(self) -> None:
        """Exponential moving average of the policy, for variants whose reference follows it."""
        seeds = len(self.seeds)
        for variant, decay in enumerate(self.decays):
            if decay < 1.0:
                first = self.reference_of[variant * seeds]
                policy = self.stack.parameters[variant * seeds : (variant + 1) * seeds]
                self.reference.parameters[first : first + seeds].lerp_(policy, 1.0 - decay)

    def _log_rows(self, predictions: Predictions, norms: Tensor, rate: float, step: int) -> list[dict[str, Any]]:
        """One row of contract ``training`` a model, from the objective's own metrics."""
        rows = []
        for model in range(len(self.stack)):
            out = self.objectives[model // len(self.seeds)](predictions.of(slice(model, model + 1)).pairs())
            drifts = ("winner_drift", "loser_drift", "margin", "implicit_accuracy")
            keys = (*drifts, "safe_scale_mean", "safe_scale_min", "residual_cosine")
            loss = float(out.loss)
            if not math.isfinite(loss):
                raise InputError(f"{self.label}: loss {loss} is not finite at step {step}; lower the learning rate")
            rows.append(
                {
                    "step": step,
                    "loss": loss,
                    **{key: float(out.metrics[key]) if key in out.metrics else None for key in keys},
                    "grad_norm": float(norms[model]),
                    "learning_rate": rate,
                }
            )
        return rows


class HeldoutProbe:
    """Drift on held-out pairs of points at fixed noise and evenly spread times, the same for every model."""

    def __init__(self, points: Points, limit: int, reference: MlpStack) -> None:
        import torch

        count = min(limit, len(points))
        times = (torch.arange(count) + 0.5) / count
        # Shuffled: pair i must not get the i-th time from below.
        times = times[torch.randperm(count, generator=stream(_HELDOUT, 0))]
        noise = torch.randn(count, 3, generator=stream(_HELDOUT, 1))
        self.batch = Batch(points, torch.arange(count), noise, times, losers=True)
        self.reference = [self._errors(reference, model) for model in range(len(reference))]

    def _errors(self, stack: MlpStack, model: int) -> Tensor:
        """Errors averaged over the three values, (2, N): winners, losers."""
        residual = stack.predict(model, self.batch.inputs) - self.batch.target
        return residual.square().mean(1).view(2, -1)

    def measure(self, stack: MlpStack, model: int, reference: int, step: int) -> dict[str, float]:
        """One row of contract ``drift``."""
        winner, loser = (self._errors(stack, model) - self.reference[reference]).double()
        margin = loser - winner
        return {
            "step": step,
            "winner_drift": float(winner.mean()),
            "loser_drift": float(loser.mean()),
            "margin": float(margin.mean()),
            "implicit_accuracy": float(((margin > 0).double() + (margin == 0).double() / 2).mean()),
            "pairs": len(margin),
        }
