"""The training loop: pairs in, denoiser and log out.

Everything random in step s of seed k is drawn from generators seeded with (k, s), and the order of the data
from (k, epoch): a resumed run needs no random state and is the same run to the last bit.
"""

from __future__ import annotations

import math
import resource
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from artifacts import layout
from artifacts.atomic import file_sha256, json_sha256, replaced_directory, tree_sha256, write_json
from artifacts.contracts import write_table
from artifacts.errors import InputError
from artifacts.progress import progress
from artifacts.provenance import describe
from sdpo import checkpoint

if TYPE_CHECKING:
    import torch

    from sdpo.bases import Base
    from sdpo.objectives import Objective
    from sdpo.pairs.cache import PairTensors

# Domains of the random streams: two draws must never share a seed.
_ORDER, _STEP, _HELDOUT = 1, 2, 3
_HELDOUT_BATCH = 128


@dataclass(frozen=True)
class TrainingSettings:
    """Hyperparameters of the loop; one optimizer step sees ``batch_size`` pairs.

    Attributes:
        learning_rate: after ``warmup_steps`` of linear warm-up it stays constant.
        optimizer: ``adamw`` or ``adam``.
        max_grad_norm: L2 norm to which gradients are clipped.
        empty_prompt_share: share of pairs whose prompt is replaced by the empty one.
        log_every, checkpoint_every, drift_every: in optimizer steps.
        heldout_pairs: at most so many held-out pairs measure the drift.
        threads: torch threads; results are bit-equal only for equal numbers.
    """

    steps: int
    batch_size: int
    learning_rate: float
    warmup_steps: int
    optimizer: str
    weight_decay: float
    max_grad_norm: float
    empty_prompt_share: float
    log_every: int
    checkpoint_every: int
    drift_every: int
    heldout_pairs: int
    threads: int = 1


def train(spec: Mapping[str, Any]) -> None:
    """Train one variant for each of its seeds.

    Args:
        spec: ``base`` (``name``, ``family``, ``path``), ``pairs`` (folder of the cache), ``variant``, ``objective``
            (``name``, ``parameters``, ``safeguard``), ``training`` (:class:`TrainingSettings`), ``root``, ``seeds``.

    Raises:
        InputError: bad settings, or damaged input files.
    """
    import torch

    from sdpo import objectives
    from sdpo.bases import open_base
    from sdpo.pairs import cache

    settings = TrainingSettings(**spec["training"])
    torch.set_num_threads(settings.threads)
    asked = spec["objective"]
    objective = objectives.create(asked["name"], safeguard=asked["safeguard"], **asked["parameters"])
    base_path, pairs = Path(spec["base"]["path"]), Path(spec["pairs"])
    base = open_base(spec["base"]["family"], base_path)
    training, heldout = cache.load(pairs, "train"), cache.load(pairs, "heldout")
    inputs = {str(base_path): tree_sha256(base_path), str(pairs / "cache.json"): file_sha256(pairs / "cache.json")}
    shaping = {key: spec[key] for key in ("stage_version", "base", "variant", "objective", "training")}
    probe = HeldoutProbe(base, heldout, settings.heldout_pairs)
    for seed in spec["seeds"]:
        started = time.time()
        name = layout.model_name(spec["base"]["name"], spec["variant"], seed)
        digest = json_sha256({**shaping, "pairs": list(inputs.values()), "seed": seed})
        state = layout.checkpoints(spec["root"], name, digest)
        with checkpoint.owned(state):
            run = TrainingRun(base, objective, settings, training, probe, seed, label=f"{spec['variant']} seed {seed}")
            run.resume(checkpoint.load_newest(state))
            run.go(state)
            provenance = describe(
                stage="train",
                spec={**shaping, "pairs": str(pairs)},
                inputs=inputs,
                started=started,
                seed=seed,
                dtype="float32",
                resumed_from_step=run.resumed_from,
            )
            _export(layout.model(spec["root"], name), base, run, provenance)
            for file in state.glob("step-*.pt"):
                file.unlink()


def _export(out: Path, base: Base, run: TrainingRun, provenance: dict[str, Any]) -> None:
    import pandas as pd

    with replaced_directory(out) as folder:
        base.save_denoiser(run.policy, folder)
        write_table(folder / "training.parquet", pd.DataFrame(run.rows), "training")
        write_table(folder / "drift.parquet", pd.DataFrame(run.drift), "drift")
        weights = {p.relative_to(folder).as_posix(): file_sha256(p) for p in sorted(folder.rglob("*.safetensors"))}
        write_json(folder / "provenance.json", {**provenance, "outputs": weights})


