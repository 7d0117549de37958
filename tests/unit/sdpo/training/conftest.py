"""Trainings of two processes, started as a user starts them."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[4]
CHANGED = """
import json, os, signal, sys, time
import torch
import torch.distributed
from artifacts.errors import InputError
from sdpo import cli
from sdpo.training.gradients import PairGradients
from sdpo.training.run import TrainingRun
from sdpo.training.sharding import own_piece
CHANGE
sys.exit(cli.main(sys.argv[1:]))
"""


@pytest.fixture
def in_two_processes(warm: Path, tmp_path: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """``in_two_processes(job, *options, change="")``: runs a training; the change is Python code that runs first."""

    def run(job: dict[str, Any], *options: str, change: str = "") -> subprocess.CompletedProcess[str]:
        program = ["-m", "sdpo.cli"]
        if change:
            script = tmp_path / "changed.py"
            script.write_text(CHANGED.replace("CHANGE", change))
            program = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", str(script)]
        command = [str(warm / "python"), *program, "train", "--processes", "2", *options, "--spec", json.dumps(job)]
        environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
        return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300, cwd=ROOT)

    return run
