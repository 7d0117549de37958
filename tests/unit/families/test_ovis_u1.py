"""Ovis-U1 from its original checkpoint: the transformer's numbers, the schedule, conditions, and what is refused."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from artifacts.errors import InputError
from evals.generation import external_models, prompt_embeddings
from evals.generation.pipelines import Pipeline, open_pipeline
from evals.generation.sampling import sample, start_noise
from evals.generation.settings import ExternalModel, SamplingSettings
from families.conditions import equal_lengths, joined, padded, picked
from families.flow import open_flow
from families.ovis_u1.transformer import OvisU1Transformer
from sdpo.bases import open_described
from sdpo.cli import main

PROMPTS = ["a red cat", "", "the cafe of an old town by the sea"]
IDS = ["p-0", "p-1", "p-2"]
SETTINGS = SamplingSettings(scheduler="euler", steps=5, guidance_scale=4.0, size=32)
SMALL: dict[str, Any] = {
    "in_channels": 4,
    "out_channels": 4,
    "vec_in_dim": 16,
    "context_in_dim": 6,
    "hidden_size": 16,
    "num_heads": 2,
    "depth": 1,
    "depth_single_blocks": 2,
    "axes_dim": (4, 2, 2),
}
OTHER: dict[str, Any] = {
    "qkv_bias": False,
    "guidance_embed": True,
    "axes_dim": (2, 4, 2),
    "theta": 100,
    "mlp_ratio": 2.5,
    "depth": 2,
    "depth_single_blocks": 0,
}


@pytest.fixture(scope="module")
def folder(tiny_flows: dict[str, Path]) -> Path:
    return tiny_flows["ovis_u1"]


@pytest.fixture(scope="module")
def language(tiny_pipelines: ModuleType) -> dict[str, Any]:
    found: dict[str, Any] = tiny_pipelines.ovis_u1_language()
    return found


@pytest.fixture(scope="module")
def pipeline(folder: Path, language: dict[str, Any]) -> Iterator[Pipeline]:
    made = open_pipeline(folder, size=32, language=language)
    yield made
    made.forget_text_encoders()


@pytest.mark.parametrize(
    ("changed", "count", "first", "last", "whole"),
    [
        ({}, 95, [-0.184047, -1.053058, -0.692856, 0.434733], [-2.664404, -0.890374, 1.853553, 1.305916], 55.59904),
        (OTHER, 107, [-2.339669, -4.837543, -0.009158, 4.389857], [-5.127248, -1.831443, 3.998927, 3.01108], 151.24547),
    ],
)
def test_the_transformer_computes_what_the_models_own_code_does(
    changed: dict[str, Any], count: int, first: list[float], last: list[float], whole: float
) -> None:
    """Figures of that code in float32, with these weights, on these inputs.

    Waves of a timestep have arguments of up to 3500, where one unit of float32's rounding is 2e-4.
    """
    made = OvisU1Transformer(**{**SMALL, **changed})
    assert len(made.state_dict()) == count
    with torch.no_grad():
        for number, parameter in enumerate(made.parameters()):
            waves = (torch.arange(parameter.numel(), dtype=torch.float64) * 0.7 + number).sin()
            parameter.copy_(waves.reshape(parameter.shape) * 0.4)

    def given(*shape: int, pace: float) -> torch.Tensor:
        return (torch.arange(math.prod(shape), dtype=torch.float64) * pace).cos().reshape(shape).float()

    places = torch.tensor([[0.0, row, column] for row in range(2) for column in range(3)])
    found: torch.Tensor = made(
        given(2, 6, 4, pace=1.3),
        places,
        given(2, 5, 6, pace=0.9),
        torch.tensor([0.25, 0.8]),
        torch.tensor([3.5, 1.0]),
    ).detach()
    torch.testing.assert_close(found[0, 0], torch.tensor(first), rtol=0, atol=2e-3)
    torch.testing.assert_close(found[1, 4], torch.tensor(last), rtol=0, atol=2e-3)
    assert float(found.abs().sum()) == pytest.approx(whole, rel=2e-4)


def test_gradient_checkpointing_leaves_gradients() -> None:
    torch.manual_seed(0)
    made = OvisU1Transformer(**SMALL).train()
    found = []
    for switched in (False, True):
        if switched:
            made.enable_gradient_checkpointing()  # type: ignore[no-untyped-call]
        made.zero_grad()
        torch.manual_seed(1)
        out = made(torch.randn(1, 6, 4), torch.zeros(6, 3), torch.randn(1, 5, 6), torch.tensor([0.5]))
        out.square().sum().backward()
        found.append({name: p.grad for name, p in made.named_parameters()})
    assert all(gradient is not None for gradient in found[0].values())
    for name, gradient in found[0].items():
        torch.testing.assert_close(gradient, found[1][name])


@pytest.mark.parametrize(
    ("shift", "expected"),
    [
        (None, [1.0, 0.75, 0.5, 0.25]),
        # 64 tokens: μ = 0.5 + 0.65 (64 − 256) / 3840 = 0.4675; t e^μ / (t e^μ + 1 − t).
        ({"timestep_shift": True}, [1.0, 0.827229, 0.614792, 0.347258]),
        # μ = 1 − 192 / 3840 = 0.95.
        ({"timestep_shift": True, "base_shift": 1.0, "max_shift": 2.0}, [1.0, 0.885807, 0.721115, 0.462915]),
    ],
)
def test_the_schedule_shifts_with_the_tokens(
    shift: dict[str, Any] | None,
    expected: list[float],
    tiny_pipelines: ModuleType,
    language: dict[str, Any],
    tmp_path: Path,
) -> None:
    model = open_flow(tiny_pipelines.save_ovis_u1(tmp_path / "base", **(shift or {})), language=language)
    assert model.scheduler(4, 16, 16).sigmas.tolist() == pytest.approx([*expected, 0.0], abs=2e-6)


@pytest.mark.slow
def test_texts_of_several_lengths_are_each_as_if_alone(pipeline: Pipeline) -> None:
    told = pipeline.encode_prompts(PROMPTS)
    alone = [pipeline.encode_prompts([prompt]) for prompt in PROMPTS]
    # Bytes of the words around a prompt, and four tokens in place of the image.
    lengths = [4 + len(f"\nDescribe the image by detailing {WORDS}:{prompt}") for prompt in (PROMPTS[0], PROMPTS[2])]
    assert told["text_lengths"].tolist() == [lengths[0], 4 + len("\nGenerate an image."), lengths[1]]
    # Of one width in the batch, whatever is in it: what is beyond a text is never seen.
    random = torch.Generator().manual_seed(0)
    noise = torch.randn(3, 4, 16, 16, generator=random)
    sigma = torch.tensor(700.0)
    spoiled = {**told, "text": told["text"].clone()}
    for row, length in enumerate(told["text_lengths"].tolist()):
        spoiled["text"][row, length:] = math.nan
    with torch.no_grad():
        together = pipeline.predict(pipeline.denoiser, noise, sigma, spoiled)
        for row, one in enumerate(alone):
            found = pipeline.predict(pipeline.denoiser, noise[row : row + 1], sigma, one)
            torch.testing.assert_close(together[row : row + 1], found, rtol=1e-5, atol=1e-5)
    assert float((together[0] - together[1]).abs().max()) > 0.1


WORDS = "the color, shape, size, texture, quantity, text, and spatial relationships of the objects"


@pytest.mark.slow
def test_images_do_not_hang_on_their_batch(pipeline: Pipeline) -> None:
    told, empty = pipeline.encode_prompts(PROMPTS), pipeline.empty_prompt(zeros=True)

    def drawn(*rows: int) -> torch.Tensor:
        some = [IDS[row] for row in rows]
        noise = start_noise(SETTINGS, some, pipeline.latent_shape)
        return sample(pipeline, pipeline.denoiser, picked(told, torch.tensor(rows)), empty, noise, SETTINGS)

    together = drawn(2, 0)
    torch.testing.assert_close(together[:1], drawn(2), rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(together[1:], drawn(0), rtol=1e-4, atol=1e-4)


def test_conditions_of_several_lengths_are_joined_and_parted() -> None:
    texts = [torch.full((length, 2), float(length)) for length in (3, 1, 4, 1)]
    both = joined([padded(texts[:2]), padded(texts[2:])])
    assert both["text"].shape == (4, 4, 2)
    parts = {tuple(rows.tolist()): text for rows, text in equal_lengths(both)}
    assert {rows: text.shape for rows, text in parts.items()} == {(0,): (1, 3, 2), (1, 3): (2, 1, 2), (2,): (1, 4, 2)}
    assert torch.equal(parts[2,][0], texts[2])


@pytest.mark.slow
def test_a_file_of_embeddings_has_texts_without_what_is_beyond_them(pipeline: Pipeline, tmp_path: Path) -> None:
    file = tmp_path / "embeddings.safetensors"
    made = prompt_embeddings.shared(file, pipeline, PROMPTS, zeros=True)
    read = prompt_embeddings.shared(file, pipeline, PROMPTS, zeros=True)
    for one, other in zip(made, read, strict=True):
        assert one.keys() == other.keys()
        assert all(torch.equal(one[name], other[name]) for name in one)
    assert len(load_file(file)["text"]) == int(made[0]["text_lengths"].sum())


def test_each_part_that_shapes_conditions_has_a_digest(
    folder: Path, tiny_pipelines: ModuleType, language: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = open_flow(folder, language=language).encoder_digests()
    again = open_flow(tiny_pipelines.save_ovis_u1(tmp_path / "same", shards=3), language=language).encoder_digests()
    assert again == before

    def differing(model: Any) -> set[str]:
        found = model.encoder_digests()
        return {part for part in before if found[part] != before[part]}

    other = tiny_pipelines.save_ovis_u1(tmp_path / "other", seed=1)
    assert differing(open_flow(other, language=language)) == {"language", "vae"}
    assert differing(open_flow(folder, language={**language, "revision": "a" * 40})) == {"revision"}
    monkeypatch.setattr("families.flow.ovis_u1.TEMPLATE", "another")
    assert differing(open_flow(folder, language=language)) == {"template"}


def test_a_trained_transformer_in_the_original_checkpoint(
    folder: Path,
    pipeline: Pipeline,
    tiny_pipelines: ModuleType,
    language: dict[str, Any],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    base = tiny_pipelines.save_ovis_u1(tmp_path / "base", shards=2)
    for file in base.glob("*.safetensors"):
        save_file({name: x.bfloat16() for name, x in load_file(file).items()}, file, metadata={"format": "pt"})
    trained = open_flow(folder, language=language).own_denoiser(torch.float32)
    with torch.no_grad():
        trained.img_in.weight.add_(1.0)
    trained.save_pretrained(tmp_path / "model/transformer")
    given = ["export-ovis-u1", str(tmp_path / "model"), "--base", str(base), "--to", str(tmp_path / "out")]
    assert main(given) == 0
    assert f"the checkpoint with {len(trained.state_dict())} tensors" in capsys.readouterr().out
    names = sorted(file.name for file in base.iterdir())
    assert sorted(file.name for file in (tmp_path / "out").iterdir()) == names
    changed = set()
    for file in (name for name in names if name.endswith(".safetensors")):
        before, after = load_file(base / file), load_file(tmp_path / "out" / file)
        assert before.keys() == after.keys()
        assert {x.dtype for x in after.values()} == {torch.bfloat16}
        changed |= {name for name in before if not torch.equal(before[name], after[name])}
    assert changed == {"visual_generator.backbone.img_in.weight"}
    drop_in = open_flow(tmp_path / "out", language=language).own_denoiser(torch.float32)
    assert torch.equal(drop_in.img_in.weight, trained.img_in.weight.bfloat16().float())
    assert main(given) == 2
    assert "is there; name a folder that is not" in capsys.readouterr().err
    # As a model from elsewhere, alone.
    model = ExternalModel(source=str(tmp_path / "model"))
    found = external_models.load(external_models.locate(model), pipeline)
    assert torch.equal(found.img_in.weight, trained.img_in.weight)


def test_adapters_from_elsewhere(pipeline: Pipeline, tmp_path: Path) -> None:
    layer = "double_blocks.0.img_attn.qkv"
    weight = pipeline.denoiser.state_dict()[f"{layer}.weight"]
    random = torch.Generator().manual_seed(4)
    down, up = torch.randn(2, weight.shape[1], generator=random), torch.randn(weight.shape[0], 2, generator=random)
    keys = {f"transformer.{layer}.lora_A.weight": down, f"transformer.{layer}.lora_B.weight": up}
    about = {"lora_adapter_metadata": json.dumps({"transformer.r": 2, "transformer.lora_alpha": 6})}
    save_file(keys, tmp_path / "pytorch_lora_weights.safetensors", metadata=about)
    model = ExternalModel(source=str(tmp_path))
    found = external_models.load(external_models.locate(model), pipeline).state_dict()
    torch.testing.assert_close(found[f"{layer}.weight"], weight + 3 * (up @ down), rtol=1e-5, atol=1e-5)
    same = [name for name, x in pipeline.denoiser.state_dict().items() if torch.equal(found[name], x)]
    assert len(same) == len(found) - 1


def test_a_transformer_that_is_told_the_guidance(
    tiny_pipelines: ModuleType, language: dict[str, Any], tmp_path: Path
) -> None:
    path = tiny_pipelines.save_ovis_u1(tmp_path / "base", guidance_embed=True)
    described = {"family": "ovis_u1", "path": str(path), "language": language}
    base, other = open_described(described), open_described(described, embedded_guidance=1.0)
    assert base.image_conditions(torch.zeros(1, 6))["guidance"].tolist() == [3.5]
    told = padded([torch.ones(3, 24)])
    inputs = torch.ones(1, 4, 16, 16), torch.tensor([0.5])
    with torch.no_grad():
        first, second = (
            one.predict(one.load_denoiser(), *inputs, {**told, **one.image_conditions(torch.zeros(1, 6))})
            for one in (base, other)
        )
    assert float((first - second).abs().max()) > 1e-3


def rewritten(folder: Path, change: Callable[[dict[str, torch.Tensor]], Any]) -> None:
    """Change the dictionary of weights."""
    state = load_file(folder / "model.safetensors")
    change(state)
    save_file(state, folder / "model.safetensors", metadata={"format": "pt"})


BACKBONE = "visual_generator.backbone."


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda s: [s.pop(f"{BACKBONE}img_in.{name}") for name in ("weight", "bias")],
            r"its weights are not those of config.json: '.*img_in.weight' is missing \(2 in all\); fetch",
        ),
        (
            lambda s: s.update({f"{BACKBONE}guidance_in.in_layer.bias": torch.zeros(1)}),
            r"'.*guidance_in.in_layer.bias' is unknown \(1 in all\)",
        ),
        (
            lambda s: s.update({f"{BACKBONE}img_in.bias": torch.zeros(3)}),
            r"'.*img_in.bias' has shape \(3,\), expected \(32,\) \(1 in all\)",
        ),
        (lambda s: s[f"{BACKBONE}img_in.bias"].fill_(math.nan), r"'.*img_in.bias' has values that are not finite"),
    ],
)
def test_weights_of_another_architecture(
    change: Callable[[dict[str, torch.Tensor]], Any],
    message: str,
    tiny_pipelines: ModuleType,
    language: dict[str, Any],
    tmp_path: Path,
) -> None:
    folder = tiny_pipelines.save_ovis_u1(tmp_path / "base")
    rewritten(folder, change)
    with pytest.raises(InputError, match=message) as error:
        open_flow(folder, language=language).own_denoiser(torch.float32)
    assert "\n" not in str(error.value)


def test_a_shard_that_is_missing(tiny_pipelines: ModuleType, language: dict[str, Any], tmp_path: Path) -> None:
    folder = tiny_pipelines.save_ovis_u1(tmp_path / "base", shards=2)
    (folder / "model-00002-of-00002.safetensors").unlink()
    with pytest.raises(InputError, match=r"model-00002-of-00002.safetensors: no such file \(1 of 2 in all\)"):
        open_flow(folder, language=language).own_denoiser(torch.float32)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"hidden_size": 34}, r"config.json: hidden_size is 34, expected a multiple of twice num_heads; fetch"),
        ({"axes_dim": [4, 6, 8]}, r"axes_dim is \[4, 6, 8\], expected three even numbers whose sum"),
        ({"axes_dim": [5, 5, 6]}, r"axes_dim is \[5, 5, 6\], expected three even numbers"),
        ({"vec_in_dim": 16}, r"vec_in_dim is 16, expected hidden_size, 32"),
        ({"context_in_dim": 12}, r"context_in_dim is 12, expected twice the hidden_size of llm_config, 12"),
        ({"in_channels": 64}, r"in_channels is 64, expected four times the channels of the autoencoder, 16"),
        ({"txt_type": "clip"}, r"txt_type is 'clip', expected 'refiner'"),
        ({"depth": "six"}, r"depth is 'six', expected a whole number"),
        (
            {"vae_config": {"_class_name": "AutoencoderDC"}},
            r"vae_config names a AutoencoderDC, expected an AutoencoderKL",
        ),
        ({"vae_config": None}, r"no visual_generator_config with a vae_config"),
    ],
)
def test_configurations_that_are_none(
    changed: dict[str, Any], message: str, tiny_pipelines: ModuleType, language: dict[str, Any], tmp_path: Path
) -> None:
    folder = tiny_pipelines.save_ovis_u1(tmp_path / "base")
    config = json.loads((folder / "config.json").read_text())
    config["visual_generator_config"] |= changed
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(InputError, match=message) as error:
        open_flow(folder, language=language)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (None, r"base.language is missing: prompts of Ovis-U1 are encoded by the code of its checkpoint; read"),
        ({"allow_remote_code": False}, r"base.language.allow_remote_code is false, but .*; read it at the revision"),
        ({"revision": "main"}, r'base.language: revision = "main": expected a commit, 40 hexadecimal digits'),
        ({"python": 3}, r"base.language: python = 3: expected a text"),
        ({"cache": True}, r"base.language: cache: unknown key: expected one of allow_remote_code, python"),
    ],
)
def test_code_that_is_not_allowed_to_run(
    given: dict[str, Any] | None, message: str, folder: Path, language: dict[str, Any]
) -> None:
    chosen = None if given is None else {**language, **given}
    with pytest.raises(InputError, match=message) as error:
        open_flow(folder, language=chosen)
    assert "\n" not in str(error.value)
    with pytest.raises(InputError, match=message):
        open_described({"family": "ovis_u1", "path": str(folder), **({"language": chosen} if chosen else {})})


def test_a_checkpoint_of_another_commit(folder: Path, language: dict[str, Any], tmp_path: Path) -> None:
    snapshot = tmp_path / "models--owner--ovis" / "snapshots" / ("b" * 40)
    snapshot.parent.mkdir(parents=True)
    snapshot.symlink_to(folder)
    with pytest.raises(InputError, match=rf"base.language.revision is {'0' * 40}, but base.path is at {'b' * 40}"):
        open_flow(snapshot, language=language)
    assert open_flow(snapshot, language={**language, "revision": "b" * 40}).content("language") == "b" * 40


@pytest.mark.slow
def test_a_language_part_that_fails(pipeline: Pipeline, folder: Path, language: dict[str, Any]) -> None:
    with pytest.raises(InputError, match=r"the language part of .* fails in .*: ValueError: a prompt that cannot be"):
        pipeline.encode_prompts(["fail"])
    # A new process is asked next time.
    assert pipeline.encode_prompts(["a"])["text_lengths"].shape == (1,)
    absent = open_flow(folder, language={**language, "python": "no/such/python"})
    with pytest.raises(InputError, match=r"base.language.python is no/such/python: cannot be started"):
        absent.encode_prompts(["a"])
    other = open_flow(folder, language={**language, "python": "/bin/false"})
    with pytest.raises(InputError, match=r"fails in /bin/false: it ended with status 1; docs"):
        other.encode_prompts(["a"])


def test_choices_that_the_family_does_not_have(
    tiny_flows: dict[str, Path], tiny_sd15: Path, folder: Path, language: dict[str, Any]
) -> None:
    with pytest.raises(InputError, match=r"base.without: .* of family 'ovis_u1', has no such choice; leave it out"):
        open_pipeline(folder, size=32, language=language, without=["text_encoder_3"])
    with pytest.raises(InputError, match=r"base.language: .* of family 'sd3', has no such choice; leave it out"):
        open_pipeline(tiny_flows["sd3"], size=32, language=language)
    with pytest.raises(InputError, match=r"base.language: .* brings no code of its own; leave it out"):
        open_pipeline(tiny_sd15, language=language)
    with pytest.raises(InputError, match=r"base family 'sd3' has no choice of language; leave base.language out"):
        open_described({"family": "sd3", "path": str(tiny_flows["sd3"]), "language": language})
    described = {"family": "ovis_u1", "path": str(folder), "language": language}
    with pytest.raises(InputError, match=r"training.embedded_guidance is 3.5, but the transformer of .* is told no"):
        open_described(described, embedded_guidance=3.5)
    with pytest.raises(InputError, match=r"generation.size is 34, expected multiples of 4"):
        open_pipeline(folder, size=34, language=language)
    with pytest.raises(InputError, match=r"its transformer is of family 'ovis_u1', not of the one that was named"):
        open_flow(folder, "flux")
