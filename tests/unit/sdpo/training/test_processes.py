"""Two processes on the CPU train the model that one trains, and start, share and stop as they should."""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
from safetensors.torch import load_file

from artifacts import layout
from artifacts.errors import InputError
from sdpo import objectives
from sdpo.training import checkpoint, processes
from sdpo.training.job import TrainingSettings, train
from sdpo.training.micro_batches import micro_batches, parts_together
from sdpo.training.processes import Processes

World = tuple[dict[str, str], Path]
Job = Callable[..., dict[str, Any]]
Started = Callable[..., subprocess.CompletedProcess[str]]
COMPARED = ["loss", "winner_drift", "loser_drift", "margin", "safe_scale_mean", "safe_scale_min", "grad_norm"]
COMPARED += [f"{name}_noise_{k}" for name in ("pairs", "winner_drift", "safe_scale") for k in range(1, 6)]


def model(job: dict[str, Any]) -> Path:
    return layout.model(job["root"], f"tiny/{job['variant']}/seed0")


def weights(job: dict[str, Any]) -> torch.Tensor:
    return torch.cat([x.flatten() for x in load_file(model(job) / "unet/diffusion_pytorch_model.safetensors").values()])


def test_two_processes_train_the_model_that_one_trains(
    in_two_processes: Started, tiny_sd15_world: World, tiny_job: Job, tmp_path: Path
) -> None:
    """For every granularity; the small batch of each process leaves rounding as the only difference."""
    variants = {
        "plain": {"safeguard": None},
        "sample": {"safeguard": {"mu": 0.5, "granularity": "sample"}},
        "global": {"safeguard": {"mu": 0.5, "granularity": "global"}, "lora": {"rank": 2}, "ema_decay": 0.9},
        "microbatch": {"safeguard": {"mu": 0.5}, "micro_batch_size": 2},
        "pairs": {"safeguard": {"mu": 0.5, "granularity": 2}, "micro_batch_size": 1},
    }
    # Adafactor and Adam divide by the gradient's size; its smallest entries are rounding, and move all the same.
    settings = {"empty_prompt_share": 0.5, "learning_rate": 1e-3, "warmup_steps": 0, "steps": 3}

    def jobs(root: str) -> list[dict[str, Any]]:
        made = [tiny_job(tiny_sd15_world, root=root, **settings, **own) for own in variants.values()]
        return [{**job, "variant": name} for job, name in zip(made, variants, strict=True)]

    manifest = tmp_path / "jobs/train/plain.json"
    done = in_two_processes({"together": jobs("two")}, "--manifest", str(manifest))
    assert done.returncode == 0, done.stderr
    assert len(json.loads(manifest.read_text())["files"]) == len(variants) * 4
    # One bar: its first line stands there once, its last perhaps again.
    assert done.stderr.count("plain seed 0: 0/3") == 1
    start = torch.cat(
        [
            x.flatten()
            for x in load_file(Path(tiny_sd15_world[0]["path"]) / "unet/diffusion_pytorch_model.safetensors").values()
        ]
    )
    for one, two in zip(jobs("one"), jobs("two"), strict=True):
        train(one)
        logs, drifts = (
            [pd.read_parquet(model(x) / f"{kind}.parquet") for x in (two, one)] for kind in ("training", "drift")
        )
        pd.testing.assert_frame_equal(logs[0][COMPARED], logs[1][COMPARED], rtol=1e-3, atol=1e-6)
        pd.testing.assert_frame_equal(*drifts, rtol=1e-2, atol=1e-6)
        assert (logs[0]["safe_scale_mean"] < 1).any() == (one["variant"] != "plain")
        moved = (weights(one) - start).norm()
        assert float((weights(two) - weights(one)).norm() / moved) < 0.02
        assert json.loads((model(two) / "provenance.json").read_text())["processes"] == 2


