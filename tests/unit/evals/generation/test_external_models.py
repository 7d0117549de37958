from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from huggingface_hub.utils import filter_repo_objects
from safetensors.torch import load_file, save_file

from artifacts.atomic import file_sha256
from artifacts.errors import InputError
from evals.generation.external_models import load, locate, weight_files
from evals.generation.pipelines import Pipeline, open_pipeline
from evals.generation.settings import ExternalModel

pytestmark = pytest.mark.slow


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
    state = open_pipeline(base).denoiser.state_dict()
    return {name: tensor + 0.25 for name, tensor in state.items()}


def opened(pipeline: Pipeline, source: Path | str, **options: Any) -> dict[str, torch.Tensor]:
    found: dict[str, torch.Tensor] = load(locate(ExternalModel(source=str(source), **options)), pipeline).state_dict()
    return found


def same(found: dict[str, torch.Tensor], expected: dict[str, torch.Tensor]) -> bool:
    return found.keys() == expected.keys() and all(torch.equal(found[name], expected[name]) for name in expected)


def test_state_dict_of_every_kind_of_file(base: Path, trained: dict[str, torch.Tensor], tmp_path: Path) -> None:
    torch.save(trained, tmp_path / "unet.pth")
    save_file(trained, tmp_path / "unet.safetensors")
    torch.save({"state_dict": {f"module.{name}": value for name, value in trained.items()}}, tmp_path / "wrapped.pt")
    pipeline = open_pipeline(base)
    for name in ("unet.pth", "unet.safetensors", "wrapped.pt"):
        assert same(opened(pipeline, tmp_path / name), trained)
        assert same(opened(pipeline, tmp_path, file=name), trained)


def test_precision_and_mode_are_the_pipelines(base: Path, trained: dict[str, torch.Tensor], tmp_path: Path) -> None:
    torch.save(trained, tmp_path / "unet.pth")
    unet = load(tmp_path / "unet.pth", open_pipeline(base, dtype="bfloat16"))
    assert {parameter.dtype for parameter in unet.parameters()} == {torch.bfloat16}
    assert not any(parameter.requires_grad or parameter.is_meta for parameter in unet.parameters())
    assert not unet.training


def test_folder_with_and_without_a_pipeline_around_it(
    base: Path, trained: dict[str, torch.Tensor], tmp_path: Path
) -> None:
    pipeline = open_pipeline(base)
    unet = pipeline.load_denoiser(base)
    unet.load_state_dict(trained)
    unet.save_pretrained(tmp_path / "whole/unet")
    unet.save_pretrained(tmp_path / "bare")
    assert same(opened(pipeline, tmp_path / "whole"), trained)
    assert same(opened(pipeline, tmp_path / "bare"), trained)
    assert same(opened(pipeline, tmp_path, file="whole/unet"), trained)


