"""LoRA in every form that is met: read to the layer and the factor, or refused by name."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from artifacts.errors import InputError
from evals.generation.external_models import load, locate, weight_files
from evals.generation.pipelines import Pipeline, open_pipeline
from evals.generation.settings import ExternalModel

pytestmark = pytest.mark.slow

LAYER = "down_blocks.1.attentions.0.transformer_blocks.0.attn2.to_k"
FLAT = f"lora_unet_{LAYER.replace('.', '_')}"
PEFT = f"base_model.model.{LAYER}"
FILE, ADAPTER = "pytorch_lora_weights.safetensors", "adapter_model.safetensors"
RANK = 2


@pytest.fixture(scope="module")
def base(save_tiny_base: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A base shaped like Stable Diffusion 1.5; not to be changed."""
    return save_tiny_base(tmp_path_factory.mktemp("lora") / "sd", "sd")


@pytest.fixture(scope="module")
def pipeline(base: Path) -> Pipeline:
    return open_pipeline(base)


def matrices(down: str, up: str, sizes: tuple[int, int] = (16, 16), rank: int = RANK) -> dict[str, torch.Tensor]:
    """Two matrices under names of their own; of a layer from the first of the sizes to the second."""
    generator = torch.Generator().manual_seed(0)
    return {
        down: torch.randn(rank, sizes[0], generator=generator),
        up: torch.randn(sizes[1], rank, generator=generator),
    }


def peft(layer: str = f"unet.{LAYER}") -> dict[str, torch.Tensor]:
    return matrices(f"{layer}.lora_A.weight", f"{layer}.lora_B.weight")


def kohya(layer: str = FLAT) -> dict[str, torch.Tensor]:
    return matrices(f"{layer}.lora_down.weight", f"{layer}.lora_up.weight")


def factor(pipeline: Pipeline, source: Path, layer: str = LAYER, **options: Any) -> float:
    """How often the product of the two matrices was added to the layer; everything else must be the base's."""
    path = locate(ExternalModel(source=str(source), **options))
    found = load(path, pipeline).state_dict()
    own = pipeline.denoiser.state_dict()
    changed = [name for name in own if not torch.equal(found[name], own[name])]
    assert found.keys() == own.keys()
    assert changed == [f"{layer}.weight"]
    down, up = (x for x in matrices("down", "up", (own[changed[0]][0].numel(), len(own[changed[0]]))).values())
    added, product = (found[changed[0]] - own[changed[0]]).flatten(1), up @ down
    # Least squares: the added matrix must be a multiple of the product, not only as large.
    times = float((added * product).sum() / (product * product).sum())
    torch.testing.assert_close(added, times * product, atol=1e-4, rtol=1e-3)
    return times


def diffusers_metadata(**settings: Any) -> dict[str, str]:
    return {"lora_adapter_metadata": json.dumps({f"unet.{key}": value for key, value in settings.items()})}


