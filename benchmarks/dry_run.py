"""What planning a large benchmark costs: time and memory of ``snakemake --dry-run``, jobs, files.

A benchmark of ``--variants`` variants on one base, with the shipped prompt sets and scorers of SD 1.5's table and as
many jobs as its size asks for; nothing of it is there. A table of several bases is as many benchmarks.

    python benchmarks/dry_run.py --variants 16
    python benchmarks/dry_run.py --variants 160
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

import yaml

from artifacts import layout
from pipeline.config import load
from pipeline.jobs import Plan

ROOT = Path(__file__).resolve().parents[1]
PROMPTS = {"papv2": 487, "hpdv2": 3200, "partiprompts": 1632, "papv2-again": 487}
"""Prompt sets of the benchmark, and how many prompts each has."""


def main() -> None:
    """Write the config, plan it, print the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--variants", type=int, default=16)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--shards", type=int, default=8)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "bench.yaml"
        path.write_text(yaml.safe_dump(config(args.variants, args.seeds, args.shards)), encoding="utf-8")
        seconds, memory, jobs = planned(path)
        files = listed(Plan(load(str(path), check_files=False)))
    print(f"{jobs} jobs planned in {seconds:.1f} s with {memory / 1e6:.0f} MB")
    print(f"{sum(files.values())} files in {len(files)} folders, at most {max(files.values())} in one")


def config(variants: int, seeds: int, shards: int) -> dict[str, Any]:
    """The config of SD 1.5's table with other numbers of everything."""
    found: dict[str, Any] = yaml.safe_load((ROOT / "config/paper-sd15.yaml").read_text(encoding="utf-8"))
    guarded = {"objective": "diffusion_dpo", "parameters": {"beta": 5000}, "pairs": "pickapic"}
    found["variants"] = [
        {"name": f"v{i}", **guarded, "safeguard": {"mu": (i + 1) / (variants + 1)}} for i in range(variants)
    ]
    found["seeds"] = list(range(seeds))
    found["prompt_sets"] = {name: {"source": name.removesuffix("-again")} for name in PROMPTS}
    found["scorers"] |= {"jpeg_size": {}}
    found["execution"] |= {"generation_shards": shards, "prompt_sets_per_job": 1, "scorers_per_job": 1}
    return found


def planned(path: Path) -> tuple[float, int, int]:
    """Seconds, peak memory in bytes and number of jobs of a dry run of a config."""
    folders = ["--snakefile", str(ROOT / "Snakefile"), "--directory", str(path.parent)]
    command = [sys.executable, "-m", "snakemake", *folders, "--configfile", str(path), "--dry-run", "--quiet"]
    with tempfile.TemporaryFile("w+") as printed:
        started = time.perf_counter()
        process = subprocess.Popen([*command, "host", "reason", "rules"], stdout=printed, stderr=subprocess.STDOUT)
        _, status, used = os.wait4(process.pid, 0)
        seconds = time.perf_counter() - started
        printed.seek(0)
        text = printed.read()
    if status or (total := re.search(r"^total\s+(\d+)$", text, re.MULTILINE)) is None:
        sys.exit(text)
    return seconds, used.ru_maxrss * 1024, int(total[1])


def listed(plan: Plan) -> Counter[str]:
    """Files by folder, when all jobs are done."""
    files: Counter[str] = Counter()
    for job in plan.jobs():
        outputs = [*job.outputs, *job.wanted]
        if job.manifest:
            # Log and resources of each job lie beside those of its stage.
            files.update({f"{plan.root}/logs/{job.stage}": 1, f"{plan.root}/benchmarks/{job.stage}": 1})
        files.update(os.path.dirname(path) for path in outputs)
        # Snakemake's own note of each file that a rule declares.
        files[".snakemake/metadata"] += len(job.outputs)
    for drawn in plan.drawn:
        for model in drawn.models:
            for name, prompts in PROMPTS.items():
                # Manifest and provenance besides.
                files[layout.images(plan.root, model, name).as_posix()] += prompts + 2
    return files


if __name__ == "__main__":
    main()