def test_two_machines_train_the_model_that_two_processes_train(
    in_two_processes: Started, tiny_sd15_world: World, tiny_job: Job
) -> None:
    """Two launchers that meet on loopback, each with one process, as on two hosts."""
    settings = {"safeguard": {"mu": 0.5, "granularity": "global"}, "steps": 2, "learning_rate": 1e-3, "warmup_steps": 0}
    one, two = (tiny_job(tiny_sd15_world, root=root, **settings) for root in ("one", "two"))
    done = in_two_processes(one)
    assert done.returncode == 0, done.stderr
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    options = ("--machines", "2", "--meeting", f"127.0.0.1:{port}", "--machine")
    with ThreadPoolExecutor(2) as hosts:
        both = list(hosts.map(lambda index: in_two_processes(two, *options, index), ("0", "1")))
    assert [done.returncode for done in both] == [0, 0], both[0].stderr + both[1].stderr
    assert torch.equal(weights(one), weights(two))
    # The first of all processes writes and shows progress.
    assert ["variant seed 0: 2/2" in done.stderr for done in both] == [True, False]


def test_one_process_or_two_go_on_where_two_were_stopped(
    in_two_processes: Started, tiny_sd15_world: World, tiny_job: Job
) -> None:
    """Of two, both take up the state; one that did not would be steps behind."""
    settings = {"steps": 3, "learning_rate": 1e-3, "warmup_steps": 0, "ema_decay": 0.9}
    one, two, whole = (tiny_job(tiny_sd15_world, root=root, **settings) for root in ("one", "two", "whole"))
    # No time at all: they leave after the first step, both of them.
    done = in_two_processes(one, "--minutes", "0.0001")
    assert done.returncode != 0
    assert "variant seed 0: left after step 1 of 3, its state saved: 0.0 of 0.0001 minutes are left" in done.stderr
    (state,) = Path(one["root"], "checkpoints").rglob("step-*.pt")
    assert checkpoint.read(state)["step"] == 1
    shutil.copytree(one["root"], two["root"])
    done = in_two_processes(two)
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("variant seed 0: resumed at step 1 of 3") == 1
    train(one)
    train(whole)
    for job in (one, two):
        assert json.loads((model(job) / "provenance.json").read_text())["resumed_from_step"] == 1
        for kind, columns in (("training", COMPARED), ("drift", ["step", "winner_drift", "loser_drift"])):
            log, expected = (pd.read_parquet(model(x) / f"{kind}.parquet")[columns] for x in (job, whole))
            pd.testing.assert_frame_equal(log, expected, rtol=1e-2, atol=1e-6)


FAILING = """
def fails(run, step):
    raise InputError("pair 7 is damaged")

if os.environ["RANK"] == "1":
    TrainingRun.drawn = fails
    # Over NCCL, parting waits for the sums under way.
    torch.distributed.destroy_process_group = lambda: time.sleep(3600)
"""
ASKED = """
original, calls = PairGradients.predicted, []

def asked(gradients, drawn, **options):
    calls.append(drawn)
    if len(calls) == 3:
        os.kill(os.getpid(), signal.SIGTERM)
    return original(gradients, drawn, **options)

if os.environ["RANK"] == "1":
    PairGradients.predicted = asked
"""


def test_failure_of_one_process_ends_all_and_is_said(
    in_two_processes: Started, tiny_sd15_world: World, tiny_job: Job, tmp_path: Path
) -> None:
    done = in_two_processes(tiny_job(tiny_sd15_world), change=FAILING)
    assert done.returncode != 0
    assert done.stderr.count("error: pair 7 is damaged") == 1


def test_all_drop_the_step_within_which_one_is_asked_to_end(
    in_two_processes: Started, tiny_sd15_world: World, tiny_job: Job, tmp_path: Path
) -> None:
    """Of three micro-batches one process has one and the other two; it is asked in its first of the second step."""
    job = tiny_job(tiny_sd15_world, batch_size=3, micro_batch_size=1, checkpoint_every=100, safeguard={"mu": 0.5})
    done = in_two_processes(job, change=ASKED)
    assert done.returncode != 0
    assert done.stderr.count("variant seed 0: left after step 1 of 4, its state saved") == 2
    assert [path.name for path in Path(job["root"]).rglob("step-*.pt")] == ["step-00000001.pt"]


@pytest.mark.parametrize(("size", "count", "expected"), [(None, 1, [8]), (None, 2, [4, 4]), (3, 2, [3, 3, 2])])
def test_micro_batches_do_not_depend_on_processes(job: Job, size: int | None, count: int, expected: list[int]) -> None:
    settings = TrainingSettings(**job(batch_size=8, micro_batch_size=size)["training"])
    plain = objectives.create("diffusion_dpo", beta=1.0)
    found = micro_batches(settings, plain, count)
    assert [len(part) for part in found] == expected
    assert [i for part in found for i in part] == list(range(8))
    shares = [Processes(i, count).share(found) for i in range(count)]
    assert [part for share in shares for part in share] == found
    assert max(map(len, shares)) - min(map(len, shares)) <= 1