@pytest.mark.parametrize(
    ("tensors", "metadata", "expected"),
    [
        # Nothing says alpha.
        (peft(), {}, 1.0),
        (matrices(f"unet.{LAYER}.lora.down.weight", f"unet.{LAYER}.lora.up.weight"), {}, 1.0),
        (peft(LAYER), {}, 1.0),
        (peft(f"module._orig_mod.{LAYER}"), {}, 1.0),
        (kohya(), {}, 1.0),
        (matrices(f"unet.{LAYER}.lora_A.default.weight", f"unet.{LAYER}.lora_B.default.weight"), {}, 1.0),
        # The oldest names, of attention processors.
        (
            matrices(
                f"unet.{LAYER.replace('.to_k', '.processor.to_k_lora')}.down.weight",
                f"unet.{LAYER.replace('.to_k', '.processor.to_k_lora')}.up.weight",
            ),
            {},
            1.0,
        ),
        # In the file's metadata: diffusers' and our own training's.
        (peft(), diffusers_metadata(r=2, lora_alpha=8), 4.0),
        (peft(), diffusers_metadata(r=2, lora_alpha=8, use_rslora=True), 8 / 2**0.5),
        (peft(), diffusers_metadata(r=4, lora_alpha=8, rank_pattern={LAYER: 2}, alpha_pattern={"to_k": 3}), 1.5),
        (peft(), diffusers_metadata(r=2, lora_alpha=8, alpha_pattern={"to_q": 3}), 4.0),
        (peft(LAYER), {"lora_adapter_metadata": json.dumps({"r": 2, "lora_alpha": 8})}, 4.0),
        # In keys.
        ({**peft(), f"unet.{LAYER}.alpha": torch.tensor(8.0)}, {}, 4.0),
        ({**kohya(), f"{FLAT}.alpha": torch.tensor(3.0)}, {}, 1.5),
        ({**kohya(), f"{FLAT}.alpha": torch.tensor([3], dtype=torch.int64)}, {}, 1.5),
        # Of kohya, whose keys have been lost.
        (kohya(), {"ss_network_alpha": "8", "ss_network_dim": "2"}, 4.0),
        (kohya(), {"ss_network_alpha": "Dynamic"}, 1.0),
        # In two places, which agree as far as bfloat16 can tell.
        (
            {**peft(), f"unet.{LAYER}.alpha": torch.tensor(0.7, dtype=torch.bfloat16)},
            diffusers_metadata(r=2, lora_alpha=0.7),
            0.35,
        ),
    ],
)
def test_factor_is_alpha_over_rank_wherever_alpha_stands(
    pipeline: Pipeline, tmp_path: Path, tensors: dict[str, torch.Tensor], metadata: dict[str, str], expected: float
) -> None:
    save_file(tensors, tmp_path / FILE, metadata=metadata)
    assert factor(pipeline, tmp_path) == pytest.approx(expected, rel=1e-4)
    assert factor(pipeline, tmp_path / FILE) == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize(
    ("tensors", "metadata", "message"),
    [
        (
            {**peft(), f"unet.{LAYER}.alpha": torch.tensor(4.0)},
            diffusers_metadata(r=2, lora_alpha=8),
            rf"two factors of {LAYER}: 4 by .*lora_adapter_metadata, 2 by 'unet\.{LAYER}\.alpha'",
        ),
        ({**kohya(), f"{FLAT}.alpha": torch.tensor(4.0)}, {"ss_network_alpha": "8"}, r"two factors .*ss_network_alpha"),
        (peft(), {**diffusers_metadata(lora_alpha=8), "ss_network_alpha": "4"}, r"two factors of .*: 4 by .*, 2 by"),
        (peft(), diffusers_metadata(r=4, lora_alpha=8), rf"rank of {LAYER} is 4, its matrices have 2"),
        (peft(), diffusers_metadata(r=2, lora_alpha=0), r"lora_alpha is 0, expected a number other than 0"),
        (peft(), diffusers_metadata(r=2, lora_alpha="8"), r"lora_alpha is '8', expected a number"),
        (peft(), {"lora_adapter_metadata": "{"}, r"lora_adapter_metadata: not valid JSON"),
        (peft(), {"lora_adapter_metadata": '{"lora_alpha": 8, "lora_alpha": 2}'}, r"names the key 'lora_alpha' twice"),
        (peft(), diffusers_metadata(r=2), r"lora_adapter_metadata: says no lora_alpha"),
        (peft(), diffusers_metadata(lora_alpha=8, alpha_pattern=["to_k"]), r"alpha_pattern is no object of patterns"),
        (peft(), diffusers_metadata(lora_alpha=8, rank_pattern={"to_k(": 2}), r"rank_pattern is no object of patterns"),
        ({**peft(), f"unet.{LAYER}.alpha": torch.ones(2)}, {}, r"alpha' has shape \(2,\), expected one number"),
        (peft(), diffusers_metadata(r=2, use_dora=True), r"lora_adapter_metadata: is DoRA, which is not read"),
        (peft(), diffusers_metadata(lora_bias=True), r"is LoRA with lora_bias, which is not read"),
        (peft(), diffusers_metadata(init_lora_weights="pissa"), r"init_lora_weights is 'pissa'"),
    ],
)
def test_two_alphas_and_settings_that_are_more_than_a_factor_are_refused(
    pipeline: Pipeline, tmp_path: Path, tensors: dict[str, torch.Tensor], metadata: dict[str, str], message: str
) -> None:
    save_file(tensors, tmp_path / FILE, metadata=metadata)
    with pytest.raises(InputError, match=message):
        load(tmp_path / FILE, pipeline)


