from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch

from artifacts import layout
from artifacts.errors import InputError
from sdpo.bases import open_base, open_described
from sdpo.objectives import create
from sdpo.pairs import cache
from sdpo.training import precision
from sdpo.training.heldout_drift import HeldoutProbe
from sdpo.training.job import TrainingRun, TrainingSettings, train
from sdpo.training.precision import find_device

World = tuple[dict[str, str], Path]
Job = Callable[..., dict[str, Any]]


def run_of(world: World, job: dict[str, Any], guard: dict[str, Any] | None = None) -> TrainingRun:
    base, settings = open_described(world[0]), TrainingSettings(**job["training"])
    pairs, heldout = (cache.load(world[1], split, base=base) for split in ("train", "heldout"))
    probe = HeldoutProbe(base, heldout, 4, precision=precision.create(settings, "cpu"))
    return TrainingRun(
        base, create("diffusion_dpo", beta=2000.0, safeguard=guard), settings, pairs, probe, 0, label="x"
    )


def gradients(run: TrainingRun) -> list[torch.Tensor]:
    (drawn,) = run.drawn(1)
    run.gradients.fill(drawn.split(len(drawn)), len(drawn))
    return [p.grad for p in run.policy.trained if p.grad is not None]


def relative(a: list[torch.Tensor], b: list[torch.Tensor]) -> float:
    distance = sum(float((x - y).detach().square().sum()) for x, y in zip(a, b, strict=True)) ** 0.5
    return distance / sum(float(y.detach().square().sum()) for y in b) ** 0.5


def test_without_a_gpu_everything_is_on_the_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert find_device("auto") == "cpu"
    assert find_device("cpu", local_index=3) == "cpu"
    with pytest.raises(
        InputError, match=r"training.device is 'cuda', process 0 .* needs a GPU .* finds 0; .*set .*cpu"
    ):
        find_device("cuda")


def test_each_process_has_a_gpu_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(precision, "_own_gpu", lambda: "cuda:7")
    assert [find_device("auto", local_index=i) for i in (None, 0, 1)] == ["cuda:7", "cuda:0", "cuda:1"]
    assert find_device("cpu", local_index=1) == "cpu"
    with pytest.raises(InputError, match=r"process 2 .* finds 2; lower execution.processes"):
        find_device("auto", local_index=2)


