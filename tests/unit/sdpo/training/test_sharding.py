"""Two processes that hold a share of a model each train what processes train that hold all of it."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
from safetensors.torch import load_file

from artifacts import layout
from artifacts.errors import InputError
from sdpo import bases
from sdpo.training import sharding
from sdpo.training.job import train
from sdpo.training.processes import join

World = tuple[dict[str, str], Path]
Job = Callable[..., dict[str, Any]]
Started = Callable[..., subprocess.CompletedProcess[str]]
SHARED = ("--sharding", "fsdp2")
COMPARED = ["loss", "winner_drift", "loser_drift", "safe_scale_mean", "safe_scale_min", "grad_norm"]
SETTINGS = {"learning_rate": 1e-3, "warmup_steps": 0, "steps": 2, "drift_every": 1, "ema_decay": 0.9}
HELD = """
step = TrainingRun.take_step

def counted(run, *given):
    row = step(run, *given)
    policy, moments = run.policy, run.optimizer.state.values()
    held = {
        "weights": policy.trained,
        "gradients": [p.grad for p in policy.trained if p.grad is not None],
        "first moments": [x["exp_avg"] for x in moments],
        "second moments": [x["exp_avg_sq"] for x in moments],
        "average": policy.average.average,
        "reference": list(policy._own_reference.parameters()),
    }
    counts = {name: [sum(own_piece(x).numel() for x in xs), sum(x.numel() for x in xs)] for name, xs in held.items()}
    # In one write: both processes have the same pipe.
    sys.stdout.write("held " + json.dumps(counts) + chr(10))
    sys.stdout.flush()
    return row

