"""What the loss and the safeguard cost beside a training step of the miniature's U-Net.

    python benchmarks/objective_cost.py [--steps 60] [--batch-size 16]

Steps with the safeguard on and off alternate in one process, so that both see the same machine; medians are compared.
Prints one JSON object; times are in milliseconds, shares are ratios of times measured in this run.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from sdpo import objectives
from sdpo.bases import open_base
from sdpo.objectives import PairPrediction
from sdpo.pairs import cache
from sdpo.training.heldout_drift import HeldoutProbe
from sdpo.training.job import TrainingRun, TrainingSettings

BASE = Path(__file__).parents[1] / "resources" / "miniature" / "base"
PARAMETERS: dict[str, dict[str, Any]] = {"diffusion_dpo": {"beta": 2000.0}, "dmpo": {"beta": 2000.0, "alpha": 0.01}}


def milliseconds(work: Callable[[], object]) -> float:
    """Wall time of one call."""
    start = time.perf_counter()
    work()
    return 1e3 * (time.perf_counter() - start)


def training_run(name: str, safeguard: dict[str, Any] | None, pairs: Path, batch_size: int) -> TrainingRun:
    """A training that is ready for its first step."""
    base = open_base("miniature", BASE)
    settings = TrainingSettings(
        steps=10**6,
        batch_size=batch_size,
        learning_rate=1e-5,
        warmup_steps=0,
        optimizer="adamw",
        weight_decay=0.01,
        max_grad_norm=1.0,
        empty_prompt_share=0.0,
        log_every=1,
        checkpoint_every=10**6,
        drift_every=10**6,
        heldout_pairs=1,
    )
    probe = HeldoutProbe(base, cache.load(pairs, "heldout"), 1)
    objective = objectives.create(name, safeguard=safeguard, **PARAMETERS[name])
    return TrainingRun(base, objective, settings, cache.load(pairs, "train"), probe, seed=0, label=name)


def objective_time(run: TrainingRun, repeats: int) -> float:
    """Median time of the loss, its metrics, the safeguard, and their gradient at the predictions."""
    pair = run.gradients.predicted(*run.drawn(1))
    assert pair.policy_loser is not None
    winner, loser = (x.detach().requires_grad_() for x in (pair.policy_winner, pair.policy_loser))
    leaf = PairPrediction(
        winner, loser, pair.reference_winner, pair.reference_loser, pair.target_winner, pair.target_loser
    )
    times = [
        milliseconds(lambda: torch.autograd.grad(run.gradients.objective(leaf).loss, [winner, loser]))
        for _ in range(repeats)
    ]
    return statistics.median(times)


def measured(name: str, pairs: Path, steps: int, batch_size: int) -> dict[str, float]:
    """Times and shares of one objective."""
    off = training_run(name, None, pairs, batch_size)
    on = training_run(name, {"mu": 0.9, "granularity": "microbatch"}, pairs, batch_size)
    times: dict[str, list[float]] = {"off": [], "on": []}
    for step in range(1, steps + 1):
        # Whichever goes first finds colder caches, so they take turns.
        for key, run in (("off", off), ("on", on)) if step % 2 else (("on", on), ("off", off)):
            times[key].append(milliseconds(lambda run=run, step=step: run.take_step(run.drawn(step), pairs)))  # type: ignore[misc]
    without, with_safeguard = (statistics.median(times[key][2:]) for key in ("off", "on"))
    objective = objective_time(on, 20 * steps)
    paired = [b / a - 1.0 for a, b in zip(times["off"][2:], times["on"][2:], strict=True)]
    return {
        "step_off_ms": without,
        "step_on_ms": with_safeguard,
        "objective_and_safeguard_ms": objective,
        "objective_off_ms": objective_time(off, 20 * steps),
        "objective_share_of_step": objective / with_safeguard,
        "on_over_off_minus_1": statistics.median(paired),
        "on_over_off_standard_error": statistics.stdev(paired) / len(paired) ** 0.5,
    }


def main() -> None:
    """Measure every objective and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--batch-size", type=int, default=16)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        pairs = Path(folder) / "pairs"
        cache.build(
            {
                "stage_version": 1,
                "dataset": "renders",
                "source": "miniature_renders",
                "options": {"pairs": 128, "heldout": 8},
                "base": {"name": "miniature", "family": "miniature", "path": str(BASE)},
                "out": str(pairs),
            }
        )
        result = {name: measured(name, pairs, arguments.steps, arguments.batch_size) for name in PARAMETERS}
    print(json.dumps({"threads": 1, "batch_size": arguments.batch_size, **result}, indent=2))


if __name__ == "__main__":
    main()