@pytest.mark.parametrize("family", ["sd15", "sdxl"])
def test_a_reference_that_stays_is_kept_as_autocast_rounds_it(
    family: str, tiny_sd15: Path, tiny_sdxl: Path, job: Job
) -> None:
    """To the bit the same predictions, and half of the memory."""
    base = open_base(family, {"sd15": tiny_sd15, "sdxl": tiny_sdxl}[family])
    settings = TrainingSettings(**{**job()["training"], "precision": "bfloat16"})
    computing = precision.create(settings, "cpu")
    exact, kept = (base.load_denoiser().requires_grad_(False) for _ in range(2))
    computing.prepared(kept, settings, trains=False, fixed=True)
    conditions = {**base.encode_prompts(["a cat", "a dog"]), **base.image_conditions(torch.full((2, 6), 32))}
    noisy = torch.randn(2, 4, 16, 16, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        first, second = (computing.predict(base, x, noisy, torch.tensor([3, 900]), conditions) for x in (exact, kept))
    assert torch.equal(first, second)
    sizes = [sum(p.numel() * p.element_size() for p in x.parameters()) for x in (exact, kept)]
    assert sizes[1] / sizes[0] == pytest.approx(0.5, abs=0.02)


def test_bfloat16_is_in_the_denoiser_alone(tiny_world: World, tiny_job: Job) -> None:
    run = run_of(tiny_world, tiny_job(tiny_world, precision="bfloat16"))
    inside = []
    layer = next(m for m in run.policy.denoiser.modules() if isinstance(m, torch.nn.Conv2d))
    layer.register_forward_hook(lambda module, given, out: inside.append((module.weight.dtype, out.dtype)))
    pair = run.gradients.predicted(*run.drawn(1))
    assert inside == [(torch.float32, torch.bfloat16)]
    predictions = (pair.policy_winner, pair.policy_loser, pair.reference_winner, pair.reference_loser)
    assert {x.dtype for x in predictions if x is not None} == {torch.float32}
    # docs/training.md: widened, not computed in float32.
    assert all(torch.equal(x, x.bfloat16().float()) for x in predictions if x is not None)
    # Policy and reference round alike, so that they agree to the last bit before the first step.
    assert torch.equal(pair.policy_winner, pair.reference_winner)
    assert run.measured_drift()["winner_drift"] == 0
    exact = run_of(tiny_world, tiny_job(tiny_world)).gradients.predicted(*run.drawn(1))
    assert 1e-4 < relative([pair.policy_winner], [exact.policy_winner]) < 3e-2


@pytest.mark.parametrize("lora", [None, {"rank": 2}])
@pytest.mark.parametrize("granularity", ["microbatch", "global"])
def test_checkpointed_gradients_are_those_of_activations_that_were_kept(
    tiny_sd15_world: World, tiny_job: Job, lora: dict[str, Any] | None, granularity: str
) -> None:
    guard = {"mu": 0.5, "granularity": granularity}
    runs = [
        run_of(tiny_sd15_world, tiny_job(tiny_sd15_world, lora=lora, gradient_checkpointing=x), guard)
        for x in (True, False)
    ]
    passes: list[bool] = []
    unet: Any = runs[0].policy.denoiser
    # The last block: what comes before the first adapter needs no gradient.
    unet.up_blocks[-1].resnets[-1].register_forward_pre_hook(lambda *_: passes.append(torch.is_grad_enabled()))
    found, expected = (gradients(run) for run in runs)
    # Each pass of the policy twice: one of both sides, or one a side; and once as the reference, without gradients.
    assert passes.count(True) == (2 if granularity == "microbatch" else 4)
    assert passes.count(False) == (0 if lora is None else 1)
    assert relative(found, expected) < 1e-6
    assert all(float(x.abs().max()) > 0 for x in expected if lora is None)


def test_channels_last_changes_the_layout_and_not_the_gradients(tiny_sd15_world: World, tiny_job: Job) -> None:
    run = run_of(tiny_sd15_world, tiny_job(tiny_sd15_world, channels_last=True))
    given: list[torch.Tensor] = []
    layer = next(m for m in run.policy.denoiser.modules() if isinstance(m, torch.nn.Conv2d) and m.kernel_size == (3, 3))
    layer.register_forward_pre_hook(lambda module, x: given.append(x[0]))
    found = gradients(run)
    assert given[0].is_contiguous(memory_format=torch.channels_last)
    assert layer.weight.is_contiguous(memory_format=torch.channels_last)
    assert relative(found, gradients(run_of(tiny_sd15_world, tiny_job(tiny_sd15_world)))) < 1e-4


def test_compiled_denoisers_keep_the_names_of_their_weights(
    tiny_sd15_world: World, tiny_job: Job, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a backend that compiles nothing: what is generated on this machine is PyTorch's matter."""
    compiled: list[torch.nn.Module] = []
    monkeypatch.setattr(torch.nn.Module, "compile", lambda module: compiled.append(module))
    run = run_of(tiny_sd15_world, tiny_job(tiny_sd15_world, compile=True))
    with run.policy.as_reference() as reference:
        assert compiled == [reference, run.policy.denoiser]
    base = open_described(tiny_sd15_world[0]).load_denoiser()
    assert run.policy.denoiser.state_dict().keys() == base.state_dict().keys()


@pytest.mark.parametrize("wanted", [True, False])
def test_tf32_is_as_asked_for_products_and_convolutions(tiny_sd15_world: World, tiny_job: Job, wanted: bool) -> None:
    before = torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32
    try:
        torch.backends.cuda.matmul.allow_tf32 = not wanted
        torch.backends.cudnn.allow_tf32 = not wanted
        precision.create(TrainingSettings(**tiny_job(tiny_sd15_world, tf32=wanted)["training"]), "cpu")
        assert (torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32) == (wanted, wanted)
    finally:
        torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32 = before


def test_everything_at_once_goes_through(tiny_world: World, tiny_job: Job) -> None:
    job = tiny_job(
        tiny_world,
        safeguard={"mu": 0.5, "granularity": "global"},
        micro_batch_size=2,
        lora={"rank": 2},
        ema_decay=0.9,
        precision="bfloat16",
        channels_last=True,
        gradient_checkpointing=True,
        optimizer="adafactor",
        schedule="cosine",
        scale_learning_rate=True,
    )
    train(job)
    log = pd.read_parquet(layout.model(job["root"], "tiny/variant/seed0") / "training.parquet")
    assert log["step"].tolist() == [1, 2, 3, 4]
    assert log["learning_rate"].max() == pytest.approx(4e-4)
    assert (log["grad_norm"] > 0).all()
    assert (log["loss"] != log["loss"].iloc[0]).any()
