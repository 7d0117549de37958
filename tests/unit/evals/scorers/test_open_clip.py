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
from evals.networks import open_clip_model
from evals.networks.interface import truncated
from evals.scorers import create

SCORERS = ["hpsv2", "clip"]


def small_cfg(**changes: Any) -> dict[str, Any]:
    return {
        "embed_dim": 16,
        "vision_cfg": {"image_size": 28, "layers": 2, "width": 32, "head_width": 16, "patch_size": 14},
        "text_cfg": {
            "context_length": 16,
            "vocab_size": 54,
            "width": 32,
            "heads": 2,
            "layers": 2,
            "hf_tokenizer_name": ".",
        },
        **changes,
    }


@pytest.mark.parametrize("name", SCORERS)
def test_equals_open_clips_own_loader(
    name: str, open_clip_folder: Path, awkward_images: list[Image.Image], prompts: list[str]
) -> None:
    """open_clip reads the folder itself; SDPO's code takes its transform, its tokenizer and the raw cosine."""
    import open_clip

    # open_clip's transform resizes a palette's indices before it converts; ours converts first, on purpose.
    images = [image.convert("RGB") for image in awkward_images]
    model, _, transform = open_clip.create_model_and_transforms(f"local-dir:{open_clip_folder}")
    model.eval()
    tokenizer = open_clip.get_tokenizer(f"local-dir:{open_clip_folder}")
    with torch.no_grad():
        features = model.encode_image(torch.stack([transform(image) for image in images]), normalize=True)
        texts = model.encode_text(tokenizer(prompts), normalize=True)
    scores = create(name, weights=open_clip_folder).score(awkward_images, prompts)
    np.testing.assert_allclose(scores, (features * texts).sum(-1), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", SCORERS)
def test_batches(name: str, open_clip_folder: Path, check_batching: Callable[[Callable[[int], Any]], None]) -> None:
    check_batching(lambda size: create(name, weights=open_clip_folder, batch_size=size))


def test_the_prompt_is_cleaned_as_open_clip_does(open_clip_folder: Path, awkward_images: list[Image.Image]) -> None:
    scores = create("clip", weights=open_clip_folder).score(awkward_images[:1] * 3, ["a & b’s", "A &amp;amp; b's", "b"])
    assert scores[0] == pytest.approx(scores[1], abs=1e-6)
    assert abs(scores[0] - scores[2]) > 1e-3


def test_own_tokenizer_folder(
    tmp_path: Path, letter_tokenizer: Any, awkward_images: list[Image.Image], prompts: list[str]
) -> None:
    torch.manual_seed(0)
    cfg = small_cfg()
    model = open_clip_model.build(cfg).eval()
    open_clip_model.save(tmp_path, model, cfg, letter_tokenizer)
    scores = create("clip", weights=tmp_path).score(awkward_images, prompts)

    from open_clip.transform import image_transform

    transform = image_transform(28, is_train=False)
    images = torch.stack([transform(image.convert("RGB")) for image in awkward_images])
    # "a red cat" by hand: letters count from 0, at a word's end from 26; start 52, end 53.
    ids = torch.tensor([[52, 26, 17, 4, 29, 2, 0, 45, *[53] * 8]])
    with torch.no_grad():
        text = model.encode_text(ids, normalize=True)
        features = model.encode_image(images, normalize=True)
    assert scores[0] == pytest.approx(float(features[0] @ text[0]), abs=1e-6)
    assert scores[5] == pytest.approx(float(features[5] @ text[0]), abs=1e-6)


def test_own_tokenizer_must_end_with_its_largest_id(tmp_path: Path, letter_tokenizer: Any) -> None:
    cfg = small_cfg()
    cfg["text_cfg"]["vocab_size"] = 55
    open_clip_model.save(tmp_path, open_clip_model.build(cfg), cfg, letter_tokenizer)
    with pytest.raises(InputError, match="end token is 53, the model pools 54"):
        create("clip", weights=tmp_path)


def test_quick_gelu_comes_from_the_configuration(
    tmp_path: Path, open_clip_folder: Path, awkward_images: list[Image.Image], prompts: list[str]
) -> None:
    quick = shutil.copytree(open_clip_folder, tmp_path / "quick")
    config = json.loads((quick / "open_clip_config.json").read_text())
    config["model_cfg"]["quick_gelu"] = True
    (quick / "open_clip_config.json").write_text(json.dumps(config))
    plain, quick_scorer = create("clip", weights=open_clip_folder), create("clip", weights=quick)
    difference = plain.score(awkward_images, prompts) - quick_scorer.score(awkward_images, prompts)
    assert np.abs(difference).max() > 1e-4
    assert plain.fingerprint != quick_scorer.fingerprint


def test_hps_checkpoint_in_half_precision(
    tmp_path: Path, open_clip_folder: Path, awkward_images: list[Image.Image], prompts: list[str]
) -> None:
    """HPS_v2_compressed.pt holds float16 tensors under ``state_dict``; the model runs in float32."""
    folder = tmp_path / "hps"
    folder.mkdir()
    state = {key: value.half() for key, value in load_file(open_clip_folder / "open_clip_model.safetensors").items()}
    torch.save({"state_dict": state, "epoch": 3}, folder / "HPS_v2_compressed.pt")
    shutil.copy(open_clip_folder / "open_clip_config.json", folder)
    model = open_clip_model.build(json.loads((folder / "open_clip_config.json").read_text())["model_cfg"]).eval()
    model.load_state_dict({key: value.float() for key, value in state.items()})
    full = shutil.copytree(open_clip_folder, tmp_path / "full")
    save_file({k: v.contiguous() for k, v in model.state_dict().items()}, full / "open_clip_model.safetensors")
    np.testing.assert_array_equal(
        create("hpsv2", weights=folder).score(awkward_images, prompts),
        create("hpsv2", weights=full).score(awkward_images, prompts),
    )


def test_two_checkpoints_are_ambiguous(open_clip_folder: Path) -> None:
    for name in ("HPS_v2_a.pt", "HPS_v2_b.pt"):
        (open_clip_folder / name).touch()
    with pytest.raises(InputError, match=r"finds HPS_v2_a\.pt, HPS_v2_b\.pt: give the path of one"):
        create("hpsv2", weights=open_clip_folder)


def test_vit_h_14_has_the_published_size() -> None:
    with torch.device("meta"):
        model = open_clip_model.build(open_clip_model.VIT_H_14)
    assert sum(p.numel() for p in model.parameters()) / 1e6 == pytest.approx(986.11, abs=0.01)
    assert isinstance(model.visual.transformer.resblocks[0].mlp.gelu, torch.nn.GELU)


def test_a_file_alone_is_vit_h_14(open_clip_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import open_clip

    assert open_clip.get_model_config("ViT-H-14") == open_clip_model.VIT_H_14
    cfg = json.loads((open_clip_folder / "open_clip_config.json").read_text())["model_cfg"]
    monkeypatch.setattr(open_clip_model, "VIT_H_14", {**cfg, "embed_dim": 20})
    with pytest.raises(InputError, match=r"open_clip_model\.safetensors: '.*' has shape .*another architecture"):
        create("clip", weights=open_clip_folder / "open_clip_model.safetensors")
    monkeypatch.setattr(open_clip_model, "VIT_H_14", cfg)
    create("clip", weights=open_clip_folder / "open_clip_model.safetensors")


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        (("preprocess_cfg", "interpolation"), "bilinear", "preprocess_cfg.interpolation is 'bilinear', only 'bicubic'"),
        (("preprocess_cfg", "resize_mode"), "longest", "preprocess_cfg.resize_mode is 'longest', only 'shortest'"),
        (("model_cfg", "text_cfg"), {"vocab_size": 10}, "vocab_size is 10, open_clip's own vocabulary has 49408"),
        (("model_cfg", "vision_cfg"), {"image_size": [28, 14]}, "expected one number: crops are square"),
        (("model_cfg", "multimodal_cfg"), {}, "not a plain open_clip CLIP"),
        (("model_cfg",), None, "must have embed_dim, vision_cfg and text_cfg"),
    ],
)
def test_configuration_that_cannot_be_run(
    open_clip_folder: Path, path: tuple[str, ...], value: Any, message: str
) -> None:
    file = open_clip_folder / "open_clip_config.json"
    config = json.loads(file.read_text())
    inner = config
    for key in path[:-1]:
        inner = inner[key]
    if isinstance(value, dict) and path[-1] in inner:
        inner[path[-1]].update(value)
    else:
        inner[path[-1]] = value
    file.write_text(json.dumps(config))
    if path[-1] == "text_cfg":
        model = open_clip_model.build(config["model_cfg"])
        save_file(
            {k: v.contiguous() for k, v in model.state_dict().items()}, open_clip_folder / "open_clip_model.safetensors"
        )
    with pytest.raises(InputError, match=rf"open_clip_config\.json: .*{message}"):
        create("clip", weights=open_clip_folder)


