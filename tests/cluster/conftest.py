"""A benchmark that runs on a private Slurm: ``make test-cluster``."""

from __future__ import annotations

import copy
import importlib.util
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
WAIT_SECONDS = 600.0
SHORT_WAITS = ("--slurm-init-seconds-before-status-checks", "1", "--latency-wait", "10")
VARIANT = {"objective": "diffusion_dpo", "parameters": {"beta": 2000}, "pairs": "renders"}
CONFIG: dict[str, Any] = {
    "benchmark": "small",
    "base": {"name": "miniature", "family": "miniature", "path": "resources/miniature/base"},
    "pairs": {"renders": {"source": "miniature_renders", "options": {"pairs": 120, "heldout": 16}}},
    "training": {
        "steps": 10,
        "batch_size": 8,
        "learning_rate": 1e-4,
        "warmup_steps": 2,
        "log_every": 2,
        "checkpoint_every": 100,
        "drift_every": 5,
        "heldout_pairs": 16,
        "threads": 1,
    },
    "variants": [{"name": "dpo", **VARIANT}, {"name": "dpo+sdpo", **VARIANT, "safeguard": {"mu": 0.9}}],
    "seeds": [0],
    "prompt_sets": {"seen": {"source": "miniature_seen", "limit": 6}},
    "generation": {"steps": 3, "batch_size": 6},
    "scorers": {"oracle": {}, "pickscore": {"weights": "resources/miniature/scorers/pickscore"}},
    "report": {"grid": {"prompts": 4}},
    "execution": {"gpu": 1, "scorers_per_job": 2, "memory_mb": 2000, "runtime_minutes": 10},
}