TrainingRun.take_step = counted
"""


def weights(job: dict[str, Any]) -> dict[str, torch.Tensor]:
    (file,) = layout.model(job["root"], f"tiny/{job['variant']}/seed0").glob("*/diffusion_pytorch_model.safetensors")
    found: dict[str, torch.Tensor] = load_file(file)
    return found


def table(job: dict[str, Any], name: str) -> pd.DataFrame:
    return pd.read_parquet(layout.model(job["root"], f"tiny/{job['variant']}/seed0") / f"{name}.parquet")


def as_whole_copies_train(shared: dict[str, Any], start: dict[str, torch.Tensor]) -> None:
    """Log, drift and model are, but for rounding, those of a process that holds all of the model.

    A gradient that were a mean, or was clipped by a process's own norm, would show in the norm; weights of before a
    step, in the drift of the average.
    """
    one = {**shared, "root": f"{shared['root']}-one"}
    train(one)
    for name, columns, rtol in (
        ("training", COMPARED, 1e-3),
        ("drift", ["step", "winner_drift", "loser_drift"], 1e-2),
    ):
        pd.testing.assert_frame_equal(table(shared, name)[columns], table(one, name)[columns], rtol=rtol, atol=1e-6)
    first, second = weights(shared), weights(one)
    assert {name: x.shape for name, x in first.items()} == {name: x.shape for name, x in start.items()}
    moved, apart = (
        torch.cat([(x[name] - start[name]).flatten() for name in start]).norm()
        for x in (second, {name: start[name] + first[name] - second[name] for name in start})
    )
    assert float(apart / moved) < 0.02
    folders = [layout.model(job["root"], f"tiny/{job['variant']}/seed0") for job in (shared, one)]
    configs = [[path.read_text() for path in folder.glob("*/config.json")] for folder in folders]
    assert configs[0] == configs[1] != []
    recorded = [json.loads((folder / "provenance.json").read_text())["sharding"] for folder in folders]
    assert recorded == ["fsdp2", "replicated"]


def test_shares_of_a_unet_train_the_model_that_whole_copies_train(
    in_two_processes: Started, tiny_sd15_world: World, tiny_job: Job
) -> None:
    variants = {
        "microbatch": {"safeguard": {"mu": 0.5}, "micro_batch_size": 1, "gradient_checkpointing": True},
        # Some pairs are exempt, in one process or both; those that are not share a λ.
        "global": {
            "objective": "dmpo",
            "safeguard": {"mu": 0.5, "granularity": "global", "pulled_back": "exempt"},
            "micro_batch_size": 1,
        },
        "sft": {"objective": "sft"},
    }
    made = [tiny_job(tiny_sd15_world, **SETTINGS, **own) for own in variants.values()]
    jobs = [{**job, "variant": name} for job, name in zip(made, variants, strict=True)]
    jobs[1]["objective"]["parameters"] = {"beta": 2000.0}
    done = in_two_processes({"together": jobs}, *SHARED, change=HELD)
    assert done.returncode == 0, done.stderr
    held = [json.loads(line[5:]) for line in done.stdout.splitlines() if line.startswith("held ")]
    assert len(held) == 2 * len(jobs) * SETTINGS["steps"]
    for name, (_, whole) in held[0].items():
        shares = [counts[name][0] for counts in held]
        # Each has half of every tensor, but for those whose first dimension is odd.
        assert max(shares) < 0.51 * whole, name
        assert sum(shares) == whole * len(shares) / 2, name
    start = load_file(Path(tiny_sd15_world[0]["path"]) / "unet/diffusion_pytorch_model.safetensors")
    for job in jobs:
        as_whole_copies_train(job, start)


@pytest.mark.parametrize("tiny_flow_world", ["sd3"], indirect=True)
def test_shares_of_a_transformer_train_the_model_that_whole_copies_train(
    in_two_processes: Started, tiny_flow_world: World, tiny_job: Job
) -> None:
    job = tiny_job(tiny_flow_world, **SETTINGS, safeguard={"mu": 0.5, "granularity": "sample"})
    done = in_two_processes(job, *SHARED)
    assert done.returncode == 0, done.stderr
    as_whole_copies_train(
        job, load_file(Path(tiny_flow_world[0]["path"]) / "transformer/diffusion_pytorch_model.safetensors")
    )


def test_shares_or_a_whole_copy_go_on_where_shares_were_stopped(
    in_two_processes: Started, tiny_sd15_world: World, tiny_job: Job
) -> None:
    """To the bit, where shares go on; on the way all draw the sample images and give their shares of an export."""
    settings = {**SETTINGS, "export_at": [1], "sample_every": 2, "sample_prompts": 1}
    settings |= {"safeguard": {"mu": 0.5, "granularity": "sample"}}
    quick = "from sdpo.training import sample_images; sample_images.STEPS = 2"
    whole, cut, one = (tiny_job(tiny_sd15_world, root=root, **settings) for root in ("whole", "cut", "one"))
    assert (done := in_two_processes(whole, *SHARED, change=quick)).returncode == 0, done.stderr
    done = in_two_processes(cut, *SHARED, "--minutes", "0.0001")
    assert "variant seed 0: left after step 1 of 2, its state saved" in done.stderr
    shutil.copytree(cut["root"], one["root"])
    assert (done := in_two_processes(cut, *SHARED, change=quick)).returncode == 0, done.stderr
    assert done.stderr.count("variant seed 0: resumed at step 1 of 2") == 1
    train(one)
    for variant in ("variant", "variant@1"):
        first, second = (weights({**job, "variant": variant}) for job in (whole, cut))
        assert all(torch.equal(x, second[name]) for name, x in first.items())
    pd.testing.assert_frame_equal(table(one, "training")[COMPARED], table(whole, "training")[COMPARED], rtol=1e-2)
    models = Path(whole["root"], "models")
    drawn = sorted(path.relative_to(models).as_posix() for path in models.rglob("*.png"))
    assert drawn == [
        "tiny/variant/seed0/samples/step-00000001/00.png",
        "tiny/variant/seed0/samples/step-00000002/00.png",
        "tiny/variant@1/seed0/samples/step-00000001/00.png",
    ]


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        (
            {"lora": {"rank": 2}},
            r"training\.lora is \{.*\}: expected nothing: all weights are trained, under",
        ),
        ({"optimizer": "adafactor"}, "training.optimizer is 'adafactor': expected adamw or adam: moments of the"),
        ({"optimizer": "adamw_8bit"}, "training.optimizer is 'adamw_8bit': expected adamw or adam: moments of the"),
        ({"compile": True}, "training.compile is True: expected false, under execution.sharding: fsdp2"),
        ({"channels_last": True}, "training.channels_last is True: expected false: shares"),
    ],
)
def test_settings_that_shares_do_not_allow(settings: dict[str, Any], said: str) -> None:
    given = {"lora": None, "optimizer": "adam", "compile": False, "channels_last": False}
    sharding.check(given, "sd3", bases.REGISTRY.load("sd3"))
    with pytest.raises(InputError, match=said):
        sharding.check(given | settings, "sd3", bases.REGISTRY.load("sd3"))


def test_processes_whose_prompts_are_of_other_lengths_cannot_share_ovis_u1() -> None:
    """They would wait for each other: it makes a pass for each length of the prompts of a micro-batch."""
    with pytest.raises(InputError, match="--sharding is fsdp2: expected replicated: base family 'ovis_u1'"):
        sharding.check({}, "ovis_u1", bases.REGISTRY.load("ovis_u1"))


def test_one_process_has_nobody_to_share_with(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    with pytest.raises(InputError, match="--sharding is fsdp2, which shares a model out; expected --processes of at"):
        join("cpu", "fsdp2")