def test_kohya_says_alpha_of_layers_with_a_kernel_in_their_keys_alone(pipeline: Pipeline, tmp_path: Path) -> None:
    layer = "down_blocks.0.resnets.0.conv1"
    flat = f"lora_unet_{layer.replace('.', '_')}"
    down, up = matrices("down", "up", (72, 8)).values()
    tensors = {
        f"{flat}.lora_down.weight": down.reshape(RANK, 8, 3, 3),
        f"{flat}.lora_up.weight": up.reshape(8, RANK, 1, 1),
        f"{flat}.alpha": torch.tensor(1.0),
    }
    save_file(tensors, tmp_path / "locon.safetensors", metadata={"ss_network_alpha": "8"})
    assert factor(pipeline, tmp_path / "locon.safetensors", layer) == pytest.approx(0.5, rel=1e-4)


@pytest.mark.parametrize(
    ("key", "message"),
    [
        (f"{FLAT}.dora_scale", "is DoRA, which is not read"),
        (f"unet.{LAYER}.lora_magnitude_vector", "is DoRA"),
        (f"{FLAT}.hada_w1_a", "is LoHa of LyCORIS"),
        (f"{FLAT}.lokr_w1", "is LoKr of LyCORIS"),
        (f"{FLAT}.lora_mid.weight", "is LoCon of LyCORIS with a core"),
        (f"{FLAT}.oft_blocks", "is OFT"),
        (f"{FLAT}.a1.weight", "is GLoRA"),
        (f"{FLAT}.diff", "is full differences or norms of LyCORIS"),
        (f"{FLAT}.diff_b", "is full differences or norms"),
        (f"{FLAT}.w_norm", "is full differences or norms"),
        (f"{FLAT}.scalar", "with a factor that was trained"),
        (f"{FLAT}.on_input", "is IA3"),
        (f"unet.{LAYER}.lora_B.bias", "is LoRA with biases"),
        ("unet.conv_in.bias", r"'unet\.conv_in\.bias' is neither a matrix of a LoRA nor its alpha \(1 in all\)"),
        ("bundle_emb.style.string_to_param.*", "is neither a matrix"),
        ("lora_te_text_model_encoder_layers_0_mlp_fc1.lora_down.weight", "the LoRA changes text encoders too"),
        ("text_encoder_2.text_model.encoder.layers.0.self_attn.q_proj.lora_A.weight", "changes text encoders too"),
        (f"unet.{LAYER.replace('to_k', 'to_v')}.lora_A.weight", r"to_v\.lora_A\.weight' has not both matrices"),
        (f"unet.{LAYER.replace('to_k', 'to_v')}.alpha", r"to_v\.alpha' has not both matrices"),
        (f"unet.{LAYER}.lora_A.other.weight", "are of one layer; save one LoRA alone"),
    ],
)
@pytest.mark.parametrize("kind", [peft, kohya])
def test_every_key_is_read_or_refused_by_name(
    pipeline: Pipeline, tmp_path: Path, kind: Callable[[], dict[str, torch.Tensor]], key: str, message: str
) -> None:
    if kind is kohya and ".lora_A.other" in key:
        pytest.skip("no adapter's name in kohya's")
    save_file({**kind(), key: torch.zeros(RANK, 16)}, tmp_path / "some.safetensors")
    with pytest.raises(InputError, match=message) as caught:
        load(tmp_path / "some.safetensors", pipeline)
    assert key in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("key", ["hada_w1_a", "lokr_w1", "oft_blocks", "dora_scale", "diff"])