def _private_slurm() -> Any:
    # Tests are imported by path, not as packages.
    spec = importlib.util.spec_from_file_location("private_slurm", HERE / "private_slurm.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class ClusterBenchmark:
    """A folder in which a benchmark runs on the private Slurm, or locally."""

    def __init__(self, folder: Path, slurm: Any, config: dict[str, Any]) -> None:
        self.folder, self.slurm, self.config = folder, slurm, copy.deepcopy(config)
        self._started: list[subprocess.Popen[bytes]] = []
        folder.mkdir(parents=True, exist_ok=True)
        if not (folder / "resources").exists():
            (folder / "resources").symlink_to(ROOT / "resources")

    @property
    def root(self) -> Path:
        return self.folder / "results/small"

    def copied(self, folder: Path) -> ClusterBenchmark:
        """The same benchmark with all its results in another folder."""
        ignore = shutil.ignore_patterns("locks", "log")
        shutil.copytree(self.folder, folder, symlinks=True, ignore=ignore, dirs_exist_ok=True)
        return ClusterBenchmark(folder, self.slurm, self.config)

    def start(self, *arguments: str, profile: str = "slurm", output: str = "output") -> subprocess.Popen[bytes]:
        """Start it; what it prints goes to a file of the folder."""
        (self.folder / "bench.yaml").write_text(yaml.safe_dump(self.config, sort_keys=False))
        on_slurm = profile == "slurm"
        snakemake, waits = ([HERE / "impatient_snakemake.py"], SHORT_WAITS) if on_slurm else (["-m", "snakemake"], ())
        options = ["--snakefile", ROOT / "Snakefile", "--directory", self.folder]
        options += ["--configfile", self.folder / "bench.yaml", "--profile", ROOT / "profiles" / profile]
        with (self.folder / output).open("wb") as file:
            process = subprocess.Popen(
                [sys.executable, *snakemake, *options, *waits, "--", *arguments],
                cwd=self.folder,
                env={**self.slurm.environment, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
                stdout=file,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self._started.append(process)
        return process

    def stop(self) -> None:
        """End what a test that failed has left running or drained, so that it stops no other test."""
        for process in self._started:
            if process.poll() is None:
                process.kill()
        self.slurm.command("scancel", "--user=root")
        if self.slurm.node_state().startswith("drain"):
            self.slurm.command("scontrol", "update", "nodename=node0", "state=resume")

    def wait(self, process: subprocess.Popen[bytes], *, fails: bool = False) -> str:
        """Wait until it has ended, well or not; what it printed."""
        code = process.wait(timeout=WAIT_SECONDS)
        assert bool(code) == fails, self.output()
        return self.output()

    def output(self, name: str = "output") -> str:
        return (self.folder / name).read_text(errors="replace")

    def unlock(self) -> str:
        command = [sys.executable, "-m", "pipeline.cli", "unlock", str(self.folder)]
        environment = {**self.slurm.environment, "PYTHONPATH": str(ROOT)}
        return subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout

    def training_log(self) -> str:
        path = self.root / "logs/train/dpo/0.log"
        return path.read_text(errors="replace") if path.exists() else ""

    def weights(self) -> bytes:
        (path,) = (self.root / "models/miniature/dpo/seed0/unet").glob("*.safetensors")
        return path.read_bytes()

    def tables(self) -> dict[str, bytes]:
        files = (file for file in sorted((self.root / "tables").iterdir()) if file.name != "costs.csv")
        return {file.name: file.read_bytes() for file in files}


def wait_until(condition: Callable[[], bool], process: subprocess.Popen[bytes], benchmark: ClusterBenchmark) -> None:
    """Wait for something while a workflow runs."""
    deadline = time.monotonic() + WAIT_SECONDS
    while not condition():
        assert process.poll() is None, f"ended too early:\n{benchmark.output()}"
        assert time.monotonic() < deadline, benchmark.output()
        time.sleep(0.2)


@pytest.fixture(scope="session")
def eventually() -> Callable[..., None]:
    return wait_until


@pytest.fixture(scope="session")
def slurm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """The cluster, one for all tests."""
    cluster = _private_slurm().PrivateSlurm(tmp_path_factory.mktemp("slurm"))
    cluster.start()
    yield cluster
    cluster.stop()


@pytest.fixture
def two_nodes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """Another cluster, of two nodes."""
    module = _private_slurm()
    cluster = module.PrivateSlurm(tmp_path_factory.mktemp("slurm"), (module.HOST, f"{module.HOST}-2"))
    cluster.start()
    yield cluster
    cluster.stop()


@pytest.fixture
def local_benchmark(tmp_path_factory: pytest.TempPathFactory, slurm: Any) -> ClusterBenchmark:
    """The benchmark before it has run, in a folder where it runs without Slurm."""
    return ClusterBenchmark(tmp_path_factory.mktemp("local"), slurm, CONFIG)


@pytest.fixture
def new_benchmark(tmp_path: Path, slurm: Any) -> Iterator[ClusterBenchmark]:
    """The benchmark before it has run."""
    benchmark = ClusterBenchmark(tmp_path, slurm, CONFIG)
    yield benchmark
    benchmark.stop()


@pytest.fixture(scope="session")
def pairs(tmp_path_factory: pytest.TempPathFactory, slurm: Any) -> ClusterBenchmark:
    """The benchmark as far as its pairs. A step of its training takes about a second, and none saves a state."""
    benchmark = ClusterBenchmark(tmp_path_factory.mktemp("pairs"), slurm, CONFIG)
    benchmark.config["training"] |= {"steps": 24, "batch_size": 96, "micro_batch_size": 8, "log_every": 1}
    benchmark.wait(benchmark.start("results/small/jobs/pairs/renders.json", profile="default"))
    return benchmark


@pytest.fixture
def slow_training(tmp_path: Path, pairs: ClusterBenchmark) -> Iterator[ClusterBenchmark]:
    """A copy of it, to be trained."""
    benchmark = pairs.copied(tmp_path)
    yield benchmark
    benchmark.stop()


@pytest.fixture(scope="session")
def undisturbed_weights(tmp_path_factory: pytest.TempPathFactory, pairs: ClusterBenchmark) -> bytes:
    """Its weights after a training that nothing has interrupted, and that ran without Slurm."""
    benchmark = pairs.copied(tmp_path_factory.mktemp("undisturbed"))
    benchmark.wait(benchmark.start("results/small/jobs/train/dpo/0.json", profile="default"))
    return benchmark.weights()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if HERE in Path(item.path).parents:
            item.add_marker(pytest.mark.cluster)