@pytest.mark.parametrize(
    "wrapped",
    [
        lambda state: {"unet": state},
        lambda state: {"state_dict": state, "epoch": 3, "lr": 1e-5},
        lambda state: {"module": {"unet": state}},
        lambda state: {"model": {f"_orig_mod.{name}": value for name, value in state.items()}},
        lambda state: {f"module._orig_mod.{name}": value for name, value in state.items()},
        lambda state: {f"unet.{name}": value for name, value in state.items()},
        lambda state: {name.replace("mid_block.", "mid_block._orig_mod."): value for name, value in state.items()},
        # An average over steps counts them.
        lambda state: {"n_averaged": torch.tensor(7), **{f"module.{name}": value for name, value in state.items()}},
        # The optimizer's tensors lie under numbers, as torch saves them.
        lambda state: {"model": state, "optimizer": {"state": {0: {"exp_avg": torch.ones(3)}}, "param_groups": []}},
    ],
)
def test_wrapped_state_dicts_are_read(
    base: Path, trained: dict[str, torch.Tensor], tmp_path: Path, wrapped: Callable[[Any], Any]
) -> None:
    torch.save(wrapped(trained), tmp_path / "unet.pt")
    assert same(opened(open_pipeline(base), tmp_path / "unet.pt"), trained)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (lambda state: {"ema": state}, r"expected tensors by name, found 1 entries that hold some: 'ema'"),
        (lambda state: {"unet": state, "text_encoder": {"a": torch.ones(2)}}, r"2 entries .*'unet', 'text_encoder'"),
        (lambda state: {"unet": state, "model": state}, r"2 entries that hold some: 'model', 'unet'"),
        (lambda state: {"state_dict": state, "token": torch.ones(4)}, r"2 entries .*'state_dict', 'token'"),
        (
            lambda state: {**state, "_orig_mod.conv_in.bias": state["conv_in.bias"]},
            r"'conv_in\.bias' is there twice, once as '_orig_mod\.conv_in\.bias'",
        ),
        (lambda state: [*state.values()], "expected tensors by name, found something else"),
        (lambda state: dict(enumerate(state.values())), r"found 208 entries that hold some: '0', '1'"),
        (lambda state: {**state, 7: torch.ones(2)}, r"found 209 entries that hold some"),
        (
            lambda state: {**state, "conv_in.bias": state["conv_in.bias"].to_sparse()},
            r"'conv_in\.bias' is no plain tensor \(torch\.float32, torch\.sparse_coo, on cpu\); save it dense",
        ),
        (
            lambda state: {**state, "conv_in.bias": state["conv_in.bias"].to("meta")},
            r"'conv_in\.bias' is no plain tensor \(.*on meta\)",
        ),
        (
            lambda state: {**state, "conv_in.bias": torch.zeros(4, dtype=torch.uint8).view(torch.float4_e2m1fn_x2)},
            r"'conv_in\.bias' is no plain tensor \(torch\.float4",
        ),
        (
            lambda state: {f"model.diffusion_model.{name}": value for name, value in LDM.items()},
            r"'input_blocks\.0\.0\.weight' is unknown \(2 in all\); it is a whole checkpoint in the original layout",
        ),
        (
            lambda state: {**state, "conv_in.weight": state["conv_in.weight"].to(torch.int8)},
            r"'conv_in\.weight' is of torch\.int8 \(1 in all\), expected floating point",
        ),
    ],
)
def test_what_holds_more_or_something_else_is_named(
    base: Path, trained: dict[str, torch.Tensor], tmp_path: Path, content: Callable[[Any], Any], message: str
) -> None:
    torch.save(content(trained), tmp_path / "unet.pt")
    with pytest.raises(InputError, match=rf"unet\.pt: .*{message}"):
        load(tmp_path / "unet.pt", open_pipeline(base))


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_values_that_are_not_finite_are_refused(
    base: Path, trained: dict[str, torch.Tensor], tmp_path: Path, value: float, dtype: torch.dtype
) -> None:
    trained = {name: tensor.to(dtype) for name, tensor in trained.items()}
    trained["conv_out.weight"][0, 0, 0, 0] = trained["conv_in.bias"][-1] = value
    save_file(trained, tmp_path / "unet.safetensors")
    message = r"unet\.safetensors: 'conv_(in|out)\.\w+' has values that are not finite \(2 such tensors in all\)"
    with pytest.raises(InputError, match=message):
        load(tmp_path / "unet.safetensors", open_pipeline(base))


def test_half_precision_is_widened(base: Path, trained: dict[str, torch.Tensor], tmp_path: Path) -> None:
    for dtype in (torch.float16, torch.bfloat16, torch.float64, torch.float8_e4m3fn):
        narrow = {name: tensor.to(dtype) for name, tensor in trained.items()}
        save_file(narrow, tmp_path / "unet.safetensors")
        found = opened(open_pipeline(base), tmp_path / "unet.safetensors")
        assert same(found, {name: tensor.float() for name, tensor in narrow.items()}), dtype


