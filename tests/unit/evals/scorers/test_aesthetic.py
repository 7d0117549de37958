from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from transformers import CLIPVisionModelWithProjection

from artifacts.errors import InputError
from evals.networks.preprocessing import Preprocessing, crops
from evals.scorers import create

SAC = "sac+logos+ava1-l14-linearMSE.pth"


def folded(state: dict[str, torch.Tensor]) -> tuple[np.ndarray, float]:
    """The head as one affine map, in float64."""
    weight, bias = np.eye(state["layers.0.weight"].shape[1]), np.zeros(state["layers.0.weight"].shape[1])
    for index in (0, 2, 4, 6, 7):
        layer = state[f"layers.{index}.weight"].double().numpy()
        weight, bias = layer @ weight, layer @ bias + state[f"layers.{index}.bias"].double().numpy()
    return weight[0], float(bias[0])


def test_equals_the_folded_head_on_transformers_embeddings(
    aesthetic_folder: Path, awkward_images: list[Image.Image]
) -> None:
    from transformers import CLIPModel

    model = CLIPModel.from_pretrained(aesthetic_folder / "clip").eval()
    with torch.no_grad():
        pooled = model.vision_model(Preprocessing(28).normalise(crops(awkward_images, 28))).pooler_output
        embedding = model.visual_projection(pooled).double().numpy()
    weight, bias = folded(load_file(aesthetic_folder / "head.safetensors"))
    unit = embedding / np.linalg.norm(embedding, axis=1, keepdims=True)
    scores = create("aesthetic", weights=aesthetic_folder).score(awkward_images, [""] * 6)
    np.testing.assert_allclose(scores, unit @ weight + bias, rtol=1e-5, atol=1e-6)
    assert np.abs(embedding @ weight + bias - scores).max() > 0.1, "normalising must matter here"


def test_batches(aesthetic_folder: Path, check_batching: Callable[[Callable[[int], Any]], None]) -> None:
    check_batching(lambda size: create("aesthetic", weights=aesthetic_folder, batch_size=size))


def test_the_prompt_is_ignored(aesthetic_folder: Path, awkward_images: list[Image.Image]) -> None:
    scorer = create("aesthetic", weights=aesthetic_folder)
    one, two = scorer.score(awkward_images[:1] * 2, ["a", "something else"])
    # One picture at two places of a batch may round otherwise.
    assert one == pytest.approx(two, abs=1e-5)


def test_published_head_file_and_tower_alone(aesthetic_folder: Path, awkward_images: list[Image.Image]) -> None:
    """The same numbers from the author's .pth and from a CLIPVisionModelWithProjection folder."""
    before = create("aesthetic", weights=aesthetic_folder).score(awkward_images, [""] * 6)
    torch.save(load_file(aesthetic_folder / "head.safetensors"), aesthetic_folder / SAC)
    (aesthetic_folder / "head.safetensors").unlink()
    clip = aesthetic_folder / "clip"
    config = json.loads((clip / "config.json").read_text())
    config["vision_config"]["projection_dim"] = config["projection_dim"]
    (clip / "config.json").write_text(json.dumps(config))
    tower = CLIPVisionModelWithProjection.from_pretrained(clip)
    (clip / "model.safetensors").unlink()
    tower.save_pretrained(clip)
    assert json.loads((clip / "config.json").read_text())["model_type"] == "clip_vision_model"
    np.testing.assert_array_equal(create("aesthetic", weights=aesthetic_folder).score(awkward_images, [""] * 6), before)


def test_head_and_clip_must_have_one_width(aesthetic_folder: Path) -> None:
    state = load_file(aesthetic_folder / "head.safetensors")
    state["layers.0.weight"] = torch.ones(10, 768)
    save_file(state, aesthetic_folder / "head.safetensors")
    with pytest.raises(
        InputError, match=r"head\.safetensors: the head takes 768 features, the CLIP beside it gives 24"
    ):
        create("aesthetic", weights=aesthetic_folder)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda s: s.pop("layers.4.weight"), "key 'layers.4.weight' is missing"),
        (lambda s: s.pop("layers.4.bias"), "key 'layers.4.bias' is missing"),
        (lambda s: s.update({"layers.6.weight": torch.ones(4, 5)}), "are not those of a reward head"),
        (lambda s: s.update({"layers.7.weight": torch.ones(2, 4)}), "are not those of a reward head"),
        (lambda s: s.update({"layers.9.weight": torch.ones(1)}), "key 'layers.9.weight' is unknown"),
    ],
)
def test_another_head(aesthetic_folder: Path, change: Callable[[dict[str, Any]], None], message: str) -> None:
    state = load_file(aesthetic_folder / "head.safetensors")
    change(state)
    save_file(state, aesthetic_folder / "head.safetensors")
    with pytest.raises(InputError, match=rf"head\.safetensors: .*{message}"):
        create("aesthetic", weights=aesthetic_folder)


def test_pickled_objects_are_not_executed(aesthetic_folder: Path) -> None:
    (aesthetic_folder / "head.safetensors").unlink()
    torch.save({"layers.0.weight": Path("x")}, aesthetic_folder / SAC)
    with pytest.raises(InputError, match=r"linearMSE\.pth: not a readable weight file"):
        create("aesthetic", weights=aesthetic_folder)
