"""Denoisers of flow models from elsewhere: whole, in a folder, as a LoRA; and what is refused."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from artifacts.errors import InputError
from evals.generation import external_models
from evals.generation.pipelines import Pipeline, open_pipeline
from evals.generation.settings import ExternalModel

LAYER = "transformer_blocks.0.attn.to_q"


@pytest.fixture(params=["sd3", "flux", "ovis_image"])
def pipeline(request: pytest.FixtureRequest, tiny_flows: dict[str, Path]) -> Pipeline:
    return open_pipeline(tiny_flows[request.param], size=32)


def loaded(pipeline: Pipeline, source: Path, **more: Any) -> dict[str, torch.Tensor]:
    model = ExternalModel(source=str(source), **more)
    found: dict[str, torch.Tensor] = external_models.load(external_models.locate(model), pipeline).state_dict()
    return found


def perturbed(pipeline: Pipeline) -> dict[str, torch.Tensor]:
    random = torch.Generator().manual_seed(3)
    state = pipeline.denoiser.state_dict()
    return {name: x + 0.1 * torch.randn(x.shape, generator=random) for name, x in state.items()}


@pytest.mark.parametrize("prefix", ["", "transformer.", "module.model."])
def test_state_dicts(pipeline: Pipeline, tmp_path: Path, prefix: str) -> None:
    state = perturbed(pipeline)
    save_file({prefix + name: x for name, x in state.items()}, tmp_path / "weights.safetensors")
    found = loaded(pipeline, tmp_path / "weights.safetensors")
    assert found.keys() == state.keys()
    assert all(torch.equal(found[name], x) for name, x in state.items())


def test_folder_of_a_pipeline(pipeline: Pipeline, tmp_path: Path) -> None:
    shutil.copytree(pipeline.path, tmp_path / "other")
    state = perturbed(pipeline)
    save_file(state, tmp_path / "other/transformer/diffusion_pytorch_model.safetensors", metadata={"format": "pt"})
    found = loaded(pipeline, tmp_path / "other")
    assert all(torch.equal(found[name], x) for name, x in state.items())
    scheduler = tmp_path / "other/scheduler/scheduler_config.json"
    scheduler.write_text(json.dumps({"_class_name": "DDIMScheduler", "prediction_type": "v_prediction"}))
    (tmp_path / "other/model_index.json").unlink()
    with pytest.raises(InputError, match=r"prediction_type is v_prediction, the base .* has flow"):
        loaded(pipeline, tmp_path / "other")


def test_lora_of_the_library(pipeline: Pipeline, tmp_path: Path) -> None:
    weight = pipeline.denoiser.state_dict()[f"{LAYER}.weight"]
    random = torch.Generator().manual_seed(4)
    down, up = torch.randn(2, weight.shape[1], generator=random), torch.randn(weight.shape[0], 2, generator=random)
    keys = {f"transformer.{LAYER}.lora_A.weight": down, f"transformer.{LAYER}.lora_B.weight": up}
    about = {"lora_adapter_metadata": json.dumps({"transformer.r": 2, "transformer.lora_alpha": 6})}
    save_file(keys, tmp_path / "pytorch_lora_weights.safetensors", metadata=about)
    found = loaded(pipeline, tmp_path)
    torch.testing.assert_close(found[f"{LAYER}.weight"], weight + 3 * (up @ down), rtol=1e-5, atol=1e-5)
    others = {name for name, x in pipeline.denoiser.state_dict().items() if not torch.equal(found[name], x)}
    assert others == {f"{LAYER}.weight"}


def test_denoiser_of_another_family(tiny_flows: dict[str, Path], tiny_sd15: Path, tmp_path: Path) -> None:
    flux = open_pipeline(tiny_flows["flux"], size=32)
    sd3 = tiny_flows["sd3"] / "transformer/diffusion_pytorch_model.safetensors"
    with pytest.raises(InputError, match=r"not a denoiser of the base .*; give the base that it was trained from"):
        loaded(flux, sd3)
    with pytest.raises(InputError, match=r"not a denoiser of the base .*'conv_in.weight' is missing"):
        loaded(open_pipeline(tiny_sd15), sd3)
    original = {f"model.diffusion_model.joint_blocks.{i}.x": torch.zeros(1) for i in range(2)}
    save_file(original, tmp_path / "original.safetensors")
    with pytest.raises(InputError, match=r"a whole checkpoint in the original layout"):
        loaded(open_pipeline(tiny_flows["sd3"]), tmp_path / "original.safetensors")
