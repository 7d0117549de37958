from __future__ import annotations

import os

import pytest

from artifacts.errors import InputError
from sdpo import cli
from sdpo.training.launch import Machines, machines, together

HERE = Machines()
SLURM = {"SLURM_NNODES": "2", "SLURM_JOB_ID": "4711", "SLURM_JOB_NODELIST": "gpu07,gpu08", "SLURM_NODEID": "1"}


@pytest.mark.parametrize(("given", "seconds"), [(None, 900), ("60", 60)])
def test_processes_have_time_to_save_when_the_launcher_is_asked_to_end(
    given: str | None, seconds: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By torch's own setting, as its launcher reads it."""
    from torch.distributed.launcher.api import LaunchConfig

    environment = {"PATH": os.environ["PATH"]} if given is None else {"TORCH_ELASTIC_SHUTDOWN_TIMEOUT": given}
    monkeypatch.setattr(os, "environ", environment)
    inherited: list[dict[str, str]] = []
    monkeypatch.setattr(os, "execv", lambda program, words: inherited.append(dict(os.environ)))
    together(["train", "--processes", "2", "--spec", "{}"], 2, HERE)
    assert len(inherited) == 1
    assert LaunchConfig(min_nodes=1, max_nodes=1, nproc_per_node=2).shutdown_timeout == seconds


def test_command_becomes_a_launcher_once(monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[list[str]] = []
    monkeypatch.setattr(os, "execv", lambda program, words: started.append(words))
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    together(["train", "--processes", "1"], 1, HERE)
    assert started == []
    together(["train", "--processes", "3", "--spec", "{}"], 3, HERE)
    assert started[0][1:] == [
        *("-m", "torch.distributed.run", "--standalone", "--nproc-per-node=3"),
        *("-m", "sdpo.cli", "train", "--processes", "3", "--spec", "{}"),
    ]
    monkeypatch.setenv("WORLD_SIZE", "3")
    together(["train", "--processes", "3"], 3, HERE)
    assert len(started) == 1
    # Inherited from a scheduler that started one task.
    monkeypatch.setenv("WORLD_SIZE", "1")
    together(["train", "--processes", "3"], 3, HERE)
    assert len(started) == 2


def test_no_process_at_all(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["train", "--processes", "0", "--spec", "{}"]) == 2
    assert "--processes is 0, expected at least 1" in capsys.readouterr().err


def test_standard_input_is_for_one_process(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    assert cli.main(["train", "--processes", "2", "--spec", "-"]) == 2
    assert "--spec is -, which 2 processes cannot all read; give inline JSON or a file" in capsys.readouterr().err


def test_launch_on_two_machines_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    """As on two nodes with eight GPUs each: as many processes on both, which meet on the first."""
    told = ["train", "--processes", "16", "--machines", "2", "--meeting", "gpu07:29500", "--spec", "job.json"]
    assert cli.main([*told, "--print-launch"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.partition(" -m ")[2] for line in lines] == [
        f"torch.distributed.run --nnodes=2 --node-rank={index} --nproc-per-node=8 --master-addr=gpu07 "
        f"--master-port=29500 -m sdpo.cli {' '.join(told)}"
        for index in (0, 1)
    ]


def test_slurm_says_where_the_machines_meet() -> None:
    assert machines(2, None, None, SLURM) == Machines(2, 1, "gpu07:24711")
    assert machines(2, "other:1234", 0, SLURM) == Machines(2, 0, "other:1234")
    # A job of one machine is not asked.
    assert machines(1, None, None, SLURM) == HERE


@pytest.mark.parametrize(
    ("count", "meeting", "index", "environment", "said"),
    [
        (2, None, 0, {}, "--meeting is None, expected HOST:PORT of the first of 2 machines"),
        (2, "gpu07", 0, {}, "--meeting is gpu07, expected HOST:PORT"),
        (2, "gpu07:1", None, {}, "--machine is -1, expected 0 to 1"),
        (2, "gpu07:1", 2, {}, "--machine is 2, expected 0 to 1"),
        (4, None, None, SLURM, "--machines is 4, and Slurm has given 2"),
    ],
)
def test_machines_that_cannot_find_one_another_are_refused(
    count: int, meeting: str | None, index: int | None, environment: dict[str, str], said: str
) -> None:
    with pytest.raises(InputError, match=said):
        machines(count, meeting, index, environment)


def test_machines_have_equal_shares() -> None:
    with pytest.raises(InputError, match="--processes is 3, expected a multiple of the 2 machines"):
        together(["train"], 3, Machines(2, 0, "gpu07:1"))
