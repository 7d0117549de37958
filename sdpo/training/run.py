"""One model in training: steps, held-out drift, saved state.

All that is random comes from :mod:`sdpo.training.drawing` by seed and step, so a resumed run is the same run to the
last bit.
"""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

from artifacts.device import denormals_as_zeros
from artifacts.errors import InputError
from artifacts.progress import progress
from sdpo.safeguard import NotFiniteError
from sdpo.training import checkpoint, optimizers, precision, sharding
from sdpo.training.drawing import Drawn, draw, prefetched
from sdpo.training.gradients import PairGradients
from sdpo.training.micro_batches import micro_batches, parts_together
from sdpo.training.order import Order
from sdpo.training.policy import Policy
from sdpo.training.processes import Processes
from sdpo.training.run_log import Row, RunLog, Table, cut_back
from sdpo.training.state_writing import StateWriter
from sdpo.training.time_budget import StepDropped, StoppedEarly, TimeBudget

if TYPE_CHECKING:
    from sdpo.bases import Base
    from sdpo.objectives import Objective
    from sdpo.pairs.cache import Pairs
    from sdpo.training.heldout_drift import HeldoutProbe
    from sdpo.training.sample_images import SampleImages
    from sdpo.training.settings import TrainingSettings


class TrainingRun:
    """Policy, reference and optimizer of one model.

    Args:
        base: the policy starts from it.
        objective: loss and safeguard.
        settings: of the loop.
        pairs: of the training split.
        probe: measures the held-out drift.
        seed: of everything random.
        label: name on the progress line.
        device: ``cpu`` or ``cuda:0``.
        processes: those that train this model together.
        samples: draws images on the way; in every process where each holds a share of the model, else in the main one.
        stop: step at which it ends; the last of the settings by default, which shape the learning rate in any case.

    Raises:
        InputError: bad settings.
    """

    def __init__(
        self,
        base: Base,
        objective: Objective,
        settings: TrainingSettings,
        pairs: Pairs,
        probe: HeldoutProbe,
        seed: int,
        *,
        label: str,
        device: str = "cpu",
        processes: Processes | None = None,
        samples: SampleImages | None = None,
        stop: int | None = None,
    ) -> None:
        self.base, self.settings, self.pairs, self.probe = base, settings, pairs, probe
        self.seed, self.label, self.device, self.samples = seed, label, device, samples
        self.processes = processes or Processes()
        sharded = self.processes.sharded
        computing = precision.create(settings, device, sharded=sharded)
        decay = float(getattr(objective.parameters, "reference_decay", 1.0))
        self.policy = Policy(base, settings, computing, reference_decay=decay, seed=seed, sharded=sharded)
        self.gradients = PairGradients(
            base, objective, self.policy, computing, self.processes, values=math.prod(pairs.latent_shape)
        )
        self.optimizer = optimizers.create(
            settings.optimizer,
            self.policy.trained,
            learning_rate=optimizers.peak(settings),
            weight_decay=settings.weight_decay,
        )
        several = len(pairs.shapes.unique()) > 1
        parts = micro_batches(settings, objective, self.processes.count, sharded=sharded, several_shapes=several)
        self._order = Order(pairs.shapes, settings.micro_batch_size or settings.batch_size, seed)
        granularity = None if objective.safeguard is None else objective.safeguard.granularity
        together = parts_together(granularity, len(parts[0]))
        self._parts = self.processes.share(parts, together=together)
        self._turns = -(-len(parts) // together // self.processes.count) * together
        self.stop = settings.steps if stop is None else stop
        self.step = 0
        self.resumed_from = 0

    def resume(self, state: dict[str, Any] | None) -> None:
        """Take up a saved state; ``None`` starts from the base."""
        if state is None:
            return
        self.policy.resume(state)
        optimizers.take_up(self.optimizer, state["optimizer"])
        self.step = self.resumed_from = state["step"]
        if self.processes.main:
            print(f"{self.label}: resumed at step {self.step} of {self.stop}", file=sys.stderr)

    def state(self) -> dict[str, Any]:
        """Everything that :meth:`resume` needs."""
        return {**self.policy.state(), "optimizer": self.optimizer.state_dict(), "step": self.step}

    @denormals_as_zeros()
    def go(
        self,
        state_folder: Path,
        budget: TimeBudget | None = None,
        listener: Callable[[int, Row], None] | None = None,
        export: Callable[[int], None] | None = None,
    ) -> None:
        """Train to the end, logging, measuring drift, saving state and exporting on the way.

        Args:
            state_folder: where states and log lie, and the batch of a step that is not finite.
            budget: when to leave; never by default.
            listener: is given every row of the log, as :class:`sdpo.training.run_log.RunLog` says.
            export: writes the model of a step, those of the settings' ``exports`` that come before the end; called in
                every process.

        Raises:
            InputError: a step is not finite.
            StoppedEarly: the budget is used up; the state is saved.
        """
        settings, budget = self.settings, budget or TimeBudget()
        clock, since, saved = time.perf_counter(), self.step, self.step
        slowest_step = 0.0
        shown = self.label if self.processes.main else None
        steps = range(self.step + 1, self.stop + 1)
        with (
            self._opened_log(state_folder, listener) if self.processes.main else nullcontext() as log,
            StateWriter() as writer,
            budget.heeding_sigterm(),
            progress(total=self.stop, initial=self.step, label=shown, unit="step") as bar,
        ):
            if not self.step:
                self._note(log, "drift", self.measured_drift())
            began = time.perf_counter()
            for drawn in prefetched(self.drawn, steps, ahead=self.device != "cpu"):
                try:
                    row = self.take_step(drawn, state_folder, budget)
                except StepDropped:
                    if saved < self.step:
                        self._save(state_folder, writer, log)
                    self._settle(writer)
                    raise self._left(budget.reason_to_leave(0.0)) from None
                last = self.step == self.stop
                if self._is_due("training", self.step):
                    elapsed = max(time.perf_counter() - clock, 1e-9)
                    row["samples_per_second"] = (self.step - since) * settings.batch_size / elapsed
                    row["peak_memory_bytes"] = precision.peak_memory_bytes(self.device)
                    self._note(log, "training", row)
                    bar.set_postfix(_shown(row), refresh=False)
                    clock, since = time.perf_counter(), self.step
                if self._is_due("drift", self.step):
                    self._note(log, "drift", self.measured_drift())
                if self.samples is not None and (
                    self.step % settings.sample_every == 0 or self._is_exported(self.step)
                ):
                    with self.policy.as_exported() as denoiser:
                        self.samples.draw(denoiser, self.step)
                if export is not None and self.step in settings.exports and not last:
                    # Before the state: who goes on from that has passed this step.
                    export(self.step)
                    self.processes.wait()
                slowest_step = max(slowest_step, time.perf_counter() - began)
                reason = None if last else budget.reason_to_leave(slowest_step + 2 * writer.longest)
                # Where one process has to leave, all do, after the same step.
                leaving = self.processes.any(reason is not None)
                if self.step % settings.checkpoint_every == 0 or last or leaving:
                    self._save(state_folder, writer, log)
                    saved = self.step
                bar.update()
                began = time.perf_counter()
                if last or leaving:
                    self._settle(writer)
                if leaving:
                    raise self._left(reason)

    def _opened_log(self, folder: Path, listener: Callable[[int, Row], None] | None) -> RunLog:
        """The log, cut back to this step; no state may stay that is ahead of it."""
        checkpoint.drop_after(folder, self.step)
        # Without a state the drift of the start is measured again.
        cut_back(folder, self.step or -1, self._is_due)
        return RunLog(folder, listener)

    def _is_due(self, table: Table, step: int) -> bool:
        """Whether a table has a row of this step."""
        every = {"training": self.settings.log_every, "drift": self.settings.drift_every}[table]
        return step % every == 0 or self._is_exported(step)

    def _is_exported(self, step: int) -> bool:
        return step == self.stop or step in self.settings.exports

    @staticmethod
    def _note(log: RunLog | None, table: Table, row: Row) -> None:
        if log is not None:
            log.add(table, row)

    def _left(self, reason: str | None) -> StoppedEarly:
        return StoppedEarly(
            f"{self.label}: left after step {self.step} of {self.stop}, its state saved"
            f"{f': {reason}' if reason else ''}; run it again to go on"
        )

    def _save(self, folder: Path, writer: StateWriter, log: RunLog | None) -> None:
        if log is not None:
            log.sync()
            writer.write(folder, self.step, self.state(), kept=self.settings.kept_checkpoints)
        elif self.processes.sharded:
            sharding.put_together(self.state())

    def _settle(self, writer: StateWriter) -> None:
        """Until the last state is whole, no process may leave."""
        writer.finish()
        self.processes.wait()

    def measured_drift(self) -> dict[str, float]:
        """Held-out drift now: one row of contract ``drift``, the same in every process."""
        with self.policy.as_exported() as denoiser:
            return self.probe.measure(denoiser, self.step)

    def drawn(self, step: int) -> list[Drawn]:
        """The share of this process in a step, pairs of each shape apart."""
        return draw(
            self.base,
            self.pairs,
            self._order.rows(self.settings.batch_size, step),
            empty_prompt_share=self.settings.empty_prompt_share,
            seed=self.seed,
            density=self.settings.timesteps,
            step=step,
            part=range(self._parts[0].start, self._parts[-1].stop),
        )

    def take_step(self, drawn: Sequence[Drawn], state_folder: Path, budget: TimeBudget | None = None) -> dict[str, Any]:
        """The next optimizer step.

        Args:
            drawn: of that step, from :meth:`drawn`.
            state_folder: takes the pairs if the step is not finite.
            budget: says between micro-batches whether SIGTERM has come.

        Returns:
            Its row of the log, without what the clock says; where no row is due, without what is noted only there.

        Raises:
            InputError: loss or gradient is not finite; the weights are as they were.
            StepDropped: SIGTERM has come, here or in another process; the weights are as they were.
        """
        import torch

        settings, step = self.settings, self.step + 1
        self.optimizer.zero_grad(set_to_none=True)
        loss = norm = math.nan
        try:
            loss, metrics = self.gradients.fill(
                Drawn.micro_batches(drawn, len(self._parts[0])),
                settings.batch_size,
                turns=self._turns,
                leaving=lambda: budget is not None and budget.asked_to_end,
                logged=self._is_due("training", step),
            )
            total = torch.nn.utils.clip_grad_norm_(self.policy.trained, settings.max_grad_norm)
            norm = float(sharding.whole(total))
            if not (math.isfinite(loss) and math.isfinite(norm)):
                raise NotFiniteError(f"loss {loss} or gradient norm {norm} is not finite")
        except InputError as error:
            ids = [x.rows if self.pairs.ids is None else self.pairs.ids[x.rows] for x in drawn]
            about = {"label": self.label, "seed": self.seed, "step": step, "problem": str(error)}
            file = checkpoint.save_batch(state_folder, drawn, ids, process=self.processes.index, **about)
            # What else may be wrong with a step is said by whoever found it, and no rate is too high for it.
            lower = (
                "lower training.learning_rate or the objective's beta; " if isinstance(error, NotFiniteError) else ""
            )
            raise InputError(
                f"{self.label}: {error} at step {step}; {lower}the pairs of this step are in {file}"
            ) from error
        rate = optimizers.learning_rate(settings, step)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        self.optimizer.step()
        self.policy.follow(step)
        self.step = step
        return {"step": step, "loss": loss, **metrics, "grad_norm": norm, "learning_rate": rate}


def _shown(row: dict[str, Any]) -> dict[str, str]:
    """What the progress line says of the last logged step; the bar itself adds steps a second and the time left."""
    return {
        "loss": f"{row['loss']:.4f}",
        "winner_drift": f"{row['winner_drift']:+.4f}",
        "pairs/s": f"{row['samples_per_second']:.3g}",
        "memory": f"{row['peak_memory_bytes'] / 1e9:.2f}GB",
    }
