"""Which jobs the configs for real models announce, without their weights and data."""

from __future__ import annotations

import re
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "counts"),
    [
        # Seven variants of one seed and the base, shared by eight jobs each.
        ("paper-sd15", {"pairs": 1, "train": 7, "generate": 8 * 8, "collect": 8, "score": 8}),
        ("paper-sdxl", {"pairs": 1, "train": 7, "generate": 8 * 8, "collect": 8, "score": 8}),
        # Twelve released models and two bases.
        ("published", {"generate": 14 * 8, "collect": 14, "score": 14}),
    ],
)
def test_a_dry_run_lists_the_jobs(name: str, counts: dict[str, int], tmp_path: Path) -> None:
    done = subprocess.run(
        [
            *(sys.executable, "-m", "snakemake", "--dry-run", "--snakefile", str(ROOT / "Snakefile")),
            *("--directory", str(tmp_path), "--configfile", str(ROOT / f"config/{name}.yaml")),
        ],
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    text = done.stdout + done.stderr
    table = text.rpartition("Job stats:")[2].partition("total")[0]
    jobs: Counter[str] = Counter()
    for rule, count in re.findall(r"^(\w+)\s+(\d+)$", table, re.MULTILINE):
        jobs[rule] += int(count)
    assert jobs == {**counts, "prompts": 3, "compare": 1, "report": 1, "track": 1, "all": 1}
    assert 'scorers.clip.weights = "weights/clip": no such file or folder; fetch it with' in text
