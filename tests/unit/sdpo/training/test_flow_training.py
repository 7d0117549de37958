"""Training of bases of rectified flow: what is predicted, drawn, written, and gone on from."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from artifacts import layout
from artifacts.errors import InputError
from sdpo.bases import Base, open_described
from sdpo.diffusion.timesteps import TimestepSettings, drawn_timesteps
from sdpo.pairs import cache
from sdpo.training.job import train
from sdpo.training.lora import FILE, Adapters
from sdpo.training.policy import Policy
from sdpo.training.precision import Precision
from sdpo.training.settings import LoraSettings, TrainingSettings

World = tuple[dict[str, str], Path]
Job = Callable[..., dict[str, Any]]
SAFE = {"mu": 0.5, "granularity": "sample"}


def inputs(base: Base) -> tuple[torch.Tensor, torch.Tensor, dict[str, torch.Tensor]]:
    """Noisy latents, σ and conditions of two prompts."""
    random = torch.Generator().manual_seed(1)
    conditions = base.encode_prompts(["a red cat", "the sea"])
    conditions |= base.image_conditions(torch.tensor([[32, 32, 0, 0, 32, 32]] * 2))
    return torch.randn(2, 4, 16, 16, generator=random), torch.tensor([0.2, 0.7]), conditions


def predicted(base: Base, denoiser: Any) -> torch.Tensor:
    with torch.no_grad():
        return base.predict(denoiser, *inputs(base))


def weights(folder: Path) -> dict[str, torch.Tensor]:
    found: dict[str, torch.Tensor] = load_file(folder / "transformer" / "diffusion_pytorch_model.safetensors")
    return found


def test_a_training_ends_in_a_model_of_the_library_and_goes_on_to_the_bit(
    tiny_flow_world: World, tiny_job: Job, tmp_path: Path
) -> None:
    settings = {"precision": "float32", "ema_decay": 0.5, "safeguard": SAFE, "drift_every": 2, "checkpoint_every": 2}
    settings |= {"timesteps": {"density": "logit_normal", "shift": 3.0}, "keep_state": True, "learning_rate": 1e-3}
    whole = {**tiny_job(tiny_flow_world, **settings), "root": str(tmp_path / "whole")}
    train(whole)
    cut = {**whole, "root": str(tmp_path / "cut"), "training": {**whole["training"], "steps": 2}}
    train(cut)
    train({**cut, "training": whole["training"]})
    models = [layout.model(root, "tiny/variant/seed0") for root in (whole["root"], cut["root"])]
    first, second = (weights(model) for model in models)
    base = open_described(tiny_flow_world[0])
    before = base.load_denoiser().state_dict()
    assert first.keys() == before.keys()
    assert any(not torch.equal(first[name], before[name]) for name in first)
    for name, tensor in first.items():
        assert torch.equal(tensor, second[name]), name
    kind: Any = type(base.load_denoiser())
    loaded = kind.from_pretrained(models[0] / "transformer")
    assert not torch.allclose(predicted(base, loaded), predicted(base, base.load_denoiser()), atol=1e-5)


def test_adapters_are_read_by_the_librarys_pipeline(tiny_flow_world: World, tiny_job: Job, tmp_path: Path) -> None:
    from diffusers import DiffusionPipeline

    base = open_described(tiny_flow_world[0])
    targets = {"targets": ["qkv", "proj"]} if tiny_flow_world[0]["family"] == "ovis_u1" else {}
    settings = TrainingSettings(**tiny_job(tiny_flow_world, lora={"rank": 2, "alpha": 8.0, **targets})["training"])
    policy = Policy(base, settings, Precision(), reference_decay=1.0, seed=0)
    assert policy.adapters is not None
    random = torch.Generator().manual_seed(5)
    policy.adapters.load(
        {name: 0.1 * torch.randn(p.shape, generator=random) for name, p in policy.adapters.weights().items()}
    )
    own = predicted(base, policy.denoiser)
    assert not torch.allclose(own, predicted(base, base.load_denoiser()), atol=1e-3)
    policy.export(tmp_path)
    merged = base.load_denoiser()
    merged.load_state_dict(weights(tmp_path))
    torch.testing.assert_close(predicted(base, merged), own, rtol=1e-4, atol=1e-5)
    if targets:
        loaded: Any = base.load_denoiser()
        loaded.load_lora_adapter(tmp_path, weight_name=FILE, prefix="transformer")
        torch.testing.assert_close(predicted(base, loaded), own, rtol=1e-4, atol=1e-5)
        return
    pipeline = DiffusionPipeline.from_pretrained(tiny_flow_world[0]["path"])
    if not hasattr(pipeline, "load_lora_weights"):
        # Ovis-Image's pipeline reads no adapters; its transformer does.
        pipeline.transformer.load_lora_adapter(tmp_path, weight_name=FILE, prefix="transformer")
    else:
        pipeline.load_lora_weights(tmp_path, weight_name=FILE)
    torch.testing.assert_close(predicted(base, pipeline.transformer), own, rtol=1e-4, atol=1e-5)


def test_targets_of_adapters_that_the_transformer_does_not_have(
    tiny_flows: dict[str, Path], tiny_pipelines: Any
) -> None:
    language = tiny_pipelines.ovis_u1_language()
    base = open_described({"family": "ovis_u1", "path": str(tiny_flows["ovis_u1"]), "language": language})
    with pytest.raises(InputError, match=r"training.lora.targets: no layer .* named to_k; .* such as proj, qkv"):
        Adapters(base.load_denoiser(), LoraSettings(), seed=0)


@pytest.mark.slow
def test_sides_that_are_no_whole_tokens(tiny_flow_world: World) -> None:
    base = open_described(tiny_flow_world[0])
    with pytest.raises(InputError, match=r"images of 36 x 34 pixels: expected multiples of 4.*set encoding.resolution"):
        base.encode_images([Image.new("RGB", (36, 34))])


@pytest.mark.slow
def test_a_cache_of_a_text_encoder_that_is_left_out(
    tiny_flows: dict[str, Path], build_tiny_cache: Callable[..., None], tmp_path: Path
) -> None:
    base = {"name": "tiny", "family": "sd3", "path": str(tiny_flows["sd3"])}
    build_tiny_cache(base, tmp_path / "pairs")
    less: Any = {**base, "without": ["text_encoder_3"]}
    with pytest.raises(InputError, match=r"encoded with another 'text_encoder_3' than this base has .*and none"):
        cache.check_fits(tmp_path / "pairs", open_described(less))
    cache.check_fits(tmp_path / "pairs", open_described(base))


def test_another_chat_template_makes_another_cache(tiny_flows: dict[str, Path], tmp_path: Path) -> None:
    import shutil

    copy = tmp_path / "base"
    shutil.copytree(tiny_flows["ovis_image"], copy)
    template = copy / "tokenizer" / "chat_template.jinja"
    template.write_text(template.read_text().replace("assistant", "painter"))
    first, second = (open_described({"family": "ovis_image", "path": str(p)}) for p in (tiny_flows["ovis_image"], copy))
    one, other = first.encoder_digests(), second.encoder_digests()  # type: ignore[attr-defined]
    assert {part for part in one if one[part] != other[part]} == {"template"}


def test_guidance_that_a_transformer_is_told(tiny_flows: dict[str, Path]) -> None:
    described = {"family": "flux", "path": str(tiny_flows["flux"])}
    usual, low = open_described(described), open_described(described, embedded_guidance=1.0)
    assert usual.image_conditions(torch.zeros(2, 6))["guidance"].tolist() == [3.5, 3.5]
    denoiser = usual.load_denoiser()
    assert not torch.allclose(predicted(usual, denoiser), predicted(low, denoiser), atol=1e-4)
    with pytest.raises(InputError, match=r"base family 'sd3' has no choice of .*leave training.embedded_guidance out"):
        open_described({"family": "sd3", "path": str(tiny_flows["sd3"])}, embedded_guidance=1.0)


def test_schnell_is_told_none(tiny_pipelines: Any, tmp_path: Path) -> None:
    described = {"family": "flux", "path": str(tiny_pipelines.save_flux(tmp_path / "base", guidance=False))}
    assert open_described(described).image_conditions(torch.zeros(2, 6)) == {}
    with pytest.raises(InputError, match=r"training.embedded_guidance is 3.5, but the transformer of .* is told no"):
        open_described(described, embedded_guidance=3.5)


def test_densities_of_timesteps(tiny_flows: dict[str, Path], tiny_sd15: Path) -> None:
    flow = open_described({"family": "sd3", "path": str(tiny_flows["sd3"])})
    ddpm = open_described({"family": "sd15", "path": str(tiny_sd15)})

    def drawn(base: Base, **settings: Any) -> torch.Tensor:
        return drawn_timesteps(base, 40_000, torch.Generator().manual_seed(0), TimestepSettings(**settings))

    # Quartiles of a normal of mean 0.5 and standard deviation 2: 0.5 ± 2 × 0.6745, as shares of noise.
    quartiles = torch.tensor([0.25, 0.5, 0.75])
    expected = (0.5 + 2 * torch.tensor([-0.6745, 0.0, 0.6745])).sigmoid()
    normal = {"density": "logit_normal", "mean": 0.5, "std": 2.0}
    torch.testing.assert_close(drawn(flow, **normal).quantile(quartiles), expected, rtol=0, atol=0.01)
    torch.testing.assert_close(drawn(ddpm, **normal).float().quantile(quartiles) / 1000, expected, rtol=0, atol=0.01)
    # The median of a uniform density under a shift of 3: 3 × 0.5 / (1 + 2 × 0.5).
    assert float(drawn(flow, shift=3.0).median()) == pytest.approx(0.75, abs=0.01)
    far = drawn(ddpm, density="logit_normal", mean=40.0)
    assert far.unique().tolist() == [999]
    with pytest.raises(InputError, match=r"training.timesteps.shift is 3, but .* predicts epsilon; .*leave it out"):
        drawn(ddpm, shift=3.0)


def test_what_adapters_leave_alone_is_kept_as_autocast_rounds_it(tiny_flow_world: World, tiny_job: Job) -> None:
    """To the bit the same predictions and gradients, and half of the memory."""
    base = open_described(tiny_flow_world[0])
    lora = {"rank": 2, "targets": ["qkv", "proj"] if tiny_flow_world[0]["family"] == "ovis_u1" else ["to_q", "to_v"]}
    job = tiny_job(tiny_flow_world, lora=lora, precision="bfloat16")
    settings = TrainingSettings(**job["training"])
    computing = Precision(precision="bfloat16")
    kept = Policy(base, settings, computing, reference_decay=1.0, seed=0)
    exact = Policy(base, settings, Precision(), reference_decay=1.0, seed=0)
    found = []
    for policy in (kept, exact):
        assert policy.adapters is not None
        random = torch.Generator().manual_seed(5)
        policy.adapters.load(
            {name: 0.1 * torch.randn(p.shape, generator=random) for name, p in policy.adapters.weights().items()}
        )
        out = computing.predict(base, policy.denoiser, *inputs(base))
        out.square().mean().backward()
        found.append([out.detach(), *(p.grad for p in policy.trained)])
    assert all(torch.equal(a, b) for a, b in zip(*found, strict=True))
    sizes = [
        sum(p.numel() * p.element_size() for p in policy.denoiser.parameters() if not p.requires_grad)
        for policy in (kept, exact)
    ]
    assert sizes[0] / sizes[1] < 0.6
    assert {p.dtype for p in kept.trained} == {torch.float32}
