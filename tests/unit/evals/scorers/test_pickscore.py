from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from artifacts.errors import InputError
from evals.networks.interface import truncated
from evals.networks.preprocessing import Preprocessing, crops
from evals.scorers import create


def test_equals_transformers_clip_by_hand(
    pickscore_folder: Path, awkward_images: list[Image.Image], prompts: list[str]
) -> None:
    """The protocol as the paper's evaluation code has it: features, norms, diagonal of the matrix, no logit scale."""
    from transformers import AutoTokenizer, CLIPModel

    model = CLIPModel.from_pretrained(pickscore_folder).eval()
    tokens = AutoTokenizer.from_pretrained(pickscore_folder)(
        prompts, padding=True, truncation=True, max_length=16, return_tensors="pt"
    )
    with torch.no_grad():
        out = model(pixel_values=Preprocessing(28).normalise(crops(awkward_images, 28)), **tokens)
        expected = torch.diagonal(out.logits_per_image / model.logit_scale.exp())
    scores = create("pickscore", weights=pickscore_folder).score(awkward_images, prompts)
    np.testing.assert_allclose(scores, expected, rtol=1e-5, atol=1e-6)
    assert np.abs(scores).max() <= 1


def test_batches(pickscore_folder: Path, check_batching: Callable[[Callable[[int], Any]], None]) -> None:
    check_batching(lambda size: create("pickscore", weights=pickscore_folder, batch_size=size))


def test_no_images_give_no_scores(pickscore_folder: Path) -> None:
    assert create("pickscore", weights=pickscore_folder).score([], []).shape == (0,)


def test_lengths_must_match(pickscore_folder: Path, awkward_images: list[Image.Image]) -> None:
    with pytest.raises(InputError, match="6 images and 1 prompts"):
        create("pickscore", weights=pickscore_folder).score(awkward_images, ["a"])


def test_pixels_and_text_both_count(pickscore_folder: Path, awkward_images: list[Image.Image]) -> None:
    scorer = create("pickscore", weights=pickscore_folder)
    one, two = scorer.score(awkward_images[:1] * 2, ["a red cat", "two dogs"])
    three = scorer.score(awkward_images[1:2], ["a red cat"])[0]
    assert len({round(float(value), 5) for value in (one, two, three)}) == 3


def test_fingerprint(pickscore_folder: Path, tmp_path: Path) -> None:
    first = create("pickscore", weights=pickscore_folder).fingerprint
    moved = shutil.copytree(pickscore_folder, tmp_path / "elsewhere")
    assert create("pickscore", weights=moved, batch_size=7).fingerprint == first
    assert create("pickscore", weights=moved, dtype="bfloat16").fingerprint != first

    config = json.loads((moved / "config.json").read_text())
    config["vision_config"]["hidden_act"] = "quick_gelu"
    (moved / "config.json").write_text(json.dumps(config))
    with_config = create("pickscore", weights=moved).fingerprint
    state = load_file(moved / "model.safetensors")
    state["visual_projection.weight"] += 1e-3
    save_file(state, moved / "model.safetensors")
    with_weights = create("pickscore", weights=moved).fingerprint
    (moved / "tokenizer_config.json").write_text((moved / "tokenizer_config.json").read_text() + " ")
    assert len({first, with_config, with_weights, create("pickscore", weights=moved).fingerprint}) == 4


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda s: s.pop("text_projection.weight"), r"model\.safetensors: key 'text_projection.weight' is missing"),
        (lambda s: s.update(extra=torch.ones(1)), r"model\.safetensors: key 'extra' is unknown"),
        (
            lambda s: s.update({"visual_projection.weight": torch.ones(23, 32)}),
            r"'visual_projection.weight' has shape \(23, 32\), expected \(24, 32\)",
        ),
    ],
)
def test_weights_must_fit(pickscore_folder: Path, change: Callable[[dict[str, Any]], None], message: str) -> None:
    state = load_file(pickscore_folder / "model.safetensors")
    change(state)
    save_file(state, pickscore_folder / "model.safetensors")
    with pytest.raises(InputError, match=message):
        create("pickscore", weights=pickscore_folder)


def test_position_ids_of_older_files_are_ignored(pickscore_folder: Path) -> None:
    state = load_file(pickscore_folder / "model.safetensors")
    state["text_model.embeddings.position_ids"] = torch.arange(16)[None]
    save_file(state, pickscore_folder / "model.safetensors")
    create("pickscore", weights=pickscore_folder)


def test_truncated_weights(pickscore_folder: Path) -> None:
    path = pickscore_folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(InputError, match=r"model\.safetensors: not a readable weight file"):
        create("pickscore", weights=pickscore_folder)


def test_another_model_type(pickscore_folder: Path) -> None:
    (pickscore_folder / "config.json").write_text('{"model_type": "bert"}')
    with pytest.raises(InputError, match=r"config\.json: model_type is 'bert', expected clip"):
        create("pickscore", weights=pickscore_folder)


def test_end_token_must_be_the_models(pickscore_folder: Path) -> None:
    """CLIP would otherwise pool at the first token, whatever the prompt."""
    config = json.loads((pickscore_folder / "config.json").read_text())
    config["text_config"]["eos_token_id"] = 50
    (pickscore_folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(InputError, match="the tokenizer's end token is 53, the model pools 50"):
        create("pickscore", weights=pickscore_folder)


def test_old_configurations_say_2_for_the_largest_token(
    pickscore_folder: Path, awkward_images: list[Image.Image], prompts: list[str]
) -> None:
    before = create("pickscore", weights=pickscore_folder).score(awkward_images, prompts)
    config = json.loads((pickscore_folder / "config.json").read_text())
    config["text_config"]["eos_token_id"] = 2
    (pickscore_folder / "config.json").write_text(json.dumps(config))
    np.testing.assert_array_equal(create("pickscore", weights=pickscore_folder).score(awkward_images, prompts), before)


def test_missing_tokenizer(pickscore_folder: Path) -> None:
    (pickscore_folder / "tokenizer.json").unlink()
    with pytest.raises(InputError, match=r"no tokenizer there: expected tokenizer\.json or vocab\.json \+ merges\.txt"):
        create("pickscore", weights=pickscore_folder)


def test_vocabulary_and_merges_serve_as_well(
    pickscore_folder: Path, awkward_images: list[Image.Image], prompts: list[str]
) -> None:
    before = create("pickscore", weights=pickscore_folder).score(awkward_images, prompts)
    model = json.loads((pickscore_folder / "tokenizer.json").read_text())["model"]
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (pickscore_folder / name).unlink()
    (pickscore_folder / "vocab.json").write_text(json.dumps(model["vocab"]))
    (pickscore_folder / "merges.txt").write_text("#version: 0.2\n")
    np.testing.assert_array_equal(create("pickscore", weights=pickscore_folder).score(awkward_images, prompts), before)


def test_a_prompt_that_spells_the_end_token(pickscore_folder: Path, awkward_images: list[Image.Image]) -> None:
    """As the model in transformers, whose tokenizer reads it as the end: nothing behind it counts, and that is said."""
    from transformers import AutoTokenizer

    end = AutoTokenizer.from_pretrained(pickscore_folder).eos_token
    texts = ["a red cat", f"a red cat{end}", f"a red cat{end} dog", "a red cat dog"]
    scorer = create("pickscore", weights=pickscore_folder)
    scores = scorer.score(awkward_images[:1] * 4, texts)
    assert scores[1:3] == pytest.approx(scores[0], abs=1e-5)
    assert abs(scores[3] - scores[0]) > 1e-4
    assert truncated(scorer, texts) == [False, True, True, False]