def stream(*key: int) -> torch.Generator:
    """A CPU generator seeded from a tuple of integers, independent of all other tuples."""
    import torch

    words = np.random.SeedSequence(key).generate_state(2, np.uint32)
    return torch.Generator().manual_seed((int(words[0]) << 31) ^ int(words[1]))


def chosen_pairs(count: int, batch_size: int, seed: int, step: int) -> list[int]:
    """Indices of the pairs of step ``step`` (from 1): epochs of shuffled pairs, cut into batches without a gap."""
    import torch

    first = (step - 1) * batch_size
    positions = range(first, first + batch_size)
    orders = {
        epoch: torch.randperm(count, generator=stream(_ORDER, seed, epoch)).tolist()
        for epoch in {position // count for position in positions}
    }
    return [orders[position // count][position % count] for position in positions]


class HeldoutProbe:
    """Drift on held-out pairs, at fixed noise and timesteps that are the same for every model of a pair set.

    Timesteps are spread evenly over the schedule. The reference's errors are computed once.
    """

    def __init__(self, base: Base, pairs: PairTensors, limit: int) -> None:
        import torch

        count = min(limit, len(pairs))
        self.base = base
        self.winner, self.loser = pairs.winner[:count], pairs.loser[:count]
        self.embeddings = pairs.embeddings[pairs.prompt_index[:count]]
        # Shuffled: pair i must not get the i-th timestep from below.
        self.timesteps = base.spread_timesteps(count)[torch.randperm(count, generator=stream(_HELDOUT, 0))]
        self.noise = torch.randn(self.winner.shape, generator=stream(_HELDOUT, 1))
        self.reference = self._errors(base.load_denoiser().eval().requires_grad_(False))

    def _errors(self, denoiser: torch.nn.Module) -> torch.Tensor:
        """Denoising errors (2, N): winners, losers."""
        import torch

        from sdpo.noising import noised, target

        alpha, sigma = self.base.coefficients(self.timesteps)
        errors = []
        with torch.inference_mode():
            for latents in (self.winner, self.loser):
                parts = []
                for start in range(0, len(latents), _HELDOUT_BATCH):
                    rows = slice(start, start + _HELDOUT_BATCH)
                    process = latents[rows], self.noise[rows], alpha[rows], sigma[rows]
                    predicted = self.base.predict(
                        denoiser, noised(*process), self.timesteps[rows], self.embeddings[rows]
                    )
                    residual = predicted - target(self.base.parametrisation, *process)
                    parts.append(residual.square().flatten(1).mean(1))
                errors.append(torch.cat(parts))
        return torch.stack(errors)

    def measure(self, denoiser: torch.nn.Module, step: int) -> dict[str, float]:
        """One row of contract ``drift``."""
        winner, loser = (self._errors(denoiser) - self.reference).double()
        margin = loser - winner
        return {
            "step": step,
            "winner_drift": float(winner.mean()),
            "loser_drift": float(loser.mean()),
            "margin": float(margin.mean()),
            "implicit_accuracy": float(((margin > 0).double() + (margin == 0).double() / 2).mean()),
            "pairs": len(margin),
        }


class TrainingRun:
    """One model in training: policy, frozen reference, optimizer, and the log so far."""

    def __init__(
        self,
        base: Base,
        objective: Objective,
        settings: TrainingSettings,
        pairs: PairTensors,
        probe: HeldoutProbe,
        seed: int,
        *,
        label: str,
    ) -> None:
        import torch

        optimizers = {"adamw": torch.optim.AdamW, "adam": torch.optim.Adam}
        if settings.optimizer not in optimizers:
            raise InputError(f"training.optimizer is '{settings.optimizer}', expected one of {', '.join(optimizers)}")
        self.base, self.objective, self.settings = base, objective, settings
        self.pairs, self.probe, self.seed, self.label = pairs, probe, seed, label
        self.policy = base.load_denoiser().train()
        self.reference = base.load_denoiser().eval().requires_grad_(False)
        self.optimizer = optimizers[settings.optimizer](
            self.policy.parameters(), lr=settings.learning_rate, weight_decay=settings.weight_decay
        )
        self.step = 0
        self.resumed_from = 0
        self.rows: list[dict[str, Any]] = []
        self.drift: list[dict[str, float]] = [probe.measure(self.policy, 0)]

    def resume(self, state: dict[str, Any] | None) -> None:
        """Take up a saved state; ``None`` starts from the base."""
        if state is None:
            return
        self.policy.load_state_dict(state["policy"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.step = self.resumed_from = state["step"]
        self.rows, self.drift = state["rows"], state["drift"]
        print(f"{self.label}: resumed at step {self.step} of {self.settings.steps}", file=sys.stderr)

    def state(self) -> dict[str, Any]:
        """Everything that :meth:`resume` needs."""
        return {
            "policy": self.policy.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "step": self.step,
            "rows": self.rows,
            "drift": self.drift,
        }

    def go(self, state_folder: Path) -> None:
        """Train to the end, logging, measuring drift and saving state on the way."""
        settings = self.settings
        clock, since = time.perf_counter(), self.step
        with progress(total=settings.steps, initial=self.step, label=self.label, unit="step") as bar:
            while self.step < settings.steps:
                self.step += 1
                row = self._one_step(self.step)
                last = self.step == settings.steps
                if self.step % settings.log_every == 0 or last:
                    elapsed = max(time.perf_counter() - clock, 1e-9)
                    row["samples_per_second"] = (self.step - since) * settings.batch_size / elapsed
                    row["peak_memory_bytes"] = _peak_memory_bytes()
                    self.rows.append(row)
                    shown = {"loss": f"{row['loss']:.4f}", "winner_drift": f"{row['winner_drift']:+.4f}"}
                    bar.set_postfix(shown, refresh=False)
                    clock, since = time.perf_counter(), self.step
                if self.step % settings.drift_every == 0 or last:
                    self.drift.append(self.probe.measure(self.policy, self.step))
                if self.step % settings.checkpoint_every == 0 and not last:
                    checkpoint.save(state_folder, self.step, self.state())
                bar.update()

    def _one_step(self, step: int) -> dict[str, Any]:
        import torch

        from sdpo.noising import noised, target
        from sdpo.objectives import PairPrediction

        settings, pairs = self.settings, self.pairs
        rows = torch.tensor(chosen_pairs(len(pairs), settings.batch_size, self.seed, step))
        random = stream(_STEP, self.seed, step)
        # Both members of a pair share noise and timestep: only what differs between the images is compared.
        noise = torch.randn(pairs.winner[rows].shape, generator=random)
        timesteps = self.base.draw_timesteps(len(rows), random)
        alpha, sigma = self.base.coefficients(timesteps)
        empty = torch.rand(len(rows), generator=random) < settings.empty_prompt_share
        conditions = torch.where(empty[:, None, None], pairs.empty, pairs.embeddings[pairs.prompt_index[rows]])
        branches = [pairs.winner[rows], pairs.loser[rows]]
        noisy = torch.cat([noised(x, noise, alpha, sigma) for x in branches])
        targets = [target(self.base.parametrisation, x, noise, alpha, sigma) for x in branches]
        both_steps, both_conditions = torch.cat([timesteps] * 2), torch.cat([conditions] * 2)
        with torch.no_grad():
            reference = self.base.predict(self.reference, noisy, both_steps, both_conditions).chunk(2)
        policy = self.base.predict(self.policy, noisy, both_steps, both_conditions).chunk(2)
        out = self.objective(PairPrediction(policy[0], policy[1], reference[0], reference[1], targets[0], targets[1]))
        self.optimizer.zero_grad(set_to_none=True)
        out.loss.backward()
        norm = torch.nn.utils.clip_grad_norm_(self.policy.parameters(), settings.max_grad_norm)
        loss = float(out.loss.detach())
        if not (math.isfinite(loss) and math.isfinite(float(norm))):
            raise InputError(
                f"{self.label}: loss {loss} or gradient norm {float(norm)} is not finite at step {step}; "
                "lower training.learning_rate or the objective's beta"
            )
        rate = settings.learning_rate * min(1.0, step / max(settings.warmup_steps, 1))
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        self.optimizer.step()
        drifts = ("winner_drift", "loser_drift", "margin", "implicit_accuracy")
        keys = (*drifts, "safe_scale_mean", "safe_scale_min", "residual_cosine")
        return {
            "step": step,
            "loss": loss,
            **{key: float(out.metrics[key]) if key in out.metrics else None for key in keys},
            "grad_norm": float(norm),
            "learning_rate": rate,
        }


def _peak_memory_bytes() -> int:
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    # Linux counts kibibytes, macOS bytes.
    return peak if sys.platform == "darwin" else peak * 1024
