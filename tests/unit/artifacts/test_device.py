from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from artifacts import device
from artifacts.device import take_device, usable_cores


@pytest.fixture
def gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr("torch.cuda.device_count", lambda: 3)
    monkeypatch.setattr(device, "_held", [])
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)


def test_without_a_gpu(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    assert take_device(tmp_path) == "cpu"


@pytest.mark.usefixtures("gpus")
def test_each_job_takes_a_gpu_of_its_own(tmp_path: Path) -> None:
    assert take_device(tmp_path) == "cuda:0"
    assert take_device(tmp_path) == "cuda:1"
    other = (
        "import torch; torch.cuda.is_available = lambda: True; torch.cuda.device_count = lambda: 3\n"
        "from artifacts.device import take_device\n"
        f"print(take_device({str(tmp_path)!r}))"
    )
    run = subprocess.run([sys.executable, "-c", other], capture_output=True, text=True, check=True)
    assert run.stdout == "cuda:2\n"
    # That job has ended, so its GPU is free again; then none is.
    assert take_device(tmp_path) == "cuda:2"
    assert take_device(tmp_path) in ("cuda:0", "cuda:1", "cuda:2")
    assert len(device._held) == 3


@pytest.mark.usefixtures("gpus")
def test_jobs_that_see_other_gpus_do_not_wait_for_each_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1,2")
    assert take_device(tmp_path) == "cuda:0"
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3,4,5")
    assert take_device(tmp_path) == "cuda:0"


def test_one_gpu_needs_no_lock(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr("torch.cuda.device_count", lambda: 1)
    assert take_device(tmp_path) == "cuda"
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(not hasattr(os, "sched_getaffinity"), reason="this system has no affinity")
def test_cores_that_a_scheduler_took_away_are_not_counted() -> None:
    allowed = os.sched_getaffinity(0)
    try:
        os.sched_setaffinity(0, {min(allowed)})
        assert usable_cores() == 1
    finally:
        os.sched_setaffinity(0, allowed)
    assert usable_cores() == len(allowed)
