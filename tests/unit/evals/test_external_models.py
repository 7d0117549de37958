from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from huggingface_hub.utils import filter_repo_objects
from safetensors.torch import save_file

from artifacts.atomic import file_sha256
from artifacts.errors import InputError
from evals.external_models import ExternalModel, load, locate, weight_files
from evals.text_to_image import Pipeline

LAYER = "down_blocks.1.attentions.0.transformer_blocks.0.attn2.to_k"


@pytest.fixture(scope="module")
def base(save_tiny_base: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A base shaped like Stable Diffusion 1.5; not to be changed."""
    return save_tiny_base(tmp_path_factory.mktemp("external") / "sd", "sd")


@pytest.fixture(scope="module")
def larger(save_tiny_base: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A base shaped like SDXL; not to be changed."""
    return save_tiny_base(tmp_path_factory.mktemp("external") / "sdxl", "sdxl")


@pytest.fixture
def trained(base: Path) -> dict[str, torch.Tensor]:
    """A state dict of the base's architecture with other weights."""
    state = Pipeline(base).unet.state_dict()
    return {name: tensor + 0.25 for name, tensor in state.items()}


def opened(pipeline: Pipeline, source: Path | str, **options: Any) -> dict[str, torch.Tensor]:
    found: dict[str, torch.Tensor] = load(locate(ExternalModel(str(source), **options)), pipeline).state_dict()
    return found


def same(found: dict[str, torch.Tensor], expected: dict[str, torch.Tensor]) -> bool:
    return found.keys() == expected.keys() and all(torch.equal(found[name], expected[name]) for name in expected)


def test_state_dict_of_every_kind_of_file(base: Path, trained: dict[str, torch.Tensor], tmp_path: Path) -> None:
    torch.save(trained, tmp_path / "unet.pth")
    save_file(trained, tmp_path / "unet.safetensors")
    torch.save({"state_dict": {f"module.{name}": value for name, value in trained.items()}}, tmp_path / "wrapped.pt")
    pipeline = Pipeline(base)
    for name in ("unet.pth", "unet.safetensors", "wrapped.pt"):
        assert same(opened(pipeline, tmp_path / name), trained)
        assert same(opened(pipeline, tmp_path, file=name), trained)


def test_precision_and_mode_are_the_pipelines(base: Path, trained: dict[str, torch.Tensor], tmp_path: Path) -> None:
    torch.save(trained, tmp_path / "unet.pth")
    unet = load(tmp_path / "unet.pth", Pipeline(base, dtype="bfloat16"))
    assert {parameter.dtype for parameter in unet.parameters()} == {torch.bfloat16}
    assert not any(parameter.requires_grad or parameter.is_meta for parameter in unet.parameters())
    assert not unet.training


def test_folder_with_and_without_a_pipeline_around_it(
    base: Path, trained: dict[str, torch.Tensor], tmp_path: Path
) -> None:
    pipeline = Pipeline(base)
    unet = pipeline.load_unet(base)
    unet.load_state_dict(trained)
    unet.save_pretrained(tmp_path / "whole/unet")
    unet.save_pretrained(tmp_path / "bare")
    assert same(opened(pipeline, tmp_path / "whole"), trained)
    assert same(opened(pipeline, tmp_path / "bare"), trained)
    assert same(opened(pipeline, tmp_path, file="whole/unet"), trained)


def lora(prefix: str, down: str, up: str, rank: int = 2) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return {
        f"{prefix}.{down}.weight": torch.randn(rank, 16, generator=generator),
        f"{prefix}.{up}.weight": torch.randn(16, rank, generator=generator),
    }


@pytest.mark.parametrize("layout", ["peft", "diffusers", "kohya"])
def test_lora_is_added_to_the_base(base: Path, tmp_path: Path, layout: str) -> None:
    prefix, down, up, scale = {
        "peft": (f"unet.{LAYER}", "lora_A", "lora_B", 1.0),
        "diffusers": (f"unet.{LAYER}", "lora.down", "lora.up", 1.0),
        # A LoRA counts by alpha over rank.
        "kohya": (f"lora_unet_{LAYER.replace('.', '_')}", "lora_down", "lora_up", 3.0 / 2),
    }[layout]
    matrices = lora(prefix, down, up)
    first, second = matrices.values()
    if layout == "kohya":
        matrices[f"{prefix}.alpha"] = torch.tensor(3.0)
    save_file(matrices, tmp_path / "pytorch_lora_weights.safetensors")
    pipeline = Pipeline(base)
    found = opened(pipeline, tmp_path)
    expected = {name: tensor.clone() for name, tensor in pipeline.unet.state_dict().items()}
    expected[f"{LAYER}.weight"] += scale * second @ first
    assert found.keys() == expected.keys()
    for name in expected:
        torch.testing.assert_close(found[name], expected[name], atol=1e-5, rtol=1e-5)


def test_lora_of_another_base(base: Path, tmp_path: Path) -> None:
    matrices = lora(f"unet.{LAYER.replace('down_blocks.1', 'down_blocks.7')}", "lora_A", "lora_B")
    save_file({**matrices, **lora(f"unet.{LAYER}", "lora_A", "lora_B")}, tmp_path / "other.safetensors")
    with pytest.raises(InputError, match=r"other\.safetensors: 2 of 4 LoRA matrices have no place in the base"):
        load(tmp_path / "other.safetensors", Pipeline(base))
    wide = {
        key: torch.zeros(2, 24) if "lora_A" in key else value
        for key, value in lora(f"unet.{LAYER}", "lora_A", "lora_B").items()
    }
    save_file(wide, tmp_path / "wide.safetensors")
    with pytest.raises(InputError, match=r"wide\.safetensors: not a LoRA of the base .*size mismatch"):
        load(tmp_path / "wide.safetensors", Pipeline(base))


def test_lora_of_text_encoders_is_refused(base: Path, tmp_path: Path) -> None:
    matrices = lora("text_encoder.text_model.encoder.layers.0.self_attn.q_proj", "lora_A", "lora_B")
    save_file({**matrices, **lora(f"unet.{LAYER}", "lora_A", "lora_B")}, tmp_path / "both.safetensors")
    with pytest.raises(InputError, match="the LoRA changes text encoders too"):
        load(tmp_path / "both.safetensors", Pipeline(base))


def test_checkpoint_of_another_architecture_is_one_error(base: Path, larger: Path, tmp_path: Path) -> None:
    save_file(Pipeline(larger).unet.state_dict(), tmp_path / "sdxl.safetensors")
    with pytest.raises(InputError) as caught:
        load(tmp_path / "sdxl.safetensors", Pipeline(base))
    message = str(caught.value)
    assert message.startswith(f"{tmp_path / 'sdxl.safetensors'}: not a denoiser of the base {base}: 'add_embedding.")
    assert "is unknown (4 in all); it takes text of width 40, the base's text has 16: give its own base" in message
    assert "\n" not in message
    with pytest.raises(InputError, match=r"'add_embedding\.linear_1\.weight' is missing \(4 in all\)"):
        load(base / "unet", Pipeline(larger))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda state: state.pop("conv_in.bias"), r"'conv_in\.bias' is missing \(1 in all\)"),
        (lambda state: state.update(extra=torch.zeros(1)), r"'extra' is unknown \(1 in all\)"),
        (
            lambda state: state.update({"conv_in.bias": torch.zeros(9)}),
            r"'conv_in\.bias' has shape \(9,\), expected \(8,\)",
        ),
        (
            lambda state: state.update({"model.diffusion_model.out.weight": torch.zeros(1)}),
            "a whole checkpoint in the original layout",
        ),
    ],
)
def test_every_parameter_and_nothing_else(
    base: Path, trained: dict[str, torch.Tensor], tmp_path: Path, change: Callable[[Any], Any], message: str
) -> None:
    change(trained)
    torch.save(trained, tmp_path / "unet.pth")
    with pytest.raises(InputError, match=message):
        load(tmp_path / "unet.pth", Pipeline(base))


