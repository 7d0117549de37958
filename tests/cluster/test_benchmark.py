from __future__ import annotations

import re
import time
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from conftest import ClusterBenchmark


def gpus_in_use(slurm: Any) -> list[set[int]]:
    """Numbers of the GPUs of each job that runs."""
    text = slurm.command("scontrol", "--details", "--oneliner", "show", "job")
    running = [line for line in text.splitlines() if "JobState=RUNNING" in line]
    return [{int(number) for number in re.findall(r"gpu:a100:1\(IDX:(\d+)\)", line)} for line in running]


def test_a_benchmark_on_slurm_ends_in_the_tables_of_a_local_run(
    new_benchmark: ClusterBenchmark, local_benchmark: ClusterBenchmark
) -> None:
    benchmark, slurm = new_benchmark, new_benchmark.slurm
    benchmark.config["execution"]["slurm"] = {"gpu_partition": "main", "gpu_model": "a100"}
    seen = []

    def has_ended() -> bool:
        seen.append(gpus_in_use(slurm))
        return process.poll() is not None

    process, local = benchmark.start("all"), local_benchmark.start("all", profile="default")
    while not has_ended():
        time.sleep(0.1)
    benchmark.wait(process)
    local_benchmark.wait(local)

    assert benchmark.tables() == local_benchmark.tables()
    states = slurm.jobs(benchmark.folder)
    # Pairs, two trainings, base and two variants drawn and scored; what is local was not submitted.
    assert list(states.values()) == ["COMPLETED"] * 9
    assert any(len(jobs) > 1 for jobs in seen)
    for jobs in seen:
        assert all(len(gpus) == 1 for gpus in jobs), jobs
        assert len(set.union(*jobs, set())) == len(jobs), "two jobs share a GPU"
    for stage, names in {"train": ["dpo/0", "dpo+sdpo/0"], "generate": ["base/seen"]}.items():
        assert all((benchmark.root / "logs" / stage / f"{name}.log").read_text() for name in names)
