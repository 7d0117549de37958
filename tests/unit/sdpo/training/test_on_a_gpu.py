"""What only a GPU can show: that training there is training on the CPU, and that each setting made for GPUs works."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import load_file

from artifacts import layout
from artifacts.contracts import read_table
from sdpo.bases import open_described
from sdpo.safeguard import safe_scale
from sdpo.training.job import train
from sdpo.training.time_budget import StoppedEarly, TimeBudget

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")

World = tuple[dict[str, str], Path]
Job = Callable[..., dict[str, Any]]
GUARD = {"mu": 0.5, "granularity": "microbatch"}


def changes(world: World, job: dict[str, Any]) -> tuple[torch.Tensor, pd.DataFrame]:
    """What a training has added to the base's weights, in one vector, and its log."""
    train(job)
    folder = layout.model(job["root"], f"tiny/{job['variant']}/seed0")
    after = load_file(folder / "unet" / "diffusion_pytorch_model.safetensors")
    before = open_described(world[0]).load_denoiser().state_dict()
    moved = torch.cat([(after[name] - before[name]).flatten().double() for name in sorted(after)])
    return moved, read_table(folder / "training.parquet", "training")


def cosine(a: torch.Tensor, b: torch.Tensor) -> float:
    return float(a @ b / (a.norm() * b.norm()))


@pytest.mark.parametrize("granularity", ["microbatch", "sample", "global"])
def test_float32_is_the_cpus_to_rounding(tiny_world: World, tiny_job: Job, granularity: str) -> None:
    def log(device: str) -> pd.DataFrame:
        guard = {"mu": 0.5, "granularity": granularity}
        job = tiny_job(tiny_world, root=device, device=device, safeguard=guard, micro_batch_size=2)
        return changes(tiny_world, job)[1]

    cpu, gpu = log("cpu"), log("cuda")
    for column in ("loss", "grad_norm", "winner_drift", "safe_scale_mean", "residual_cosine"):
        # The first step sees the same weights; later ones weights that Adam has moved by signs of nearly nothing.
        assert gpu[column][0] == pytest.approx(cpu[column][0], rel=1e-4, abs=1e-6)
        np.testing.assert_allclose(gpu[column], cpu[column], rtol=2e-2, atol=1e-4)


@pytest.mark.parametrize(
    "settings",
    [
        {"precision": "bfloat16"},
        {"precision": "bfloat16", "tf32": True, "channels_last": True},
        {"precision": "bfloat16", "gradient_checkpointing": True},
        {"precision": "bfloat16", "optimizer": "adafactor"},
        {"precision": "bfloat16", "micro_batch_size": 2},
        {"tf32": True},
        {"precision": "bfloat16", "ema_decay": 0.5},
    ],
    ids=lambda settings: "+".join(f"{key}={value}" for key, value in settings.items()),
)
def test_settings_for_gpus_train_the_same_way(tiny_world: World, tiny_job: Job, settings: dict[str, Any]) -> None:
    kept = {key: settings[key] for key in ("optimizer", "ema_decay") if key in settings}
    shared = {"device": "cuda", "safeguard": GUARD, "learning_rate": 1e-3, "warmup_steps": 0}
    exact, exact_log = changes(tiny_world, tiny_job(tiny_world, root="exact", **shared, **kept))
    moved, log = changes(tiny_world, tiny_job(tiny_world, root="fast", **shared, **settings))
    assert np.isfinite(log["loss"]).all()
    assert log["loss"][0] == pytest.approx(exact_log["loss"][0], rel=2e-2)
    assert log["grad_norm"][0] == pytest.approx(exact_log["grad_norm"][0], rel=0.3)
    assert (log["peak_memory_bytes"] > 0).all()
    assert cosine(moved, exact) > 0.6


def test_adapters_and_compilation(tiny_world: World, tiny_job: Job) -> None:
    shared = {"device": "cuda", "safeguard": GUARD, "precision": "bfloat16", "lora": {"rank": 2}}
    plain, _ = changes(tiny_world, tiny_job(tiny_world, root="plain", **shared))
    compiled, log = changes(tiny_world, tiny_job(tiny_world, root="compiled", compile=True, **shared))
    assert np.isfinite(log["loss"]).all()
    assert plain.norm() > 0
    assert cosine(compiled, plain) > 0.6


def test_resuming_goes_on_with_the_same_run(tiny_world: World, tiny_job: Job) -> None:
    """To rounding: cuDNN's backward passes add in no fixed order."""
    shared = {"device": "cuda", "safeguard": GUARD, "precision": "bfloat16", "checkpoint_every": 1, "steps": 6}
    whole, log = changes(tiny_world, tiny_job(tiny_world, root="whole", **shared))
    job = tiny_job(tiny_world, root="parts", **shared)
    with pytest.raises(StoppedEarly):
        train(job, TimeBudget(0.0))
    resumed, resumed_log = changes(tiny_world, job)
    np.testing.assert_allclose(resumed_log["loss"], log["loss"], rtol=1e-2)
    assert resumed_log["step"].tolist() == log["step"].tolist()
    assert cosine(resumed, whole) > 0.9


def test_cached_on_a_gpu_as_on_the_cpu(
    tiny_world: World, tmp_path: Path, build_tiny_cache: Callable[..., None]
) -> None:
    base, on_cpu = tiny_world
    build_tiny_cache(base, tmp_path / "gpu", device="cuda")
    files = sorted(p.relative_to(on_cpu) for p in on_cpu.rglob("*.safetensors"))
    assert files
    for file in files:
        here, there = load_file(on_cpu / file), load_file(tmp_path / "gpu" / file)
        assert here.keys() == there.keys()
        for name in here:
            torch.testing.assert_close(there[name], here[name], rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_the_scale_is_the_cpus(dtype: torch.dtype) -> None:
    generator = torch.Generator().manual_seed(0)
    winner, loser = (torch.randn(4, 4, 64, 64, generator=generator).to(dtype) for _ in range(2))
    loser = loser + 0.5 * winner
    here = safe_scale(winner, loser, mu=0.3, granularity="sample")
    there = safe_scale(winner.cuda(), loser.cuda(), mu=0.3, granularity="sample")
    assert there.device.type == "cuda"
    torch.testing.assert_close(there.cpu(), here, rtol=1e-6, atol=1e-7)
