"""AdamW with moments in 8 bits, by bitsandbytes on the CPU: ``make test-eight-bit``."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
from safetensors.torch import load_file

from artifacts import layout
from sdpo.bases import open_described
from sdpo.training import checkpoint, optimizers
from sdpo.training.job import train
from sdpo.training.optimizers import EXTRAS
from sdpo.training.time_budget import StoppedEarly, TimeBudget

pytest.importorskip(EXTRAS["adamw_8bit"], reason="there is no bitsandbytes; make test-eight-bit puts it beside")

World = tuple[dict[str, str], Path]
Job = Callable[..., dict[str, Any]]
SHAPES = [(512, 512), (100, 101), (64, 64, 3, 3), (4095,), (5, 4)]
"""Above and below 4096 numbers, and of sizes that no block divides."""


def trained(
    name: str, steps: int, *, decay: float = 0.5, seed: int = 0
) -> tuple[torch.optim.Optimizer, list[torch.Tensor]]:
    """Weights that noisy gradients draw towards 1, and the optimizer that moved them."""
    random = torch.Generator().manual_seed(seed)
    weights = [torch.nn.Parameter(torch.randn(shape, generator=random)) for shape in SHAPES]
    optimizer = optimizers.create(name, weights, learning_rate=0.01, weight_decay=decay)
    for _ in range(steps):
        for weight in weights:
            weight.grad = 0.3 * (weight.detach() - 1) + 0.1 * torch.randn(weight.shape, generator=random)
        optimizer.step()
    return optimizer, [weight.detach() for weight in weights]


def apart(one: list[torch.Tensor], other: list[torch.Tensor]) -> list[float]:
    """How far two trainings end from each other, as a share of how far the second one went, a tensor."""
    start = trained("adamw", 0)[1]
    return [float((x - y).norm() / (y - z).norm()) for x, y, z in zip(one, other, start, strict=True)]


def tensors(state: Any) -> Iterator[torch.Tensor]:
    if isinstance(state, torch.Tensor):
        yield state
    elif isinstance(state, dict):
        for value in state.values():
            yield from tensors(value)


def state_bytes(optimizer: torch.optim.Optimizer) -> list[int]:
    """Bytes of each tensor's state, without the table of the 256 values, which all share."""
    found = optimizer.state_dict()["state"].values()
    return [sum(x.nbytes for x in tensors(state) if x.shape != (256,)) for state in found]


def test_two_bytes_a_number_and_a_scale_for_each_256() -> None:
    sizes = [torch.Size(shape).numel() for shape in SHAPES]
    blocks = [-(-size // 256) for size in sizes]
    eight = [2 * size + 2 * 4 * count for size, count in zip(sizes[:3], blocks[:3], strict=True)]
    small = [8 * size for size in sizes[3:]]
    assert state_bytes(trained("adamw_8bit", 1)[0]) == eight + small
    assert sum(eight) / sum(sizes[:3]) == pytest.approx(2.03125, rel=1e-3)
    # A step count of four bytes beside the two moments.
    assert state_bytes(trained("adamw", 1)[0]) == [8 * size + 4 for size in sizes]


def test_the_first_step_sees_moments_before_they_are_rounded() -> None:
    assert max(apart(trained("adamw_8bit", 1)[1], trained("adamw", 1)[1])) < 1e-5


def test_it_goes_where_adamw_goes() -> None:
    """Measured: 1.8 % apart after 40 steps. Decay that is part of the gradient, as Adam's, leads elsewhere."""
    eight, full, adam = (trained(name, 40)[1] for name in ("adamw_8bit", "adamw", "adam"))
    found = apart(eight, full)
    assert all(0.005 < share < 0.03 for share in found[:3])
    assert max(found[3:]) < 1e-4
    assert min(apart(adam, full)) > 0.1


def weights(job: dict[str, Any]) -> torch.Tensor:
    folder = layout.model(job["root"], "tiny/variant/seed0")
    found = load_file(folder / "unet" / "diffusion_pytorch_model.safetensors")
    return torch.cat([found[name].flatten().double() for name in sorted(found)])


def start(world: World) -> torch.Tensor:
    found = open_described(world[0]).load_denoiser("cpu").state_dict()
    return torch.cat([found[name].flatten().double() for name in sorted(found)])


@pytest.mark.parametrize("ema_decay", [None, 0.5])
def test_a_training_ends_near_adamws(tiny_sd15_world: World, tiny_job: Job, ema_decay: float | None) -> None:
    """With gradients that are clipped and an average that is exported. Measured: 1.6 % apart."""
    shared = {"steps": 12, "ema_decay": ema_decay, "max_grad_norm": 0.01, "safeguard": {"mu": 0.5}}
    ends = {}
    for name in ("adamw", "adamw_8bit"):
        job = tiny_job(tiny_sd15_world, root=name, optimizer=name, **shared)
        train(job)
        ends[name] = weights(job)
        log = pd.read_parquet(layout.model(job["root"], "tiny/variant/seed0") / "training.parquet")
        assert (log["grad_norm"] > 0.01).all()
    moved = (ends["adamw"] - start(tiny_sd15_world)).norm()
    share = float((ends["adamw_8bit"] - ends["adamw"]).norm() / moved)
    assert 0.004 < share < 0.05


@pytest.mark.parametrize("settings", [{"ema_decay": 0.9}, {"lora": {"rank": 256}}, {"schedule": "cosine"}])
def test_a_run_that_left_after_every_step_ends_in_the_same_bits(
    tiny_sd15_world: World, tiny_job: Job, settings: dict[str, Any]
) -> None:
    shared = {"optimizer": "adamw_8bit", "steps": 4, **settings}
    whole, broken = (tiny_job(tiny_sd15_world, root=root, **shared) for root in ("whole", "broken"))
    train(whole)
    for _ in range(3):
        with pytest.raises(StoppedEarly):
            train(broken, TimeBudget(0.0))
    (path,) = sorted(Path(broken["root"]).rglob("step-00000003.pt"))
    assert any(
        x.dtype == torch.uint8 and x.unique().numel() > 100
        for x in tensors(checkpoint.read(path)["optimizer"]["state"])
    )
    train(broken)
    assert torch.equal(weights(whole), weights(broken))


def test_the_model_says_which_release_trained_it(tiny_sd15_world: World, tiny_job: Job) -> None:
    job = tiny_job(tiny_sd15_world, optimizer="adamw_8bit", steps=1)
    train(job)
    provenance = json.loads((layout.model(job["root"], "tiny/variant/seed0") / "provenance.json").read_text())
    assert provenance["packages"]["bitsandbytes"].split(".")[0] == "0"
    job = tiny_job(tiny_sd15_world, root="plain", steps=1)
    train(job)
    provenance = json.loads((layout.model(job["root"], "tiny/variant/seed0") / "provenance.json").read_text())
    assert "bitsandbytes" not in provenance["packages"]