def test_processes_without_work_and_shared_scales_that_would_change_are_refused(job: Job) -> None:
    def asked(guard: dict[str, Any] | None, **settings: Any) -> list[range]:
        objective = objectives.create("diffusion_dpo", beta=1.0, safeguard=guard)
        return micro_batches(TrainingSettings(**job(**{"batch_size": 4} | settings)["training"]), objective, 2)

    assert len(asked({"mu": 0.5, "granularity": "sample"})) == 2
    with pytest.raises(InputError, match=r"micro_batch_size is left out: .* share a λ and 2 processes share a step"):
        asked({"mu": 0.5, "granularity": "microbatch"})
    with pytest.raises(InputError, match=r"micro_batch_size is 4: expected at most 2: 2 processes share 4 pairs"):
        asked(None, micro_batch_size=4)
    with pytest.raises(InputError, match=r"2 processes cannot share 1 pairs; lower execution\.processes"):
        asked(None, batch_size=1)


@pytest.mark.parametrize(
    ("number", "size", "count", "expected"),
    [
        (3, None, 1, None),
        (5, None, 1, r"safeguard\.granularity is 5: expected a divisor of training\.batch_size, 24$"),
        (4, 6, 1, r"granularity is 4: expected a divisor or a multiple of the pairs of a micro-batch, 6$"),
        (8, 12, 1, r"granularity is 8: expected a divisor or a multiple of the pairs of a micro-batch, 12$"),
        (4, None, 4, r"is 4: .* a micro-batch, 6, of which each process has one; give training\.micro_batch_size"),
        (4, 4, 4, None),
        (8, 4, 3, None),
        (8, 4, 4, r"4 processes cannot share 24 pairs of which each 8 share a λ; lower execution\.processes"),
    ],
)
def test_pairs_that_share_a_scale_stay_together(
    job: Job, number: int, size: int | None, count: int, expected: str | None
) -> None:
    settings = TrainingSettings(**job(batch_size=24, micro_batch_size=size)["training"])
    objective = objectives.create("diffusion_dpo", beta=1.0, safeguard={"mu": 0.5, "granularity": number})
    if expected is not None:
        with pytest.raises(InputError, match=expected):
            micro_batches(settings, objective, count)
        return
    found = micro_batches(settings, objective, count)
    together = parts_together(number, len(found[0]))
    shares = [Processes(i, count).share(found, together=together) for i in range(count)]
    assert [part for share in shares for part in share] == found
    assert all(share[0].start % number == share[-1].stop % number == 0 for share in shares)


def test_means_over_processes_need_as_many_groups_in_each(job: Job) -> None:
    settings = TrainingSettings(**job(batch_size=12, micro_batch_size=2)["training"])
    kto = objectives.create("diffusion_kto", beta=1.0, safeguard={"mu": 0.5, "granularity": 4})
    with pytest.raises(InputError, match=r"12 pairs make 3 groups of micro-batches, and objective 'diffusion_kto'"):
        micro_batches(settings, kto, 2)


def test_processes_that_would_wait_for_each_other_within_the_loss_are_refused(job: Job) -> None:
    settings = TrainingSettings(**job(batch_size=12, micro_batch_size=4)["training"])
    kto = objectives.create("diffusion_kto", beta=1.0)
    with pytest.raises(
        InputError,
        match=r"12 pairs make 3 micro-batches, and objective 'diffusion_kto' .* 2 processes; .* a multiple of 2",
    ):
        micro_batches(settings, kto, 2)
    assert len(micro_batches(settings, kto, 3)) == len(micro_batches(settings, kto, 1)) == 3
    assert len(micro_batches(settings, objectives.create("diffusion_dpo", beta=1.0), 2)) == 3


def test_family_with_a_training_of_its_own_is_one_process(monkeypatch: pytest.MonkeyPatch, job: Job) -> None:
    from sdpo.training import train_together

    monkeypatch.setattr(processes, "join", lambda device: Processes(0, 2))
    spec = {**job(), "base": {"name": "s", "family": "toy_surface", "path": "nowhere"}}
    with pytest.raises(InputError, match=r"'toy_surface' trains in one process; leave execution.processes out"):
        train_together([spec])
