"""What trains, what stays, what is exported: LoRA and moving averages on bases shaped like the real ones."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
from diffusers import StableDiffusionPipeline, StableDiffusionXLPipeline, UNet2DConditionModel
from safetensors.torch import load_file

from artifacts import layout
from artifacts.errors import InputError
from sdpo.bases import open_described
from sdpo.bases.sd15 import StableDiffusion
from sdpo.training.job import train
from sdpo.training.lora import FILE, Adapters
from sdpo.training.policy import MovingAverage, Policy
from sdpo.training.precision import Precision
from sdpo.training.settings import LoraSettings, TrainingSettings

World = tuple[dict[str, str], Path]
Job = Callable[..., dict[str, Any]]
LORA = {"rank": 2, "alpha": 8.0}


def policy(world: World, job: dict[str, Any]) -> Policy:
    settings = TrainingSettings(**job["training"])
    return Policy(open_described(world[0]), settings, Precision(), reference_decay=1.0, seed=0)


def prediction(denoiser: Any, world: World) -> torch.Tensor:
    """Of one noisy latent, at random conditions."""
    random = torch.Generator().manual_seed(1)
    base = open_described(world[0])
    conditions = {name: torch.randn(1, 16, width, generator=random) for name, width in base.condition_widths.items()}
    if "pooled" in conditions:
        conditions["pooled"] = conditions["pooled"][:, 0]
    conditions |= base.image_conditions(torch.tensor([[32, 32, 0, 0, 32, 32]]))
    with torch.no_grad():
        return base.predict(denoiser, torch.randn(1, 4, 16, 16, generator=random), torch.tensor([7]), conditions)


def trained(world: World, job: dict[str, Any]) -> Path:
    train(job)
    return layout.model(job["root"], "tiny/variant/seed0")


def perturb(adapters: Adapters) -> None:
    """Weights that make a difference, as after training."""
    random = torch.Generator().manual_seed(5)
    adapters.load({name: 0.1 * torch.randn(p.shape, generator=random) for name, p in adapters.weights().items()})


def test_reference_of_adapters_is_the_policy_without_them(tiny_world: World, tiny_job: Job) -> None:
    found = policy(tiny_world, tiny_job(tiny_world, lora=LORA))
    base = prediction(open_described(tiny_world[0]).load_denoiser(), tiny_world)
    # B starts as zero.
    assert torch.equal(prediction(found.denoiser, tiny_world), base)
    assert found.adapters is not None
    perturb(found.adapters)
    assert not torch.allclose(prediction(found.denoiser, tiny_world), base, atol=1e-3)
    with found.as_reference() as reference:
        assert torch.equal(prediction(reference, tiny_world), base)
    assert all(p.requires_grad for p in found.trained)
    assert {p.shape[0] == 2 or p.shape[1] == 2 for p in found.trained} == {True}


def test_adapters_train_and_nothing_else(tiny_world: World, tiny_job: Job) -> None:
    job = tiny_job(tiny_world, lora=LORA, learning_rate=1e-3)
    out = trained(tiny_world, job)
    base = load_file(Path(tiny_world[0]["path"]) / "unet" / "diffusion_pytorch_model.safetensors")
    merged = load_file(out / "unet" / "diffusion_pytorch_model.safetensors")
    changed = {name for name in base if not torch.equal(base[name], merged[name])}
    assert base.keys() == merged.keys()
    assert changed
    targets = ("to_q.weight", "to_k.weight", "to_v.weight", "to_out.0.weight")
    assert {name for name in base if name.endswith(targets)} == changed
    layers = load_file(out / FILE)
    assert len(layers) == 2 * len(changed)
    # W' = W + (alpha / rank) B A
    name = sorted(changed)[0].removesuffix(".weight")
    product = layers[f"unet.{name}.lora_B.weight"] @ layers[f"unet.{name}.lora_A.weight"]
    torch.testing.assert_close(merged[f"{name}.weight"], base[f"{name}.weight"] + 4.0 * product, rtol=1e-5, atol=1e-7)


def test_written_adapters_are_read_by_the_pipeline_and_equal_the_merged_denoiser(
    tiny_world: World, tiny_job: Job, tmp_path: Path
) -> None:
    found = policy(tiny_world, tiny_job(tiny_world, lora=LORA))
    assert found.adapters is not None
    perturb(found.adapters)
    own = prediction(found.denoiser, tiny_world)
    found.export(tmp_path)
    merged = UNet2DConditionModel.from_pretrained(tmp_path / "unet")
    torch.testing.assert_close(prediction(merged, tiny_world), own, rtol=1e-4, atol=1e-5)
    kind = StableDiffusionPipeline if tiny_world[0]["family"] == "sd15" else StableDiffusionXLPipeline
    pipeline = kind.from_pretrained(tiny_world[0]["path"])
    pipeline.load_lora_weights(tmp_path, weight_name=FILE)
    torch.testing.assert_close(prediction(pipeline.unet, tiny_world), own, rtol=1e-4, atol=1e-5)
    # The policy goes on as it was.
    assert torch.equal(prediction(found.denoiser, tiny_world), own)


def test_start_of_adapters_depends_on_the_seed_alone(tiny_sd15_world: World) -> None:
    settings = LoraSettings(rank=4)
    base = open_described(tiny_sd15_world[0])
    starts = []
    for seed in (0, 0, 1):
        torch.manual_seed(len(starts))
        starts.append(Adapters(base.load_denoiser(), settings, seed).weights())
    name = next(name for name in starts[0] if "lora_A" in name)
    assert torch.equal(starts[0][name], starts[1][name])
    assert not torch.equal(starts[0][name], starts[2][name])
    values = torch.cat([value.flatten() for name, value in starts[0].items() if "lora_A" in name])
    assert float(values.std()) == pytest.approx(0.25, rel=0.1)


def test_unknown_target_is_named(tiny_sd15_world: World) -> None:
    denoiser = open_described(tiny_sd15_world[0]).load_denoiser()
    with pytest.raises(InputError, match=r"training.lora.targets: no layer .* named to_z; .*proj_in, to_k, to_q, to_v"):
        Adapters(denoiser, LoraSettings(targets=["to_q", "to_z"]), 0)


@pytest.mark.parametrize(("target", "kind"), [("norm1", "GroupNorm"), ("attn1", "Attention")])
def test_target_that_takes_no_adapter_is_named(tiny_sd15_world: World, target: str, kind: str) -> None:
    """Whatever else has a name of that ending: the first that is no layer of weights."""
    denoiser = open_described(tiny_sd15_world[0]).load_denoiser()
    message = (
        rf"training.lora.targets: '{target}' names \S+\.{target}, a {kind}; expected .* of Linear or Conv2d, such as"
    )
    with pytest.raises(InputError, match=message):
        Adapters(denoiser, LoraSettings(targets=["to_q", target]), 0)


def test_a_layer_of_convolution_takes_an_adapter(tiny_sd15_world: World) -> None:
    denoiser = open_described(tiny_sd15_world[0]).load_denoiser()
    names = Adapters(denoiser, LoraSettings(targets=["conv1"]), 0).named_parameters()
    assert names
    assert all(".conv1.lora_" in name for name in names)


@pytest.mark.parametrize("checkpointing", [False, True])
@pytest.mark.parametrize("lora", [None, {"rank": 2}])
def test_a_base_with_dropout_starts_equal_to_its_reference(
    tiny_sd15_world: World,
    tiny_job: Job,
    monkeypatch: pytest.MonkeyPatch,
    lora: dict[str, int] | None,
    checkpointing: bool,
) -> None:
    """ln 2 at the first step, and the same again, whatever the global random state."""
    load = StableDiffusion.load_denoiser

    def with_dropout(self: StableDiffusion) -> torch.nn.Module:
        denoiser = load(self)
        for module in denoiser.modules():
            if isinstance(module, torch.nn.Dropout):
                module.p = 0.3
        return denoiser

    monkeypatch.setattr(StableDiffusion, "load_denoiser", with_dropout)
    job = tiny_job(tiny_sd15_world, lora=lora, gradient_checkpointing=checkpointing, log_every=1)
    log = pd.read_parquet(trained(tiny_sd15_world, job) / "training.parquet")
    assert log.loc[0, "loss"] == pytest.approx(0.693147, abs=1e-5)
    assert log.loc[0, "grad_norm"] > 0


def test_checkpointing_recomputes_activations(
    tiny_sd15_world: World, tiny_job: Job, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the mode in which the policy runs; the library asks for gradients alone."""
    calls = []
    made = policy(tiny_sd15_world, tiny_job(tiny_sd15_world, gradient_checkpointing=True))
    block = made.denoiser.down_blocks[0].resnets[0]  # type: ignore[union-attr, index]
    block.register_forward_pre_hook(lambda *_: calls.append(None))
    base = open_described(tiny_sd15_world[0])
    conditions = {name: torch.randn(1, 16, width) for name, width in base.condition_widths.items()}
    found = base.predict(made.denoiser, torch.randn(1, 4, 16, 16), torch.tensor([7]), conditions)
    assert len(calls) == 1
    found.sum().backward()
    assert len(calls) == 2


