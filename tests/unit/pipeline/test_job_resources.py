from __future__ import annotations

import subprocess
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from pipeline.cluster_start import sbatch_options
from pipeline.config.execution import Execution
from pipeline.job_resources import job_resources, on_each_machine, training_resources

CLUSTER = {"account": "lab", "partition": "cpu", "gpu_partition": "gpu", "gpu_model": "a100"}


class Resources(dict[str, Any]):
    """Resources as Snakemake gives them to an executor: attributes too."""

    __getattr__ = dict.__getitem__


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


def test_a_training_on_several_machines_asks_for_nodes_with_as_many_gpus() -> None:
    """As Snakemake's Slurm executor reads it, which writes the options of ``sbatch`` by its own functions."""
    from snakemake_executor_plugin_slurm.submit_string import get_submit_command
    from snakemake_executor_plugin_slurm.utils import set_gres_string

    asked = {"machines": 2, "processes": 16, "gpu": 1, "memory_mb": 500, "runtime_minutes": 90, "slurm": CLUSTER}
    execution = Execution.model_validate(asked)
    resources: Any = Resources(training_resources(execution))
    resources |= {name: resources[name](None, 1) for name in ("mem_mb", "runtime")}
    job: Any = SimpleNamespace(threads=8, resources=resources)
    told = dict.fromkeys(("run_uuid", "slurm_logfile", "comment_str", "account", "partition", "workdir"), "")
    options = get_submit_command(job, told).split()[9:] + set_gres_string(job).split()
    assert options == [
        *("-t", "90", "--mem", "500", "--nodes=2"),
        *("--ntasks=2", "--cpus-per-task=8", "--gres=gpu:a100:8"),
    ]
    # The check before the first submission asks for the same.
    assert {"--nodes=2", "--ntasks=2", "--cpus-per-task=8", "--gres=gpu:a100:8"} < set(sbatch_options(job))
    plain = {name: value for name, value in asked.items() if name != "machines"}
    assert training_resources(Execution.model_validate(plain))["gpu"] == 16
    assert "gres" not in training_resources(Execution(machines=2, processes=2))


def test_a_command_is_started_on_each_machine_of_a_slurm_job(tmp_path: Path) -> None:
    (tmp_path / "srun").write_text("#!/bin/sh\necho srun $@\n")
    (tmp_path / "srun").chmod(0o755)
    command = on_each_machine("echo sdpo train --processes 16 --machines 2", 2, 8)
    environment = {"PATH": f"{tmp_path}:/usr/bin:/bin"}
    said = [
        subprocess.run(["bash", "-c", command], env=environment | more, capture_output=True, text=True).stdout
        for more in ({"SLURM_JOB_ID": "7"}, {})
    ]
    where = "--nodes=2 --ntasks=2 --ntasks-per-node=1 --cpus-per-task=8 --kill-on-bad-exit=1"
    assert said == [
        f"srun {where} echo sdpo train --processes 16 --machines 2\n",
        "sdpo train --processes 16 --machines 2\n",
    ]