def test_other_adapters_alone_are_named_too(pipeline: Pipeline, tmp_path: Path, key: str) -> None:
    save_file({f"lycoris_{FLAT[10:]}.{key}": torch.zeros(2, 2)}, tmp_path / "lycoris.safetensors")
    with pytest.raises(InputError, match=r"lycoris\.safetensors: is .*, which is not read: 'lycoris_"):
        load(tmp_path / "lycoris.safetensors", pipeline)


def test_lora_of_another_base(pipeline: Pipeline, tmp_path: Path) -> None:
    save_file(
        {**peft(f"unet.{LAYER.replace('down_blocks.1', 'down_blocks.7')}"), **peft()}, tmp_path / "other.safetensors"
    )
    with pytest.raises(InputError, match=r"other\.safetensors: 2 of 4 LoRA matrices have no place in the base .*'unet"):
        load(tmp_path / "other.safetensors", pipeline)
    wide = matrices(f"unet.{LAYER}.lora_A.weight", f"unet.{LAYER}.lora_B.weight", (24, 16))
    save_file(wide, tmp_path / "wide.safetensors")
    message = (
        r"wide\.safetensors: not a LoRA of the base .*size mismatch: .*lora_A.* has shape \(2, 24\), expected \(2, 16\)"
    )
    with pytest.raises(InputError, match=message):
        load(tmp_path / "wide.safetensors", pipeline)
    uneven = {**peft(), f"unet.{LAYER}.lora_B.weight": torch.zeros(16, 3)}
    save_file(uneven, tmp_path / "uneven.safetensors")
    with pytest.raises(InputError, match=r"lora_B\.weight' has shape \(16, 3\), expected \(16, 2\) at rank 2"):
        load(tmp_path / "uneven.safetensors", pipeline)
    save_file({**peft(), f"unet.{LAYER}.lora_A.weight": torch.tensor(1.0)}, tmp_path / "number.safetensors")
    with pytest.raises(InputError, match=r"lora_A\.weight' has shape \(\), expected \(0, 16\) at rank 0"):
        load(tmp_path / "number.safetensors", pipeline)


def test_values_of_a_lora_must_be_finite(pipeline: Pipeline, tmp_path: Path) -> None:
    save_file({**peft(), f"unet.{LAYER}.alpha": torch.tensor(float("nan"))}, tmp_path / FILE)
    with pytest.raises(InputError, match=rf"{LAYER}\.alpha' has values that are not finite"):
        load(tmp_path / FILE, pipeline)


def peft_folder(folder: Path, tensors: Mapping[str, torch.Tensor], **settings: Any) -> Path:
    save_file(dict(tensors), folder / ADAPTER)
    (folder / "adapter_config.json").write_text(json.dumps({"peft_type": "LORA", "r": 2, "bias": "none", **settings}))
    return folder


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"lora_alpha": 8}, 4.0),
        ({"lora_alpha": 8, "use_rslora": True}, 8 / 2**0.5),
        ({"lora_alpha": 8, "alpha_pattern": {r"attn2\.to_k": 3}}, 1.5),
    ],
)
def test_folder_of_peft(pipeline: Pipeline, tmp_path: Path, settings: dict[str, Any], expected: float) -> None:
    peft_folder(tmp_path, peft(PEFT), **settings)
    assert factor(pipeline, tmp_path) == pytest.approx(expected, rel=1e-4)
    assert factor(pipeline, tmp_path, file=ADAPTER) == pytest.approx(expected, rel=1e-4)
    # Its settings shape the denoiser, too.
    assert [file.name for file in weight_files(tmp_path / ADAPTER)] == [ADAPTER, "adapter_config.json"]