class Harmful:
    def __reduce__(self) -> Any:
        return print, ("run",)


def test_pickled_code_is_not_run(base: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    torch.save({"conv_in.weight": Harmful()}, tmp_path / "unet.pth")
    with pytest.raises(InputError, match=r"unet\.pth: not a readable weight file"):
        load(tmp_path / "unet.pth", Pipeline(base))
    assert capsys.readouterr().out == ""


def test_digest_is_checked(base: Path, tmp_path: Path) -> None:
    weights = base / "unet/diffusion_pytorch_model.safetensors"
    assert locate(ExternalModel(str(base), sha256=file_sha256(weights))) == base / "unet"
    with pytest.raises(InputError, match=rf"{weights}: sha256 is [0-9a-f]+, expected {'0' * 64}"):
        locate(ExternalModel(str(base), sha256="0" * 64))


def test_source_that_holds_no_weights(base: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"gone\.pth: no such file or folder"):
        locate(ExternalModel(str(tmp_path / "gone.pth")))
    (tmp_path / "notes.txt").touch()
    with pytest.raises(InputError, match=r"notes\.txt: not a weight file; expected one of \.safetensors"):
        locate(ExternalModel(str(tmp_path), "notes.txt"))
    with pytest.raises(InputError, match=r"holds neither unet/config\.json nor config\.json nor pytorch_lora"):
        locate(ExternalModel(str(tmp_path)))
    shutil.copytree(base / "unet", tmp_path / "unet")
    (tmp_path / "unet/diffusion_pytorch_model.safetensors").unlink()
    with pytest.raises(InputError, match=r"unet: cannot be loaded"):
        load(locate(ExternalModel(str(tmp_path))), Pipeline(base))


def test_hub_without_network(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(
        InputError,
        match=r"abc: not here and cannot be fetched \(.*`hf download owner/name sd/unet\.pth --revision abc`",
    ):
        locate(ExternalModel("owner/name@abc", "sd/unet.pth"))
    with pytest.raises(InputError, match=r"a hub id needs its revision: owner/name@<commit>"):
        locate(ExternalModel("owner/name"))


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., Path]:
    """Makes a hub with files of one repository, and gives the folder where fetched ones lie."""

    def make(*files: str) -> Path:
        cache = tmp_path / "snapshots" / ("0123456789" * 4)
        cache.mkdir(parents=True)

        def download(name: str, *, revision: str, allow_patterns: list[str], ignore_patterns: list[str]) -> str:
            assert (name, revision) == ("owner/name", "abc")
            for file in filter_repo_objects(files, allow_patterns=allow_patterns, ignore_patterns=ignore_patterns):
                (cache / file).parent.mkdir(parents=True, exist_ok=True)
                (cache / file).touch()
            return str(cache)

        monkeypatch.setattr("huggingface_hub.snapshot_download", download)
        return cache

    return make


WEIGHTS, UNET, LORA = "diffusion_pytorch_model", "unet/config.json", "pytorch_lora_weights.safetensors"
COPIES = [f"unet/{WEIGHTS}.fp16.safetensors", f"unet/{WEIGHTS}.non_ema.safetensors"]
# Whole pipelines in one file, and parts that the base has.
REST = ["v1-5.safetensors", "vae/diffusion_pytorch_model.safetensors", "model_index.json"]


@pytest.mark.parametrize(
    ("there", "file", "found", "fetched"),
    [
        ([UNET, f"unet/{WEIGHTS}.safetensors", f"unet/{WEIGHTS}.bin"], None, "unet", f"unet/{WEIGHTS}.safetensors"),
        ([UNET, f"unet/{WEIGHTS}.bin"], None, "unet", f"unet/{WEIGHTS}.bin"),
        ([UNET, f"unet/{WEIGHTS}.bin"], "unet", "unet", f"unet/{WEIGHTS}.bin"),
        ([f"sd/{UNET}", f"sd/unet/{WEIGHTS}.safetensors"], "sd", "sd/unet", f"sd/unet/{WEIGHTS}.safetensors"),
        (["config.json", f"{WEIGHTS}.safetensors", f"{WEIGHTS}.bin"], None, ".", f"{WEIGHTS}.safetensors"),
        ([LORA], None, LORA, LORA),
        # What is named is taken, also a copy.
        ([], COPIES[0], COPIES[0], COPIES[0]),
        ([], COPIES[1], COPIES[1], COPIES[1]),
    ],
)
def test_hub_gives_one_revision_and_what_is_needed(
    hub: Callable[..., Path], there: list[str], file: str | None, found: str, fetched: str
) -> None:
    cache = hub(*there, *COPIES, *REST)
    assert locate(ExternalModel("owner/name@abc", file)) == cache / found
    listed = {path.relative_to(cache).as_posix() for path in cache.rglob("*") if path.is_file()}
    assert {name for name in listed if not name.endswith("config.json")} == {fetched}


def test_copies_in_a_folder_are_not_its_weights(tmp_path: Path) -> None:
    for name in (f"{WEIGHTS}.safetensors", f"{WEIGHTS}.fp16.safetensors", f"{WEIGHTS}.bin"):
        (tmp_path / name).touch()
    assert weight_files(tmp_path) == [tmp_path / f"{WEIGHTS}.safetensors"]
    (tmp_path / f"{WEIGHTS}.safetensors").unlink()
    assert weight_files(tmp_path) == [tmp_path / f"{WEIGHTS}.bin"]