def test_module_that_takes_no_adapters_is_refused() -> None:
    with pytest.raises(InputError, match=r"training.lora: a Linear cannot take adapters"):
        Adapters(torch.nn.Linear(1, 1), LoraSettings(), 0)


def test_moving_reference_needs_all_weights(tiny_sd15_world: World, tiny_job: Job) -> None:
    with pytest.raises(InputError, match=r"training.lora: this objective's reference follows the policy"):
        train(tiny_job(tiny_sd15_world, objective="linear_dpo", lora=LORA))


def test_moving_average_by_hand() -> None:
    weights = torch.nn.Parameter(torch.tensor([1.0]))
    average = MovingAverage([weights], 0.25)
    for step, value in ((1, 5.0), (2, 7.0), (3, 2.0)):
        weights.data.fill_(value)
        average.update(step)
    # Decays (1 + 1) / (10 + 1), then 0.25 = (1 + 2) / (10 + 2), then 0.25 again.
    first = 1.0 * 2 / 11 + 5.0 * 9 / 11
    expected = (first * 0.25 + 7.0 * 0.75) * 0.25 + 2.0 * 0.75
    with average.in_place():
        assert float(weights.detach()) == pytest.approx(expected, rel=1e-6)
    assert float(weights.detach()) == 2.0
    assert float(average.average[0]) == pytest.approx(expected, rel=1e-6)


