"""What a model's training step of the toy surface costs: in a stack, with torch's outer layers, alone by autograd.

    python benchmarks/toy_surface_step.py [--steps 20]

Steps of the three alternate in one process, so that all see the same machine. CPU time of one thread is counted, so
what else runs counts only by what it takes from the caches. Prints one JSON object: medians in milliseconds a model's
step, their ratios to the stack's, and what the three products of hidden layers alone take.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from sdpo import objectives
from sdpo.training.settings import TrainingSettings
from worlds.toy_surface.base import SurfaceBase
from worlds.toy_surface.mlp_stack import layers_of
from worlds.toy_surface.outer_layers import TorchOuterLayers
from worlds.toy_surface.point_pairs import Points
from worlds.toy_surface.stack_run import StackRun
from worlds.toy_surface.surface import Region, sample

BASE = Path(__file__).parents[1] / "resources" / "toy_surface" / "base"
SETTINGS = TrainingSettings(
    steps=10**6, batch_size=512, learning_rate=1e-4, warmup_steps=0, optimizer="adam", weight_decay=0.0,
    max_grad_norm=1.0, empty_prompt_share=0.0, log_every=10**6, checkpoint_every=10**6, drift_every=10**6,
    heldout_pairs=1,
)  # fmt: skip
SEEDS = range(5)


def points(count: int) -> Points:
    """Fresh pairs."""
    rng = np.random.default_rng(0)

    def side(region: Region) -> torch.Tensor:
        return torch.from_numpy(sample(region, count, rng)).float()

    return Points(side("winner"), side("loser"))


def stack_run(base: SurfaceBase) -> StackRun:
    """Forty models: Diffusion-DPO at four β, plain and under the safeguard."""
    guards = (None, {"mu": 0.99})
    made = [objectives.create("diffusion_dpo", beta=b, safeguard=g) for g in guards for b in (6.0, 60.0, 600.0, 3000.0)]
    return StackRun(base, made, [SETTINGS] * len(made), points(200_000), points(1), SEEDS, label=None)


def alone(base: SurfaceBase, training: Points) -> Callable[[int], None]:
    """One model by autograd, torch's clipping and torch's Adam."""
    row, reference = base.pretrained(0).clone().requires_grad_(), base.pretrained(0)
    optimizer = torch.optim.Adam([row], lr=SETTINGS.learning_rate, fused=True)
    objective = objectives.create("diffusion_dpo", beta=60.0)

    def outputs(parameters: torch.Tensor, values: torch.Tensor) -> torch.Tensor:
        *hidden, (weight, bias) = layers_of(parameters, base.sizes)
        for w, b in hidden:
            values = torch.nn.functional.silu(torch.addmm(b, values, w))
        return torch.addmm(bias, values, weight).view(2, -1, 3)

    def step(number: int) -> None:
        batch = training.drawn([0], number, SETTINGS.batch_size, losers=True)
        with torch.no_grad():
            fixed = outputs(reference, batch.inputs[0])
        parts = (*outputs(row, batch.inputs[0]), *fixed, *batch.target.view(2, -1, 3))
        optimizer.zero_grad()
        objective(objectives.PairPrediction(*parts, time=batch.time[0])).loss.backward()
        torch.nn.utils.clip_grad_norm_([row], SETTINGS.max_grad_norm)
        optimizer.step()

    return step


def products(rows: int, width: int) -> Callable[[int], None]:
    """The three products of hidden layers, forward and backward."""
    values, gradient, weight = torch.randn(rows, width), torch.randn(rows, width), torch.randn(width, width)
    out, weight_out = torch.empty(rows, width), torch.empty(width, width)

    def step(_: int) -> None:
        torch.mm(values, weight, out=out)
        torch.mm(values.t(), gradient, out=weight_out)
        torch.mm(gradient, weight.t(), out=out)

    return step


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=20, help="measured steps of each stack")
    steps = parser.parse_args().steps
    torch.set_num_threads(1)
    torch.set_flush_denormal(True)
    base = SurfaceBase(BASE)
    stack, plain = stack_run(base), stack_run(base)
    for each in (plain.stack, plain.reference):
        each.outer = TorchOuterLayers()
    models, single = len(stack.stack), alone(base, stack.training)

    def together(run: StackRun) -> Callable[[int], None]:
        def step(number: int) -> None:
            run.step = number
            run.one_step(logged=False)

        return step

    # What is measured, how many models' steps one call makes, and how many calls a round.
    work = {
        "stack": (together(stack), models, 1),
        "stack_torch_layers": (together(plain), models, 1),
        "alone": (single, 1, 10),
        "hidden_products": (products(1024, base.sizes[1]), 1, 10),
    }
    taken: dict[str, list[float]] = {name: [] for name in work}
    for round_number in range(1, steps + 3):
        for name, (step, size, calls) in work.items():
            start = time.thread_time()
            for call in range(calls):
                step(round_number * calls + call)
            if round_number > 2:
                taken[name].append(1e3 * (time.thread_time() - start) / (calls * size))
    medians = {name: statistics.median(times) for name, times in taken.items()}
    print(
        json.dumps(
            {
                "milliseconds": {name: round(value, 3) for name, value in medians.items()},
                "times_the_stack": {name: round(value / medians["stack"], 2) for name, value in medians.items()},
                "models": models,
                "outer_layers": stack.stack.outer.name,
            },
            indent=2,
        )
    )


if __name__ == "__main__":
    main()