def test_folders_of_peft_for_denoiser_and_text_encoder(pipeline: Pipeline, tmp_path: Path) -> None:
    for part in ("unet", "text_encoder"):
        (tmp_path / part).mkdir()
        save_file(peft(PEFT), tmp_path / part / ADAPTER)
        (tmp_path / part / "adapter_config.json").write_text(json.dumps({"r": RANK, "lora_alpha": 2 * RANK}))
    wrong = rf"{tmp_path}/text_encoder/{ADAPTER}: the LoRA changes text encoders too"
    with pytest.raises(InputError, match=wrong):
        factor(pipeline, tmp_path, file="unet")
    (tmp_path / "text_encoder" / ADAPTER).unlink()
    assert factor(pipeline, tmp_path, file="unet") == pytest.approx(2)


@pytest.mark.parametrize("pattern", [LAYER, f"unet.{LAYER}", f"^unet.{LAYER}", r".*\.to_k"])
def test_patterns_of_peft_are_of_the_names_in_the_model_that_was_trained(
    pipeline: Pipeline, tmp_path: Path, pattern: str
) -> None:
    matrices_within = peft(f"base_model.model.unet.{LAYER}")
    peft_folder(tmp_path, matrices_within, r=7, rank_pattern={pattern: 2}, lora_alpha=8)
    assert factor(pipeline, tmp_path) == pytest.approx(4.0, rel=1e-4)
    peft_folder(tmp_path, matrices_within, lora_alpha=8, alpha_pattern={pattern: 3})
    assert factor(pipeline, tmp_path) == pytest.approx(1.5, rel=1e-4)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"use_dora": True}, "is DoRA, which is not read: use_dora is True"),
        ({"bias": "lora_only"}, "bias is 'lora_only'"),
        ({"modules_to_save": ["conv_in"]}, r"modules_to_save is \['conv_in'\]"),
        ({"peft_type": "LOHA"}, "peft_type is LOHA, which is not read; expected LORA"),
        ({"rank_pattern": {"to_k": 3}}, "is 3, its matrices have 2"),
        ({"init_lora_weights": "loftq"}, "init_lora_weights is 'loftq'"),
        ({"layer_replication": [[0, 1]]}, "layer_replication"),
    ],
)
def test_folder_of_peft_that_is_more_than_a_lora(
    pipeline: Pipeline, tmp_path: Path, settings: dict[str, Any], message: str
) -> None:
    peft_folder(tmp_path, peft(PEFT), lora_alpha=8, **settings)
    with pytest.raises(InputError, match=rf"adapter_config\.json: .*{message}"):
        load(tmp_path / ADAPTER, pipeline)


def test_matrices_of_peft_without_their_settings(pipeline: Pipeline, tmp_path: Path) -> None:
    save_file(peft(PEFT), tmp_path / ADAPTER)
    with pytest.raises(InputError, match=r"adapter_config\.json: no such file; it says the alpha of adapter_model"):
        load(tmp_path / ADAPTER, pipeline)


def test_what_peft_itself_saves(base: Path, pipeline: Pipeline, tmp_path: Path) -> None:
    """PEFT's own merged weights are the judge, of layers of different rank and alpha."""
    from peft import LoraConfig, get_peft_model

    config = LoraConfig(
        r=4,
        lora_alpha=8,
        target_modules=["to_k", "to_out.0", "conv1"],
        rank_pattern={"conv1": 2},
        alpha_pattern={"to_k": 3},
    )
    model = get_peft_model(pipeline.load_denoiser(base), config)
    torch.manual_seed(0)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_B" in name:
                parameter.normal_()
    model.save_pretrained(tmp_path)
    expected = model.merge_and_unload().state_dict()
    found = load(locate(ExternalModel(source=str(tmp_path))), pipeline).state_dict()
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, atol=1e-5, rtol=1e-5)
    assert not torch.allclose(
        found["down_blocks.0.resnets.0.conv1.weight"], pipeline.denoiser.down_blocks[0].resnets[0].conv1.weight
    )


