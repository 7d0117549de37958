from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from conftest import ClusterBenchmark


@pytest.mark.parametrize(
    ("execution", "message"),
    [
        ({"slurm": {"partition": "nope"}}, "--partition=nope"),
        (
            {"gpu": 5},
            "--gpus=5: sbatch: error: Batch job submission failed: Requested node configuration is not available",
        ),
        ({"slurm": {"gpu_model": "h100"}}, "--gpus=h100:1"),
        ({"memory_mb": 99999}, "--mem=99999"),
        ({"slurm": {"constraint": "nvlink"}}, "Invalid feature specification"),
        ({"slurm": {"extra": "--no-such-option"}}, "--no-such-option"),
    ],
    ids=["partition", "GPUs", "GPU model", "memory", "constraint", "option"],
)
def test_what_the_cluster_does_not_have_is_one_line_and_leaves_no_job(
    new_benchmark: ClusterBenchmark, execution: dict[str, Any], message: str
) -> None:
    benchmark = new_benchmark
    benchmark.config["execution"] |= execution
    printed = benchmark.wait(benchmark.start("results/small/jobs/pairs/renders.json"), fails=True)
    (line,) = (line for line in printed.splitlines() if line.startswith("error:"))
    assert message in line
    assert line.endswith("; nothing was run")
    # Slurm remembers what it has refused.
    assert set(benchmark.slurm.jobs(benchmark.folder).values()) <= {"FAILED"}


def test_results_that_cannot_be_written_are_one_line(new_benchmark: ClusterBenchmark) -> None:
    benchmark = new_benchmark
    (benchmark.folder / "results").write_text("a file where the folder of results is to be")
    printed = benchmark.wait(benchmark.start("results/small/jobs/pairs/renders.json"), fails=True)
    assert "error: results: is no folder, and results are to be written to results/small; move it away" in printed
    assert "Traceback" not in printed
    assert benchmark.slurm.jobs(benchmark.folder) == {}