def test_mean_and_deviation_come_from_the_configuration(
    open_clip_folder: Path, awkward_images: list[Image.Image]
) -> None:
    before = create("clip", weights=open_clip_folder)
    file = open_clip_folder / "open_clip_config.json"
    config = json.loads(file.read_text())
    config["preprocess_cfg"]["mean"] = [0.5, 0.5, 0.5]
    file.write_text(json.dumps(config))
    after = create("clip", weights=open_clip_folder)
    assert after.fingerprint != before.fingerprint
    assert abs(after.score(awkward_images[:1], ["a"])[0] - before.score(awkward_images[:1], ["a"])[0]) > 1e-6


def test_version_21_is_a_scorer_of_its_own_that_refuses_version_20(open_clip_folder: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(open_clip_folder, tmp_path / "hpsv21")
    image = Image.linear_gradient("L").resize((40, 30))
    ours = create("hpsv21", protocol="author", weights=folder).score([image], ["a cat"])
    assert ours == pytest.approx(create("hpsv2", protocol="author", weights=folder).score([image], ["a cat"]))
    with pytest.raises(InputError, match=r"unknown protocol 'sdpo'"):
        create("hpsv21", protocol="sdpo", weights=folder)
    (folder / "HPS_v2_compressed.pt").write_bytes(b"")
    with pytest.raises(InputError, match=r"HPS_v2_compressed\.pt is HPS v2\.0.*run scorer 'hpsv2'"):
        create("hpsv21", protocol="author", weights=folder)


def test_a_prompt_that_spells_the_end_token(open_clip_folder: Path) -> None:
    """In any case and behind HTML's escapes, as open_clip's tokenizer reads it; that of transformers is only text."""
    scorer = create("clip", weights=open_clip_folder)
    image = Image.new("RGB", (64, 64), "red")
    texts = ["a red cat", "a red cat<END_of_text> dog", "a red cat &lt;end_of_text&gt;", "a <|endoftext|> b"]
    scores = scorer.score([image] * 4, texts)
    assert scores[1:3] == pytest.approx(scores[0], abs=1e-5)
    assert truncated(scorer, texts) == [False, True, True, False]
