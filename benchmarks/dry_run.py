"""What the workflow itself costs: ``snakemake --dry-run`` in time and memory, and what a run adds to its commands.

A benchmark of ``--variants`` variants on one base, with the shipped prompt sets and scorers of SD 1.5's table and as
many jobs as its size asks for; nothing of it is there. A table of several bases is as many benchmarks. With ``--run``
the jobs are run too, one after another, by commands that only write their files, and once more, when there is nothing
to do.

    python benchmarks/dry_run.py --variants 16
    python benchmarks/dry_run.py --variants 160
    python benchmarks/dry_run.py --config config/paper-sd15.yaml --run
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from artifacts import layout
from artifacts.layout import PAIR_FILES
from artifacts.yaml_files import read_yaml
from pipeline.config import load
from pipeline.config.named_files import missing_files
from pipeline.jobs import Plan
from sdpo.bases import WEIGHTS

ROOT = Path(__file__).resolve().parents[1]
COMMAND = ROOT / "tests/workflow/stub_command.py"
PROMPTS = {"papv2": 487, "hpdv2": 3200, "partiprompts": 1632, "papv2-again": 487}
"""Prompt sets of the benchmark, and how many prompts each has."""


def main() -> None:
    """Write the config, plan it, print the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--variants", type=int, default=16)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--shards", type=int, default=8)
    parser.add_argument("--config", type=Path, help="a config instead, as it stands")
    parser.add_argument("--run", action="store_true", help="run the jobs too, by commands that do nothing")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "bench.yaml"
        found = config(args.variants, args.seeds, args.shards) if args.config is None else read_yaml(args.config)[0]
        path.write_text(yaml.safe_dump(found), encoding="utf-8")
        seconds, memory, jobs = planned(path)
        plan = Plan(load(str(path), check_files=False))
        files = listed(plan)
        print(f"{jobs} jobs planned in {seconds:.1f} s with {memory / 1e6:.0f} MB")
        print(f"{sum(files.values())} files in {len(files)} folders, at most {max(files.values())} in one")
        if args.run:
            environment = with_commands(path.parent, found, plan)
            first, again = (snakemake(path, "--cores", "1", environment=environment)[0] for _ in range(2))
            print(f"run in {first:.1f} s, {(first - again) / jobs:.2f} s a job; nothing to do in {again:.1f} s")


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
    seconds, memory, text = snakemake(path, "--dry-run")
    total = re.search(r"^total\s+(\d+)$", text, re.MULTILINE)
    assert total is not None, text
    return seconds, memory, int(total[1])


def snakemake(path: Path, *options: str, environment: Mapping[str, str] = os.environ) -> tuple[float, int, str]:
    """Seconds, peak memory in bytes and output of the workflow of a config, in its folder."""
    folders = ["--snakefile", str(ROOT / "Snakefile"), "--directory", str(path.parent)]
    command = [sys.executable, "-m", "snakemake", *folders, "--configfile", str(path), *options, "--quiet"]
    with tempfile.TemporaryFile("w+") as printed:
        started = time.perf_counter()
        process = subprocess.Popen(
            [*command, "host", "reason", "rules"],
            stdout=printed,
            stderr=subprocess.STDOUT,
            cwd=path.parent,
            env={**environment, "PYTHONPATH": str(ROOT)},
        )
        _, status, used = os.wait4(process.pid, 0)
        seconds = time.perf_counter() - started
        printed.seek(0)
        text = printed.read()
    if status:
        sys.exit(text)
    return seconds, used.ru_maxrss * 1024, text


def with_commands(folder: Path, data: dict[str, Any], plan: Plan) -> dict[str, str]:
    """An environment whose ``sdpo`` and ``evals`` write their files and do nothing else, and what the config names."""
    commands = folder / "bin"
    commands.mkdir()
    for name in ("sdpo", "evals"):
        (commands / name).write_text(f'#!/bin/sh\nexec "{sys.executable}" -S "{COMMAND}" "$@"\n')
        (commands / name).chmod(0o755)
    for problem in missing_files(data, folder):
        (folder / problem.value).mkdir(parents=True)
    names = {
        "pairs": PAIR_FILES,
        "train": (*layout.MODEL_FILES, WEIGHTS),
        "generate": ("00000.png", "manifest.parquet"),
        "compare": [Path(file).name for file in plan.table_files()],
        "report": [Path(file).relative_to(plan.root).as_posix() for file in plan.report_files()],
    }
    # The interpreter's own folder is in PATH, behind the commands, so that the workflow does not put it in front.
    paths = [str(commands), str(Path(sys.executable).parent), os.environ["PATH"]]
    return {**os.environ, "PATH": os.pathsep.join(paths), "STUB_FILES": json.dumps(names)}


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
            for name in plan.benchmark.prompt_sets:
                # Manifest and provenance besides.
                files[layout.images(plan.root, model, name).as_posix()] += PROMPTS[name] + 2
    return files


if __name__ == "__main__":
    main()
