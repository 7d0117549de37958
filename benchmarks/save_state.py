"""How long a training is held by the saving of a state: written beside it, against written and read back in its way.

    python benchmarks/save_state.py [--gigabytes 1.0] [--repeats 5]

The state is weights, gradients' moments and step as AdamW has them, in host memory: random numbers, a third of the size
each. Both ways take turns in one process, on the disk of the temporary folder. Prints one JSON object; medians in
seconds.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import torch

from artifacts.atomic import file_sha256, replaced_file, write_text
from sdpo.training.state_writing import StateWriter


def save_in_the_way(folder: Path, step: int, state: dict[str, Any]) -> None:
    """As states were written: serialised, synced, read back for the digest, while the training waits."""
    path = folder / f"step-{step:08d}.pt"
    with replaced_file(path) as temporary:
        torch.save(state, temporary)
        write_text(path.with_suffix(".sha256"), f"{file_sha256(temporary)}\n")


def measured(folder: Path, gigabytes: float, repeats: int) -> dict[str, float]:
    """Seconds that a save holds the training, both ways, and until a state written beside it is whole."""
    values = int(gigabytes * 1e9 / 4 / 3)
    state = {name: torch.randn(values) for name in ("policy", "exp_avg", "exp_avg_sq")}
    times: dict[str, list[float]] = {"in_the_way": [], "beside": [], "beside_until_whole": []}
    with StateWriter() as writer:
        for step in range(repeats + 1):
            start = time.perf_counter()
            save_in_the_way(folder / "before", step, state)
            times["in_the_way"].append(time.perf_counter() - start)
            start = time.perf_counter()
            writer.write(folder / "after", step, state, kept=1)
            times["beside"].append(time.perf_counter() - start)
            writer.finish()
            times["beside_until_whole"].append(time.perf_counter() - start)
            (folder / "before" / f"step-{step:08d}.pt").unlink()
    # The first of each finds cold caches, and beside the training no memory yet.
    return {name: statistics.median(found[1:]) for name, found in times.items()}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--gigabytes", type=float, default=1.0)
    parser.add_argument("--repeats", type=int, default=5)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        seconds = measured(Path(folder), arguments.gigabytes, arguments.repeats)
    ratio = seconds["beside"] / seconds["in_the_way"]
    print(json.dumps({"gigabytes": arguments.gigabytes, "seconds": seconds, "held_ratio": ratio}, indent=2))


if __name__ == "__main__":
    main()
