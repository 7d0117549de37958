"""Reading the pairs of training steps from a pair cache that is not in memory, against mapped files.

A cache of random numbers in the shapes of SD 1.5 at 512 pixels. Steps of ``--pairs`` random pairs are read in turn as
training reads them, and as rows of mapped files with a tensor each for mean and deviation; before every step the
kernel is told to forget all files. Prints pairs a second and processor time a pair of both, and their ratio.

    python benchmarks/cold_reads.py --dir DIR_ON_THE_DISK_IN_QUESTION
"""

from __future__ import annotations

import argparse
import os
import resource
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

from sdpo.pairs.cache.encoding import LATENTS, PROMPT, SIZES
from sdpo.pairs.cache.gathering import StoredLatents
from sdpo.pairs.cache.shard_reading import Shards

LATENT, TEXT = (4, 64, 64), (77, 768)
Step = tuple[torch.Tensor, torch.Tensor]


def main() -> None:
    """Write both caches, read them in turn, print the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dir", type=Path, help="where the caches are written for the time being")
    parser.add_argument("--shards", type=int, default=8)
    parser.add_argument("--pairs-per-shard", type=int, default=1024)
    parser.add_argument("--pairs", type=int, default=256, help="of a step")
    parser.add_argument("--steps", type=int, default=8)
    args = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory(dir=args.dir) as folder:
        measure(Path(folder), args)


def measure(folder: Path, args: argparse.Namespace) -> None:
    """Steps in turn; medians."""
    images, prompts = 2 * args.pairs_per_shard, args.pairs_per_shard
    ours, mapped = [], []
    for number in range(args.shards):
        tensors = {
            LATENTS: torch.randn(images, 2, *LATENT).half(),
            f"{PROMPT}text": torch.randn(prompts, *TEXT).half(),
            SIZES: torch.zeros(images, 6, dtype=torch.int32),
        }
        ours.append(folder / f"rows-{number}.safetensors")
        save_file(tensors, ours[-1])
        mean, std = (x.contiguous() for x in tensors.pop(LATENTS).unbind(1))
        mapped.append(folder / f"mapped-{number}.safetensors")
        save_file({"mean": mean, "std": std, **tensors}, mapped[-1])
    os.sync()
    total = args.shards * args.pairs_per_shard
    random = torch.Generator().manual_seed(0)

    def read_rows(step: Step) -> Any:
        source = StoredLatents(Shards(ours, [images] * args.shards, [prompts] * args.shards), ["text"])
        return [source.images(rows, None).latents.mean for rows in step], source.prompts(step[0] // 2)

    def read_mapped(step: Step) -> Any:
        files = [load_file(path) for path in mapped]
        return [
            torch.stack([files[int(row) // size][name][int(row) % size] for row in rows]).float()
            for name, rows, size in (
                *((name, rows, images) for rows in step for name in ("mean", "std", SIZES)),
                (f"{PROMPT}text", step[0] // 2, prompts),
            )
        ]

    ways: dict[str, Callable[[Step], Any]] = {"mapped files": read_mapped, "pair cache": read_rows}
    walls: dict[str, list[float]] = {name: [] for name in ways}
    cpus: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(args.steps):
        winners = torch.randperm(total, generator=random)[: args.pairs] * 2
        for name, read in ways.items():
            forget([*ours, *mapped])
            started, used = time.perf_counter(), cpu_seconds()
            read((winners, winners + 1))
            walls[name].append(time.perf_counter() - started)
            cpus[name].append(cpu_seconds() - used)
    rates = {name: args.pairs / statistics.median(times) for name, times in walls.items()}
    for name in ways:
        spent = statistics.median(cpus[name]) / args.pairs * 1e3
        print(f"{name}: {rates[name]:.0f} pairs a second, {spent:.2f} ms of processor time a pair")
    print(f"ratio: {rates['pair cache'] / rates['mapped files']:.2f}")


def forget(files: list[Path]) -> None:
    """Have the kernel drop what it holds of these files."""
    for path in files:
        number = os.open(path, os.O_RDONLY)
        try:
            os.posix_fadvise(number, 0, 0, os.POSIX_FADV_DONTNEED)
        finally:
            os.close(number)


def cpu_seconds() -> float:
    """Processor time of this process, system calls included."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


if __name__ == "__main__":
    main()
