"""What is checked before the first submission. Slurm's commands are scripts here; tests/cluster has a real Slurm."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from artifacts.errors import InputError
from pipeline import slurm
from pipeline.cluster_start import check_start, sbatch_options
from pipeline.unlock import unlock

PROFILE = SimpleNamespace(status_command="squeue", init_seconds_before_status_checks=61)
Commands = Callable[..., Path]


@pytest.fixture
def commands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Commands:
    """Put Slurm's commands into PATH: each keyword is a command and the shell script that stands for it.

    Without keywords the cluster keeps no accounts, remembers ended jobs for 300 s, is empty, and takes every job.
    """
    folder = tmp_path / "commands"
    folder.mkdir()
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")

    def write(**scripts: str) -> Path:
        config = "AccountingStorageType   = accounting_storage/none\nMinJobAge               = 300 sec"
        taking = {
            "squeue": "",
            "scontrol": f"echo '{config}'",
            "sbatch": f'echo "$@" >> {tmp_path}/sbatch',
            "scancel": "",
        }
        for name, script in (taking | scripts).items():
            path = folder / name
            path.write_text(f"#!/bin/sh\n{script}\n")
            path.chmod(0o755)
        return tmp_path

    return write


def job(rule: str = "train", **resources: Any) -> SimpleNamespace:
    return SimpleNamespace(rule=SimpleNamespace(name=rule), threads=4, resources=resources)


def test_a_request_is_what_the_executor_asks_for() -> None:
    asked = job(
        mem_mb=2000, runtime=60, gpu=2, gpu_model="a100", slurm_partition="gpu", slurm_extra="--nice=5 --exclusive"
    )
    assert sbatch_options(asked) == [
        "--cpus-per-task=4",
        "--partition=gpu",
        "--mem=2000",
        "--time=60",
        "--gpus=a100:2",
        "--nice=5",
        "--exclusive",
    ]


def test_equal_requests_are_tried_once(commands: Commands) -> None:
    folder = commands()
    check_start(folder, [job(mem_mb=1), job("generate", mem_mb=1), job("score", mem_mb=2)], PROFILE)
    tried = (folder / "sbatch").read_text().splitlines()
    assert [line.split()[:3] for line in tried] == [
        ["--test-only", "--cpus-per-task=4", f"--mem={memory}"] for memory in (1, 2)
    ]


def test_what_slurm_refuses_is_named_with_rule_and_request(commands: Commands) -> None:
    folder = commands(sbatch="echo 'allocation failure: Invalid partition name specified' >&2; exit 1")
    with pytest.raises(
        InputError,
        match=r"rule 'train' asks Slurm for --cpus-per-task=4 --partition=nope: allocation failure: Invalid partition "
        r"name specified; change `execution`",
    ):
        check_start(folder, [job(slurm_partition="nope")], PROFILE)


def test_nodes_that_are_down_are_no_reason_not_to_start(commands: Commands) -> None:
    """Of them, too, Slurm says that the configuration is not available; a submission is taken all the same."""
    answer = "echo 'allocation failure: Requested node configuration is not available' >&2; exit 1"
    folder = commands(
        sbatch=f'case "$*" in *--test-only*) {answer};; esac; echo 77',
        scancel='echo "$@" > "$(dirname "$0")"/cancelled',
    )
    check_start(folder, [job(gpu=1)], PROFILE)
    assert (folder / "commands/cancelled").read_text() == "77\n"
    commands(sbatch=answer)
    with pytest.raises(InputError, match="Requested node configuration is not available"):
        check_start(folder, [job(gpu=1)], PROFILE)


@pytest.mark.parametrize(
    ("accounting", "age", "command", "seconds", "message"),
    [
        ("accounting_storage/none", "300 sec", "sacct", 40, "`sacct` never tells"),
        ("(null)", "300 sec", "sacct", 40, "`sacct` never tells"),
        (
            "accounting_storage/none",
            "90 sec",
            "squeue",
            61,
            r"after 90 s .*-before-status-checks 30 ",
        ),
        ("accounting_storage/none", "300 sec", "squeue", 61, None),
        ("accounting_storage/slurmdbd", "2 sec", "squeue", 61, None),
        ("accounting_storage/slurmdbd", "300 sec", "sacct", 40, None),
    ],
)
def test_a_workflow_that_would_wait_for_ever_does_not_start(
    commands: Commands, accounting: str, age: str, command: str, seconds: int, message: str | None
) -> None:
    folder = commands(scontrol=f"echo 'AccountingStorageType = {accounting}'; echo 'MinJobAge = {age}'")
    executor = SimpleNamespace(status_command=command, init_seconds_before_status_checks=seconds)
    if message is None:
        check_start(folder, [job()], executor)
    else:
        with pytest.raises(InputError, match=message):
            check_start(folder, [job()], executor)


def test_jobs_of_an_earlier_run_are_named(commands: Commands) -> None:
    folder = commands()
    lines = [
        f"53|RUNNING|rule_train_wildcards_dpo_0|{folder}",
        f"54|PENDING|rule_pairs|{folder}/elsewhere",
        f"55|RUNNING|my own job|{folder}",
    ]
    commands(squeue="\n".join(f"echo '{line}'" for line in lines))
    with pytest.raises(InputError, match=r"^Slurm job 53 \(train dpo_0, running\): of an earlier run in this folder"):
        check_start(folder, [], PROFILE)


def test_unlock_cancels_them_and_waits_until_they_have_ended(
    commands: Commands, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(slurm.time, "sleep", lambda seconds: None)
    folder = commands()
    state = folder / "asked"
    # Cancelled, the job goes on for two more looks.
    commands(
        squeue=f'[ "$(wc -c < {state} 2> /dev/null || echo 0)" -lt 3 ] && echo "53|RUNNING|rule_train|{folder}"\n'
        f"[ ! -e {state} ] || printf x >> {state}",
        scancel=f'[ "$*" = 53 ] && printf x > {state}',
    )
    assert unlock(folder) == []
    (folder / ".snakemake/slurm_logs").mkdir(parents=True)
    assert unlock(folder) == ["cancelled Slurm job 53 (train, running) of a killed workflow"]
    assert unlock(folder) == []


def test_a_slurm_that_does_not_answer(commands: Commands) -> None:
    folder = commands(squeue="echo 'slurm_load_jobs error: Unable to contact slurm controller' >&2; exit 1")
    said = "squeue: slurm_load_jobs error: Unable to contact slurm controller"
    with pytest.raises(InputError, match=f"{said}; is this a machine of the cluster"):
        check_start(folder, [], PROFILE)
    (folder / ".snakemake/slurm_logs").mkdir(parents=True)
    assert unlock(folder) == [f"jobs on Slurm, if there are any, were left alone: {said}"]
