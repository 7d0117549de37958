from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from artifacts import device
from artifacts.device import denormals_as_zeros, take_device, usable_cores
from artifacts.errors import InputError


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
        # All that is asked of torch, without the seconds that it takes to import.
        "import sys, types\n"
        "cuda = types.SimpleNamespace(is_available=lambda: True, device_count=lambda: 3)\n"
        "sys.modules['torch'] = types.SimpleNamespace(cuda=cuda)\n"
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


@pytest.mark.usefixtures("gpus")
def test_link_planted_in_the_place_of_a_lock_is_not_followed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Anyone can write the system's temporary folder; the names of earlier releases' locks were to be guessed."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    precious = tmp_path / "precious"
    precious.write_text("content")
    for index in range(3):
        (tmp_path / f"sdpo-bench-{os.getuid()}-gpu-all-{index}.lock").symlink_to(precious)
    assert take_device() == "cuda:0"
    assert precious.read_text() == "content"
    folder = tmp_path / f"sdpo-bench-{os.getuid()}"
    assert folder.stat().st_mode & 0o777 == 0o700
    assert [file.name for file in folder.iterdir()] == ["gpu-all-0.lock"]
    assert take_device() == "cuda:1"
    (folder / "gpu-all-2.lock").symlink_to(precious)
    with pytest.raises(InputError, match=r"gpu-all-2\.lock: cannot be a lock \(.*\); remove what lies there"):
        take_device()
    assert precious.read_text() == "content"


@pytest.mark.usefixtures("gpus")
@pytest.mark.parametrize("planted", ["link", "file", "folder that all can write"])
def test_folder_of_locks_that_is_not_ones_own_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, planted: str
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    folder = tmp_path / f"sdpo-bench-{os.getuid()}"
    if planted == "link":
        (tmp_path / "elsewhere").mkdir()
        folder.symlink_to(tmp_path / "elsewhere")
    elif planted == "file":
        folder.touch()
    else:
        folder.mkdir()
        folder.chmod(0o777)
    with pytest.raises(InputError, match=rf"^{folder}: .*; set TMPDIR to a folder of your own$"):
        take_device()


def test_denormals_are_zeros_for_as_long_as_that_is_asked() -> None:
    import torch

    def halved() -> float:
        # Half of the least number that float32 holds in full.
        return float(torch.tensor(torch.finfo(torch.float32).tiny) * 0.5)

    with pytest.raises(InputError, match="within"), denormals_as_zeros():
        assert halved() == 0.0
        raise InputError("within")
    assert halved() > 0.0
