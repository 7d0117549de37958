from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import psutil

if TYPE_CHECKING:
    from conftest import Benchmark


def wait_for(condition: Callable[[], bool], process: subprocess.Popen[bytes], benchmark: Benchmark) -> None:
    deadline = time.monotonic() + 300

    def reached() -> bool:
        try:
            return condition()
        except FileNotFoundError:
            # A folder was renamed while it was listed.
            return False

    while not reached():
        assert process.poll() is None, f"ended too early:\n{benchmark.output()}"
        assert time.monotonic() < deadline, benchmark.output()
        time.sleep(0.005)


def jobs(process: subprocess.Popen[bytes], *words: str) -> list[psutil.Process]:
    """Processes below a workflow that run the command named by ``words``, such as ``sdpo train``."""
    found = []
    for child in psutil.Process(process.pid).children(recursive=True):
        try:
            line = child.cmdline()
        except psutil.Error:
            continue
        names = [Path(word).name for word in line]
        if any(names[i : i + len(words)] == list(words) for i in range(len(names))):
            found.append(child)
    return found


def unlock(benchmark: Benchmark) -> str:
    command = [sys.executable, "-m", "pipeline.cli", "unlock", str(benchmark.folder)]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def test_killed_training_goes_on_to_the_same_tables(
    finished: Benchmark, new_benchmark: Callable[[Path], Benchmark], tmp_path: Path
) -> None:
    benchmark = new_benchmark(tmp_path)
    saved = benchmark.root / "checkpoints"

    # The training dies, and the workflow with it.
    process = benchmark.start()
    wait_for(lambda: any(saved.rglob("step-*.pt")), process, benchmark)
    for job in jobs(process, "sdpo", "train"):
        job.kill()
    assert process.wait(timeout=120) != 0
    assert not (benchmark.root / "tables").exists()
    states = {path: path.stat().st_mtime_ns for path in saved.rglob("step-*.pt")}
    assert states

    # Then the workflow itself, which leaves its jobs behind.
    unlock(benchmark)
    process = benchmark.start()
    wait_for(lambda: any(p not in states for p in saved.rglob("step-*.pt")), process, benchmark)
    left = jobs(process, "sdpo", "train")
    assert left
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert "removed the lock of a killed workflow" in unlock(benchmark)
    assert not [job for job in left if job.is_running() and job.status() != psutil.STATUS_ZOMBIE]

    benchmark.run()
    logs = "".join(path.read_text() for path in (benchmark.root / "logs/train").rglob("*.log"))
    assert "resumed at step" in logs
    assert benchmark.tables() == finished.tables()
    assert not list(saved.rglob("step-*.pt"))


def test_interrupted_generation_goes_on_to_the_same_tables(finished: Benchmark, tmp_path: Path) -> None:
    benchmark = finished.copied(tmp_path)
    for name in ("images", "scores", "tables", "report", "figures"):
        shutil.rmtree(benchmark.root / name)
    (benchmark.root.parent / "mlflow/imported/tiny.json").unlink()
    trained = {path: path.stat().st_mtime_ns for path in (benchmark.root / "models").rglob("*.safetensors")}

    process = benchmark.start()
    # The first folder of images is complete, and others are missing.
    wait_for(lambda: any(benchmark.root.rglob("manifest.parquet")), process, benchmark)
    # As from a terminal: Ctrl-C reaches the workflow and its jobs.
    os.killpg(process.pid, signal.SIGINT)
    # Snakemake's own exit status depends on which of its threads the signal finds; that it stopped short does not.
    process.wait(timeout=120)
    assert not (benchmark.root / "tables").exists()

    assert unlock(benchmark).startswith("nothing to clean up")
    ran = benchmark.run()
    assert {"generate", "score", "compare", "report", "track"} <= set(ran)
    assert "train" not in ran
    assert {path: path.stat().st_mtime_ns for path in trained} == trained
    assert benchmark.tables() == finished.tables()
    assert not list(benchmark.root.rglob("*.partial"))
