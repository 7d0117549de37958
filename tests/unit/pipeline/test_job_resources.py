from __future__ import annotations

from pipeline.config.execution import Execution
from pipeline.job_resources import job_resources

CLUSTER = {"account": "lab", "partition": "cpu", "gpu_partition": "gpu", "gpu_model": "a100"}


def test_jobs_with_and_without_gpus_go_where_the_config_says() -> None:
    execution = Execution.model_validate({"slurm": CLUSTER})
    names = ("gpu", "slurm_account", "slurm_partition", "gpu_model")
    assert [job_resources(execution, gpus=2).get(name) for name in names] == [2, "lab", "gpu", "a100"]
    assert [job_resources(execution).get(name) for name in names] == [None, "lab", "cpu", None]


def test_one_partition_is_enough_and_what_is_left_out_is_not_asked_for() -> None:
    execution = Execution.model_validate({"slurm": {"partition": "all", "extra": "--exclude=node7"}})
    assert execution.slurm.resources(1) == {"slurm_partition": "all", "slurm_extra": "--exclude=node7"}
    assert Execution().slurm.resources(1) == {}


def test_further_attempts_ask_for_more_where_the_config_allows_it() -> None:
    execution = Execution(memory_mb=1000, max_memory_mb=2500, runtime_minutes=60)
    resources = job_resources(execution)
    assert [resources["mem_mb"](None, attempt) for attempt in (1, 2, 3, 4)] == [1000, 2000, 2500, 2500]
    assert [resources["runtime"](None, attempt) for attempt in (1, 2)] == [60, 60]


def test_a_training_needs_more_attempts_and_not_more_time() -> None:
    execution = Execution(memory_mb=1000, max_memory_mb=2500, runtime_minutes=60, max_runtime_minutes=600)
    training = job_resources(execution, resumes=True)
    assert (training["mem_mb"](None, 5), training["runtime"](None, 5)) == (1000, 60)
    assert job_resources(execution)["runtime"](None, 5) == 300


def test_the_most_that_is_less_than_the_first_changes_nothing() -> None:
    assert job_resources(Execution(memory_mb=3000, max_memory_mb=1000))["mem_mb"](None, 1) == 3000
