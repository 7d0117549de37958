"""A pair cache knows which autoencoder, text encoders and tokenizers made it."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from artifacts.errors import InputError
from families.part_digest import part_digest
from sdpo import bases
from sdpo.pairs import cache
from sdpo.training.job import train

World = tuple[dict[str, str], Path]
Change = Callable[[Path], None]


def weights_changed(file: str, *, part: float = 1e-3) -> Change:
    def change(base: Path) -> None:
        tensors = load_file(base / file)
        name = max(tensors, key=lambda name: tensors[name].numel())
        tensors[name] = tensors[name] * (1 + part)
        save_file(tensors, base / file, metadata={"format": "pt"})

    return change


def setting_changed(file: str, **settings: Any) -> Change:
    def change(base: Path) -> None:
        content = json.loads((base / file).read_text())
        (base / file).write_text(json.dumps({**content, **settings}))

    return change


def vocabulary_turned_round(base: Path) -> None:
    file = base / "tokenizer" / "vocab.json"
    content = json.loads(file.read_text())
    first, second = list(content)[:2]
    content[first], content[second] = content[second], content[first]
    file.write_text(json.dumps(content))


OTHERS: dict[str, tuple[str, Change]] = {
    "another autoencoder": ("vae", weights_changed("vae/diffusion_pytorch_model.safetensors")),
    "another scale of latents": ("vae", setting_changed("vae/config.json", scaling_factor=0.5)),
    "another shift of latents": ("vae", setting_changed("vae/config.json", shift_factor=0.1)),
    "latents by channel": ("vae", setting_changed("vae/config.json", latents_mean=[0.1] * 4, latents_std=[1.0] * 4)),
    "another text encoder": ("text_encoder", weights_changed("text_encoder/model.safetensors")),
    "another activation": ("text_encoder", setting_changed("text_encoder/config.json", hidden_act="gelu")),
    "another vocabulary": ("tokenizer", vocabulary_turned_round),
    "another length": ("tokenizer", setting_changed("tokenizer/tokenizer_config.json", model_max_length=12)),
}


def resaved(base: Path) -> None:
    """As another release of the libraries writes the same encoders."""
    from diffusers import AutoencoderKL
    from transformers import CLIPTextModel, CLIPTokenizer

    AutoencoderKL.from_pretrained(base / "vae").save_pretrained(base / "vae")
    CLIPTextModel.from_pretrained(base / "text_encoder").save_pretrained(base / "text_encoder")
    tokenizer = CLIPTokenizer.from_pretrained(base / "tokenizer")
    shutil.rmtree(base / "tokenizer")
    tokenizer.save_pretrained(base / "tokenizer")
    assert not (base / "tokenizer" / "vocab.json").exists()


def renamed(base: Path) -> None:
    """Attention of an autoencoder has had other names."""
    file = base / "vae" / "diffusion_pytorch_model.safetensors"
    tensors = {name.replace("to_q", "query"): tensor for name, tensor in load_file(file).items()}
    save_file({**tensors, "position_ids": torch.arange(3)}, file, metadata={"format": "pt"})


SAME: dict[str, Change] = {
    "a fine-tuned U-Net": weights_changed("unet/diffusion_pytorch_model.safetensors"),
    "other keys in a configuration": setting_changed("vae/config.json", _diffusers_version="0.1", force_upcast=True),
    "saved by another release": resaved,
    "renamed tensors": renamed,
    "a copy in another precision": lambda base: (base / "vae/diffusion_pytorch_model.fp16.safetensors").write_bytes(
        b"x"
    ),
}


@pytest.fixture
def changed(tiny_sd15_world: World, tmp_path: Path) -> Callable[[Change], dict[str, str]]:
    def make(change: Change) -> dict[str, str]:
        base, _ = tiny_sd15_world
        shutil.copytree(base["path"], tmp_path / "base")
        change(tmp_path / "base")
        return {**base, "path": str(tmp_path / "base")}

    return make


@pytest.mark.parametrize("name", OTHERS)
def test_cache_of_other_encoders_of_equal_width_is_refused(
    tiny_sd15_world: World, changed: Callable[[Change], dict[str, str]], name: str
) -> None:
    part, change = OTHERS[name]
    base, pairs = bases.open_described(changed(change)), tiny_sd15_world[1]
    pattern = (
        rf"^{re.escape(str(pairs))}: was encoded with another '{part}' than this base has \(digests \w+ and \w+\); "
    )
    with pytest.raises(InputError, match=pattern) as caught:
        cache.check_fits(pairs, base)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", SAME)
def test_cache_of_the_same_encoders_is_taken(
    tiny_sd15_world: World, changed: Callable[[Change], dict[str, str]], name: str
) -> None:
    cache.check_fits(tiny_sd15_world[1], bases.open_described(changed(SAME[name])))


def test_an_autoencoder_named_apart_counts(tiny_sd15_world: World, tmp_path: Path) -> None:
    base, pairs = tiny_sd15_world
    shutil.copytree(Path(base["path"], "vae"), tmp_path / "vae")
    cache.check_fits(pairs, bases.open_described({**base, "vae": str(tmp_path / "vae")}))
    weights_changed("vae/diffusion_pytorch_model.safetensors")(tmp_path)
    with pytest.raises(InputError, match="another 'vae'"):
        cache.check_fits(pairs, bases.open_described({**base, "vae": str(tmp_path / "vae")}))


def test_training_refuses_it_before_the_first_step(
    tiny_sd15_world: World, tiny_job: Callable[..., dict[str, Any]], changed: Callable[[Change], dict[str, str]]
) -> None:
    job = {**tiny_job(tiny_sd15_world), "base": changed(OTHERS["another autoencoder"][1])}
    with pytest.raises(InputError, match="another 'vae'"):
        train(job)
    assert not list(Path(job["root"]).rglob("*"))


def test_cache_of_images_may_be_of_any_encoder(
    tiny_sd15_world: World,
    build_tiny_cache: Callable[..., None],
    changed: Callable[[Change], dict[str, str]],
    tmp_path: Path,
) -> None:
    base, _ = tiny_sd15_world
    build_tiny_cache(base, tmp_path / "pairs", store="images")
    cache.check_fits(tmp_path / "pairs", bases.open_described(changed(OTHERS["another autoencoder"][1])))


def test_half_precision_of_the_same_weights_is_another_encoder(tmp_path: Path) -> None:
    for name, dtype in (("one", torch.float32), ("two", torch.float16)):
        (tmp_path / name).mkdir()
        tensors = {"weight": torch.tensor([1.1, -2.3]).to(dtype), "scale": torch.tensor(3.0)}
        save_file(tensors, tmp_path / name / "model.safetensors")
    assert part_digest(tmp_path / "one") != part_digest(tmp_path / "two")


def test_sharded_weights_are_those_of_one_file(tmp_path: Path) -> None:
    tensors = {"a": torch.tensor([1.0, 2.0]), "b": torch.tensor([3.0])}
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
    save_file(tensors, tmp_path / "one" / "model.safetensors")
    for name, tensor in tensors.items():
        save_file({name: tensor}, tmp_path / "two" / f"model-{name}.safetensors")
    index = {"weight_map": {name: f"model-{name}.safetensors" for name in tensors}}
    (tmp_path / "two" / "model.safetensors.index.json").write_text(json.dumps(index))
    assert part_digest(tmp_path / "one") == part_digest(tmp_path / "two")