def test_what_diffusers_itself_saves(base: Path, pipeline: Pipeline, tmp_path: Path) -> None:
    from diffusers import StableDiffusionPipeline
    from peft import LoraConfig
    from peft.utils import get_peft_model_state_dict

    unet = pipeline.load_denoiser(base)
    unet.add_adapter(LoraConfig(r=4, lora_alpha=2, target_modules=["to_q", "proj_in"]), "default")
    torch.manual_seed(0)
    for name, parameter in unet.named_parameters():
        if "lora_B" in name:
            parameter.data.normal_()
    metadata = unet.peft_config["default"].to_dict()
    StableDiffusionPipeline.save_lora_weights(
        tmp_path, unet_lora_layers=get_peft_model_state_dict(unet), unet_lora_adapter_metadata=metadata
    )
    unet.fuse_lora()
    unet.unload_lora()
    found = load(tmp_path / FILE, pipeline).state_dict()
    for name, value in unet.state_dict().items():
        torch.testing.assert_close(found[name], value, atol=1e-5, rtol=1e-5)


def test_old_pickles_are_read(pipeline: Pipeline, tmp_path: Path) -> None:
    torch.save({**peft(), f"unet.{LAYER}.alpha": torch.tensor(8.0)}, tmp_path / "pytorch_lora_weights.bin")
    assert factor(pipeline, tmp_path) == pytest.approx(4.0, rel=1e-4)


def test_kohya_of_sdxl_numbers_blocks_as_the_original_code(save_tiny_base: Callable[..., Path], tmp_path: Path) -> None:
    # One layer a level: input_blocks are conv_in, resnet, downsampler, resnet with attention.
    pipeline = open_pipeline(save_tiny_base(tmp_path / "sdxl", "sdxl"))
    layer = "lora_unet_input_blocks_3_1_transformer_blocks_0_attn1_to_out_0"
    save_file({**kohya(layer), f"{layer}.alpha": torch.tensor(1.0)}, tmp_path / "xl.safetensors")
    place = "down_blocks.1.attentions.0.transformer_blocks.0.attn1.to_out.0"
    assert factor(pipeline, tmp_path / "xl.safetensors", place) == pytest.approx(0.5, rel=1e-4)
    lost = kohya(layer.replace("input_blocks_3", "input_blocks_9"))
    save_file({**kohya(layer), **lost}, tmp_path / "other.safetensors")
    with pytest.raises(InputError, match=r"of 4 LoRA matrices have no place in the base"):
        load(tmp_path / "other.safetensors", pipeline)


def test_lora_that_a_training_here_exported(tiny_sd15: Path, tmp_path: Path) -> None:
    """Read back with the alpha it was trained with, by its merged weights."""
    from sdpo.bases import open_base
    from sdpo.training.lora import Adapters
    from sdpo.training.settings import LoraSettings

    denoiser = open_base("sd15", tiny_sd15).load_denoiser()
    adapters = Adapters(denoiser, LoraSettings(rank=4, alpha=6, targets=["to_k", "to_v"]), seed=0)
    torch.manual_seed(0)
    with torch.no_grad():
        for name, parameter in adapters.named_parameters().items():
            if "lora_B" in name:
                parameter.normal_()
    adapters.save(tmp_path, "unet")
    own = {name: value for name, value in load_file(tmp_path / FILE).items() if "attn1.to_k" in name}
    assert len(own) > 1
    adapters.merge()
    found = load(locate(ExternalModel(source=str(tmp_path))), open_pipeline(tiny_sd15)).state_dict()
    for name, value in denoiser.state_dict().items():
        torch.testing.assert_close(found[name], value, atol=1e-5, rtol=1e-5)
