"""What a table costs on a cluster that takes jobs away: GPU hours and days, simulated.

Jobs and steps between states are those of a config; how long a step takes is what
docs/real-models.md computes from one H100. A job is taken away at random, on average after ``--preempted-after`` hours,
waits ``--wait`` minutes and goes on: from its last state, or with ``--saves`` from the step that it was at. Training
jobs that reach the time limit save and go on in the same way. Nothing of it was run on a cluster.

    python benchmarks/preempted_week.py config/paper-sd15.yaml --gpus 32 --preempted-after 6
"""

from __future__ import annotations

import argparse
import heapq
import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import yaml

PAIRS_A_SECOND = {"sd15": 28.2, "sdxl": 4.53}
"""Of one H100."""
IMAGE_SECONDS = {"sd15": 1.6, "sdxl": 5.5}
"""Of one A100, by the sources of docs/generation.md."""
PROMPTS = {"papv2": 487, "hpdv2": 3200, "partiprompts": 1632}
ENCODING_HOURS = {"sd15": 26.0, "sdxl": 115.0}
"""Of one H100 in float32 without TF32 for Pick-a-Pic with mirrored images, computed from operations."""
STARTING, SCORING = 4 / 60, 20 / 60
"""Hours until a job computes, and hours of a scoring job: assumptions."""


@dataclass(eq=False)
class Job:
    """A job on its way.

    Attributes:
        gpus: that it holds.
        work: hours that it computes.
        states: hours between two states; 0 if it goes on where it was, as drawing does.
        limit: hours of one attempt.
    """

    gpus: int
    work: float
    states: float
    limit: float
    needs: list[Job] = field(default_factory=list)
    done: float = 0.0
    attempts: int = 0
    finished: bool = False


def main() -> None:
    """Simulate, print medians and the range of nine in ten."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("config", type=Path)
    parser.add_argument("--gpus", type=int, default=32)
    parser.add_argument("--preempted-after", type=float, default=6.0, help="hours, on average")
    parser.add_argument("--wait", type=float, default=15.0, help="minutes until a job that was taken away starts again")
    parser.add_argument("--retries", type=int, default=15)
    parser.add_argument("--saves", action="store_true", help="the grace is long enough for a state")
    parser.add_argument("--runs", type=int, default=200)
    args = parser.parse_args()
    config = yaml.safe_load(args.config.read_text(encoding="utf-8"))
    needed = sum(job.gpus * job.work for job in jobs(config))
    found = [simulated(jobs(config), args, np.random.default_rng([0, run])) for run in range(args.runs)]
    hours, spans, attempts = zip(*found, strict=True)
    failed = sum(most > args.retries + 1 for most in attempts)
    print(f"{needed:.0f} GPU hours of computing")
    print(f"{shown(hours)} GPU hours held, {statistics.median(hours) / needed - 1:.1%} more")
    print(f"{shown([x / 24 for x in spans])} days on {args.gpus} GPUs")
    print(
        f"{shown(attempts)} attempts of the job with most; more than {args.retries} retries in {failed} of {args.runs}"
    )


def jobs(config: dict[str, Any]) -> list[Job]:
    """The jobs of a config's table that hold GPUs, in the order in which they are submitted."""
    family, training, execution = config["base"]["family"], config["training"], config["execution"]
    limit, processes, shards = execution["runtime_minutes"] / 60, execution["processes"], execution["generation_shards"]
    step = training["batch_size"] / (PAIRS_A_SECOND[family] * processes) / 3600
    encoders = execution["encoding_processes"]
    # Shards of a cache are states; they are small beside everything else here.
    pairs = Job(encoders, ENCODING_HOURS[family] / encoders, 0.0, limit)
    found = [pairs]
    models: list[list[Job]] = [[]]
    for _ in config["variants"]:
        for _ in config["seeds"]:
            trained = Job(processes, training["steps"] * step, training["checkpoint_every"] * step, limit, [pairs])
            models.append([trained])
            found.append(trained)
    images = sum(PROMPTS[name] for name in config["prompt_sets"])
    for needs in models:
        drawn = [Job(1, images * IMAGE_SECONDS[family] / 3600 / shards, 0.0, limit, needs) for _ in range(shards)]
        found += [*drawn, Job(1, SCORING, SCORING, limit, drawn)]
    return found


def simulated(waiting: list[Job], args: argparse.Namespace, random: np.random.Generator) -> tuple[float, float, int]:
    """GPU hours held, hours from first to last, and attempts of the job that needed most."""
    now, held, free, number = 0.0, 0.0, args.gpus, count()
    every, running = list(waiting), set[Job]()
    # Time, a number that breaks ties, and a job whose attempt ends then, or that is to wait for GPUs again.
    events: list[tuple[float, int, Job]] = []
    while True:
        for job in list(waiting):
            if job.gpus <= free and all(need.finished for need in job.needs):
                waiting.remove(job)
                running.add(job)
                free -= job.gpus
                span = attempt(job, args, random)
                held += span * job.gpus
                heapq.heappush(events, (now + span, next(number), job))
        if not events:
            return held, now, max(job.attempts for job in every)
        now, _, job = heapq.heappop(events)
        if job not in running:
            waiting.append(job)
            continue
        running.remove(job)
        free += job.gpus
        if not job.finished:
            heapq.heappush(events, (now + args.wait / 60, next(number), job))


def attempt(job: Job, args: argparse.Namespace, random: np.random.Generator) -> float:
    """Hours that one attempt holds its GPUs; what it has done is noted in the job."""
    job.attempts += 1
    taken = random.exponential(args.preempted_after)
    left = job.work - job.done
    span = STARTING + left
    if span <= min(taken, job.limit):
        job.done, job.finished = job.work, True
        return span
    span = min(taken, job.limit)
    reached = job.done + max(0.0, span - STARTING)
    # At the time limit a training has saved.
    if job.states and taken < job.limit and not args.saves:
        reached = max(job.done, reached // job.states * job.states)
    job.done = reached
    return span


def shown(values: Sequence[float]) -> str:
    """Median and the range of nine in ten."""
    low, middle, high = np.quantile(values, [0.05, 0.5, 0.95])
    return f"{middle:.4g} ({low:.4g} to {high:.4g})"


if __name__ == "__main__":
    main()