def test_average_is_what_is_exported_and_measured(tiny_sd15_world: World, tiny_job: Job) -> None:
    """A decay of 0 is the weights themselves; one near 1 has hardly left the start after one step of two elevenths."""
    settings = {"steps": 1, "warmup_steps": 0, "learning_rate": 1e-2, "drift_every": 1}
    plain = trained(tiny_sd15_world, tiny_job(tiny_sd15_world, root="plain", **settings))
    none = trained(tiny_sd15_world, tiny_job(tiny_sd15_world, root="none", ema_decay=0.0, **settings))
    some = trained(tiny_sd15_world, tiny_job(tiny_sd15_world, root="some", ema_decay=0.99, **settings))
    file = "unet/diffusion_pytorch_model.safetensors"
    base, last, averaged = (load_file(folder / file) for folder in (Path(tiny_sd15_world[0]["path"]), plain, some))
    for name, value in load_file(none / file).items():
        torch.testing.assert_close(value, last[name], rtol=0, atol=1e-8)
        torch.testing.assert_close(averaged[name], base[name] * 2 / 11 + last[name] * 9 / 11, rtol=1e-5, atol=1e-7)
    import pandas as pd

    drifts = [pd.read_parquet(folder / "drift.parquet")["winner_drift"].iloc[-1] for folder in (plain, none, some)]
    assert drifts[0] == pytest.approx(drifts[1], rel=1e-4)
    assert drifts[2] != pytest.approx(drifts[0], rel=1e-3)