def test_own_configuration_of_a_folder_counts_but_for_the_size(
    base: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Weights of the same shapes may be meant for another computation."""
    shutil.copytree(base / "unet", tmp_path / "unet")
    config = json.loads((tmp_path / "unet/config.json").read_text())
    (tmp_path / "unet/config.json").write_text(json.dumps({**config, "norm_eps": 0.5, "sample_size": 4}))
    pipeline = open_pipeline(base)
    unet = load(locate(ExternalModel(source=str(tmp_path))), pipeline)
    assert unet.config.norm_eps == 0.5
    assert pipeline.image_size == [16, 16]
    assert "sample_size is 4, the base's 8; drawn at the base's size" in capsys.readouterr().err
    (tmp_path / "unet/config.json").write_text(json.dumps({**config, "block_out_channels": [8, 24]}))
    with pytest.raises(InputError, match=r"unet: weights and config\.json are of different architectures"):
        load(tmp_path / "unet", pipeline)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"prediction_type": "v_prediction"}, r"prediction_type is v_prediction, the base .* has epsilon"),
        ({"_class_name": "FlowMatchEulerDiscreteScheduler"}, r"prediction_type is flow, the base .* has epsilon"),
        ({"rescale_betas_zero_snr": True}, "its noise schedule is not that of the base"),
        ({"beta_end": 0.02}, "its noise schedule is not that of the base"),
        ({"num_train_timesteps": 500}, "its noise schedule is not that of the base"),
    ],
)
def test_pipeline_around_a_folder_says_what_its_denoiser_predicts(
    base: Path, tmp_path: Path, values: dict[str, Any], message: str
) -> None:
    """Its weights have the base's names and shapes, and would draw noise."""
    for part in ("unet", "scheduler"):
        shutil.copytree(base / part, tmp_path / part)
    pipeline = open_pipeline(base)
    assert same(opened(pipeline, tmp_path), pipeline.denoiser.state_dict())
    file = tmp_path / "scheduler/scheduler_config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), **values}))
    with pytest.raises(InputError, match=rf"scheduler_config\.json: {message}"):
        load(locate(ExternalModel(source=str(tmp_path))), pipeline)


def test_pipeline_around_a_folder_says_which_latents_its_denoiser_knows(base: Path, tmp_path: Path) -> None:
    for part in ("unet", "vae"):
        shutil.copytree(base / part, tmp_path / part)
    pipeline = open_pipeline(base)
    assert same(opened(pipeline, tmp_path), pipeline.denoiser.state_dict())
    file = tmp_path / "vae/config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "scaling_factor": 0.5}))
    with pytest.raises(InputError, match=rf"{file}: scaling_factor is 0\.5, expected .* as in {base}/vae/config\.json"):
        load(locate(ExternalModel(source=str(tmp_path))), pipeline)


def test_pipeline_around_a_folder_has_the_text_encoder_that_its_denoiser_was_trained_with(
    base: Path, tmp_path: Path
) -> None:
    """Its denoiser alone, told its prompts by the base's text encoder, is a model that nobody trained."""
    for part in ("unet", "text_encoder"):
        shutil.copytree(base / part, tmp_path / part)
    pipeline = open_pipeline(base)
    file = tmp_path / "text_encoder/model.safetensors"
    state = load_file(file)
    other = f"{tmp_path}/text_encoder: its weights are not those of {base}/text_encoder, by which .* \\(other_bases\\)"
    for dtype in (torch.float32, torch.float16, torch.bfloat16):
        # Copies in another precision, and under the names of another release, are the same encoder.
        rounded = {name: value.to(dtype) for name, value in state.items()}
        renamed = {name.removeprefix("text_model."): value for name, value in rounded.items()}
        save_file({**renamed, "embeddings.position_ids": torch.arange(16)[None]}, file)
        assert same(opened(pipeline, tmp_path), pipeline.denoiser.state_dict())
        bias = next(name for name in rounded if name.endswith("fc1.bias"))
        save_file({**rounded, bias: rounded[bias] + 0.125}, file)
        with pytest.raises(InputError, match=other):
            load(locate(ExternalModel(source=str(tmp_path))), pipeline)
    # What cannot be compared is not refused: other names, what was not fetched.
    save_file({"another.name": torch.ones(1)}, file)
    assert same(opened(pipeline, tmp_path), pipeline.denoiser.state_dict())
    file.write_text("version https://git-lfs.github.com/spec/v1\n")
    assert same(opened(pipeline, tmp_path), pipeline.denoiser.state_dict())


def test_a_file_says_of_itself_what_it_predicts(base: Path, trained: dict[str, torch.Tensor], tmp_path: Path) -> None:
    pipeline, file = open_pipeline(base), tmp_path / "unet.safetensors"
    for said in ("v", "v_prediction"):
        save_file(trained, file, metadata={"modelspec.prediction_type": said})
        with pytest.raises(
            InputError, match=rf"{file}: modelspec\.prediction_type is {said} in its metadata, the base"
        ):
            opened(pipeline, file)
    save_file(trained, file, metadata={"modelspec.prediction_type": "epsilon"})
    assert same(opened(pipeline, file), trained)


def test_file_in_a_denoisers_folder_is_read_as_the_folder_is(base: Path, tmp_path: Path) -> None:
    """Copies in half precision are named by their file; what they compute stands beside them all the same."""
    for part in ("unet", "scheduler"):
        shutil.copytree(base / part, tmp_path / part)
    weights, config = tmp_path / "unet" / f"{WEIGHTS}.fp16.safetensors", tmp_path / "unet/config.json"
    (tmp_path / "unet" / f"{WEIGHTS}.safetensors").rename(weights)
    values = json.loads(config.read_text())
    config.write_text(json.dumps({**values, "norm_eps": 0.5}))
    pipeline = open_pipeline(base)
    model = ExternalModel(source=str(tmp_path), file=f"unet/{weights.name}")
    assert load(locate(model), pipeline).config.norm_eps == 0.5
    # Beside a file of another kind it says nothing of the denoiser.
    config.write_text(json.dumps({**values, "norm_eps": 0.5, "_class_name": "ControlNetModel"}))
    assert load(locate(model), pipeline).config.norm_eps == 1e-5
    config.write_text(json.dumps(values))
    file = tmp_path / "scheduler/scheduler_config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "prediction_type": "v_prediction"}))
    with pytest.raises(
        InputError, match=r"scheduler_config\.json: prediction_type is v_prediction, the base .* has eps"
    ):
        load(locate(model), pipeline)


def test_checkpoint_of_another_architecture_is_one_error(base: Path, larger: Path, tmp_path: Path) -> None:
    save_file(open_pipeline(larger).denoiser.state_dict(), tmp_path / "sdxl.safetensors")
    with pytest.raises(InputError) as caught:
        load(tmp_path / "sdxl.safetensors", open_pipeline(base))
    message = str(caught.value)
    assert message.startswith(f"{tmp_path / 'sdxl.safetensors'}: not a denoiser of the base {base}: 'add_embedding.")
    assert "is unknown (4 in all); it takes text of width 40, the base's text has 16: give its own base" in message
    assert "\n" not in message
    with pytest.raises(InputError, match=r"'add_embedding\.linear_1\.weight' is missing \(4 in all\)"):
        load(base / "unet", open_pipeline(larger))


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
        load(tmp_path / "unet.pth", open_pipeline(base))


class Harmful:
    def __reduce__(self) -> Any:
        return print, ("run",)


def test_pickled_code_is_not_run(base: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    torch.save({"conv_in.weight": Harmful()}, tmp_path / "unet.pth")
    with pytest.raises(InputError, match=r"unet\.pth: not a readable weight file"):
        load(tmp_path / "unet.pth", open_pipeline(base))
    assert capsys.readouterr().out == ""


def test_digest_is_checked(base: Path, tmp_path: Path) -> None:
    weights = base / "unet/diffusion_pytorch_model.safetensors"
    assert locate(ExternalModel(source=str(base), sha256=file_sha256(weights))) == base / "unet"
    with pytest.raises(InputError, match=rf"{weights}: sha256 is [0-9a-f]+, expected {'0' * 64}"):
        locate(ExternalModel(source=str(base), sha256="0" * 64))


def test_source_that_holds_no_weights(base: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"gone\.pth: no such file or folder"):
        locate(ExternalModel(source=str(tmp_path / "gone.pth")))
    (tmp_path / "notes.txt").touch()
    with pytest.raises(InputError, match=r"notes\.txt: not a weight file; expected one of \.safetensors"):
        locate(ExternalModel(source=str(tmp_path), file="notes.txt"))
    with pytest.raises(InputError, match=r"holds neither unet/config\.json nor transformer/config\.json nor config"):
        locate(ExternalModel(source=str(tmp_path)))
    shutil.copytree(base / "unet", tmp_path / "unet")
    (tmp_path / "unet/diffusion_pytorch_model.safetensors").unlink()
    with pytest.raises(InputError, match=r"unet: cannot be loaded"):
        load(locate(ExternalModel(source=str(tmp_path))), open_pipeline(base))


def test_hub_without_network(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(
        InputError,
        match=r"abc: not here and cannot be fetched \(.*`hf download owner/name sd/unet\.pth --revision abc`",
    ):
        locate(ExternalModel(source="owner/name@abc", file="sd/unet.pth"))
    with pytest.raises(InputError, match=r"a hub id needs its revision: owner/name@<commit>"):
        locate(ExternalModel(source="owner/name"))


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., Path]:
    """Makes a hub with files of one repository, and gives the folder where fetched ones lie."""

    def make(*files: str) -> Path:
        cache = tmp_path / "snapshots" / ("0123456789" * 4)
        cache.mkdir(parents=True)

        def download(name: str, *, revision: str, allow_patterns: list[str], **_: object) -> str:
            assert (name, revision) == ("owner/name", "abc")
            for file in filter_repo_objects(files, allow_patterns=allow_patterns):
                (cache / file).parent.mkdir(parents=True, exist_ok=True)
                (cache / file).touch()
            return str(cache)

        monkeypatch.setattr("huggingface_hub.snapshot_download", download)
        return cache

    return make


def test_sharded_folder_is_read_by_its_index(base: Path, trained: dict[str, torch.Tensor], tmp_path: Path) -> None:
    pipeline = open_pipeline(base)
    unet = pipeline.load_denoiser(base)
    unet.load_state_dict(trained)
    unet.save_pretrained(tmp_path / "unet", max_shard_size="20KB")
    shards = sorted((tmp_path / "unet").glob("*.safetensors"))
    assert len(shards) > 1
    assert weight_files(tmp_path / "unet") == shards
    assert same(opened(pipeline, tmp_path), trained)
    with pytest.raises(InputError, match=rf"its weights are in {len(shards)} files, .* and sha256 is of one"):
        locate(ExternalModel(source=str(tmp_path), sha256=file_sha256(shards[0])))
    shutil.copy(shards[1], tmp_path / "kept")
    save_file({**load_file(shards[1]), **load_file(shards[0])}, shards[1])
    with pytest.raises(InputError, match=rf"{shards[1].name}: '.*' is in another shard, too"):
        load(tmp_path / "unet", pipeline)
    shutil.copy(tmp_path / "kept", shards[1])
    index = tmp_path / "unet" / f"{WEIGHTS}.safetensors.index.json"
    for wrong in ({}, {"weight_map": ["a"]}, {"weight_map": {"a": 3}}, {"weight_map": {"a": "../some.safetensors"}}):
        shutil.copy(index, tmp_path / "index")
        index.write_text(json.dumps(wrong))
        with pytest.raises(InputError, match=r"index\.json: its weight_map names no files beside it"):
            weight_files(tmp_path / "unet")
        shutil.copy(tmp_path / "index", index)
    shards[1].unlink()
    with pytest.raises(InputError, match=rf"{shards[1].name}: no such file, but .*index\.json names it"):
        load(tmp_path / "unet", pipeline)


@pytest.mark.parametrize(
    "copy", ["bf16.safetensors", "fp16-00001-of-00002.safetensors", "non_ema.safetensors", "ema.fp16.safetensors"]
)
def test_copy_beside_the_file_is_not_loaded_and_not_digested(
    base: Path, trained: dict[str, torch.Tensor], tmp_path: Path, copy: str
) -> None:
    shutil.copytree(base / "unet", tmp_path / "unet")
    whole = tmp_path / "unet" / f"{WEIGHTS}.safetensors"
    save_file({name: value.half() for name, value in trained.items()}, tmp_path / "unet" / f"{WEIGHTS}.{copy}")
    pipeline = open_pipeline(base)
    assert same(opened(pipeline, tmp_path, sha256=file_sha256(whole)), pipeline.denoiser.state_dict())
    assert weight_files(tmp_path / "unet") == [whole]
    right = file_sha256(whole)
    with pytest.raises(InputError, match=rf"{WEIGHTS}\.safetensors: sha256 is {right}, expected {'0' * 64}"):
        locate(ExternalModel(source=str(tmp_path), sha256="0" * 64))
    whole.unlink()
    with pytest.raises(InputError, match=rf"holds no {WEIGHTS}\.safetensors, only {WEIGHTS}\.{copy}: name it with"):
        weight_files(tmp_path / "unet")
    named = tmp_path / "unet" / f"{WEIGHTS}.{copy}"
    found = opened(pipeline, tmp_path, file=f"unet/{named.name}", sha256=file_sha256(named))
    assert same(found, {name: value.half().float() for name, value in trained.items()})


def test_folder_that_holds_a_denoiser_and_a_lora_is_ambiguous(base: Path, tmp_path: Path) -> None:
    shutil.copytree(base / "unet", tmp_path / "unet")
    save_file({"a": torch.ones(1)}, tmp_path / LORA)
    with pytest.raises(InputError, match=rf"holds unet and {LORA}; name the one that is meant with `file`"):
        locate(ExternalModel(source=str(tmp_path)))


def test_folder_that_holds_a_moving_average_too_is_ambiguous(base: Path, tmp_path: Path) -> None:
    """A step of diffusers' own training scripts."""
    for name in ("unet", "unet_ema"):
        shutil.copytree(base / "unet", tmp_path / name)
    with pytest.raises(InputError, match=r"holds unet and unet_ema; name the one that is meant with `file`"):
        locate(ExternalModel(source=str(tmp_path)))
    for name in ("unet", "unet_ema"):
        assert locate(ExternalModel(source=str(tmp_path), file=name)) == tmp_path / name


WEIGHTS, UNET, LORA = "diffusion_pytorch_model", "unet/config.json", "pytorch_lora_weights.safetensors"
ADAPTER = "adapter_model.safetensors"
COPIES = [
    *(f"unet/{WEIGHTS}.{kind}.safetensors" for kind in ("fp16", "non_ema", "bf16", "fp16-00001-of-00002")),
    f"unet/{WEIGHTS}.safetensors.index.fp16.json",
]
LDM = {"input_blocks.0.0.weight": torch.zeros(8, 4, 3, 3), "out.2.bias": torch.zeros(4)}
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
        ([ADAPTER], None, ADAPTER, ADAPTER),
        (["lora/" + ADAPTER], "lora/" + ADAPTER, "lora/" + ADAPTER, "lora/" + ADAPTER),
        (["pytorch_lora_weights.bin"], None, "pytorch_lora_weights.bin", "pytorch_lora_weights.bin"),
        # What is named is taken, also a copy.
        ([], COPIES[0], COPIES[0], COPIES[0]),
        ([], COPIES[1], COPIES[1], COPIES[1]),
    ],
)
def test_hub_gives_one_revision_and_what_is_needed(
    hub: Callable[..., Path], there: list[str], file: str | None, found: str, fetched: str
) -> None:
    cache = hub(*there, *COPIES, *REST)
    assert locate(ExternalModel(source="owner/name@abc", file=file)) == cache / found
    listed = {path.relative_to(cache).as_posix() for path in cache.rglob("*") if path.is_file()}
    assert {name for name in listed if not name.endswith("config.json")} == {fetched}


def test_copies_in_a_folder_are_not_its_weights(tmp_path: Path) -> None:
    for name in (f"{WEIGHTS}.safetensors", f"{WEIGHTS}.fp16.safetensors", f"{WEIGHTS}.bin"):
        (tmp_path / name).touch()
    assert weight_files(tmp_path) == [tmp_path / f"{WEIGHTS}.safetensors"]
    (tmp_path / f"{WEIGHTS}.safetensors").unlink()
    assert weight_files(tmp_path) == [tmp_path / f"{WEIGHTS}.bin"]
