"""Weights under a wrong label: what `evals weights fetch` wrote down, and networks that are not the protocol's."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from artifacts.atomic import file_sha256
from artifacts.errors import InputError
from evals import cli
from evals.networks import open_clip_model
from evals.published.fetched_weights import check
from evals.published.weights import WEIGHTS
from evals.scorers import create

HPS_20 = "xswu/HPSv2@697403c78157 HPS_v2_compressed.pt"
HPS_21 = "xswu/HPSv2@697403c78157 HPS_v2.1_compressed.pt"
LAION = "laion/CLIP-ViT-H-14-laion2B-s32B-b79K@1c2b8495b281 open_clip_pytorch_model.bin"


def fetched(folder: Path, to: Path, origin: str, sha256: str | None = None) -> Path:
    """A copy of an open_clip folder with a record as the fetch leaves it."""
    shutil.copytree(folder, to)
    digest = sha256 or file_sha256(to / "open_clip_model.safetensors")
    record = {"open_clip_model.safetensors": {"origin": origin, "sha256": digest, "source_sha256": "0" * 64}}
    (to / "fetched.json").write_text(json.dumps(record))
    return to


@pytest.mark.parametrize(
    ("scorer", "protocol", "origin", "message"),
    [
        ("hpsv2", "sdpo", HPS_20, None),
        ("hpsv2", "package", HPS_20.replace("697403c78157", "0123456789ab"), None),
        ("hpsv21", "author", HPS_21, None),
        ("clip", "sdpo", LAION, None),
        ("hpsv2", "sdpo", HPS_21, r"HPS_v2\.1_compressed\.pt, which is not scorer 'hpsv2'"),
        ("hpsv2", "author", HPS_21, r"which is not scorer 'hpsv2'; give the folder of `evals weights fetch hpsv2`"),
        ("hpsv2", "package", LAION, r"which is not scorer 'hpsv2'"),
        ("hpsv21", "package", HPS_20, r"HPS_v2_compressed\.pt, which is not scorer 'hpsv21'"),
        ("clip", "sdpo", HPS_20, r"which is not scorer 'clip'"),
        ("clip", "author", LAION, r"is scorer 'clip' in protocol 'sdpo'; .*protocol 'author' names"),
        ("clip", "package", LAION, r"is scorer 'clip' in protocol 'sdpo'; .*protocol 'package' names"),
    ],
)
def test_origin_must_be_the_scorers(
    open_clip_folder: Path, tmp_path: Path, scorer: str, protocol: str, origin: str, message: str | None
) -> None:
    folder = fetched(open_clip_folder, tmp_path / "fetched", origin)
    if message is None:
        create(scorer, protocol=protocol, weights=folder)
        return
    with pytest.raises(InputError, match=rf"open_clip_model\.safetensors: was fetched as .*{message}"):
        create(scorer, protocol=protocol, weights=folder)


def test_the_record_counts_for_a_file_given_by_itself(
    open_clip_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = fetched(open_clip_folder, tmp_path / "fetched", HPS_21)
    cfg = json.loads((folder / "open_clip_config.json").read_text())["model_cfg"]
    monkeypatch.setattr(open_clip_model, "VIT_H_14", cfg)
    with pytest.raises(InputError, match="which is not scorer 'hpsv2'"):
        create("hpsv2", weights=folder / "open_clip_model.safetensors")


def test_another_digest_is_refused_by_the_command_in_one_line(
    open_clip_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fetched(open_clip_folder, tmp_path / "weights" / "hpsv2", HPS_20, sha256="5" * 64)
    (tmp_path / "images").mkdir()
    Image.new("RGB", (9, 9)).save(tmp_path / "images" / "0.png")
    (tmp_path / "p.txt").write_text("a cat")
    command = ["score", "--scorers", "hpsv2", "--weights-dir", tmp_path / "weights", "--device", "cpu"]
    command += ["--images", tmp_path / "images", "--prompts", tmp_path / "p.txt", "--out", tmp_path / "o.parquet"]
    assert cli.main([str(argument) for argument in command]) == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert re.search(
        rf"hpsv2/open_clip_model\.safetensors: sha256 is [0-9a-f]{{64}}, fetched\.json beside it says {'5' * 64}; .*"
        rf"delete it and run `evals weights fetch hpsv2 --to {tmp_path}/weights`",
        error,
    )
    assert not (tmp_path / "o.parquet").exists()


def test_files_in_a_part_of_a_scorers_folder_are_held_to_the_record(aesthetic_folder: Path) -> None:
    target = "clip/model.safetensors"
    origin = next(file.origin for file in WEIGHTS["aesthetic"] if file.target == target)
    entry = {"origin": origin, "sha256": file_sha256(aesthetic_folder / target)}
    (aesthetic_folder / "fetched.json").write_text(json.dumps({target: entry}))
    create("aesthetic", weights=aesthetic_folder)
    (aesthetic_folder / "fetched.json").write_text(json.dumps({target: {**entry, "sha256": "0"}}))
    with pytest.raises(InputError, match=r"clip/model\.safetensors: sha256 is .*evals weights fetch aesthetic --to"):
        create("aesthetic", weights=aesthetic_folder)


@pytest.mark.parametrize(
    ("origin", "accepted"),
    [
        ("zai-org/ImageReward@5736be03b265 ImageReward.pt", True),
        # Fetched before the repository was renamed.
        ("THUDM/ImageReward@5736be03b265 ImageReward.pt", True),
        ("somebody/ImageReward@5736be03b265 ImageReward.pt", False),
        ("zai-org/ImageReward@5736be03b265 Other.pt", False),
        ("THUDM/ImageRewardDB@5736be03b265 ImageReward.pt", False),
    ],
)
def test_a_repository_that_moved_is_the_same(tmp_path: Path, origin: str, accepted: bool) -> None:
    file = tmp_path / "ImageReward.safetensors"
    entry = {"origin": origin, "sha256": "5" * 64}
    (tmp_path / "fetched.json").write_text(json.dumps({file.name: entry}))
    if accepted:
        check("imagereward", "sdpo", {file: "5" * 64})
        return
    with pytest.raises(InputError, match=r"which is not scorer 'imagereward'"):
        check("imagereward", "sdpo", {file: "5" * 64})


@pytest.mark.parametrize("implementation", ["native", "package"])
@pytest.mark.parametrize("where", ["nowhere", "empty", "two"])
def test_messages_of_hpsv21_never_send_to_the_weights_of_v20(tmp_path: Path, implementation: str, where: str) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "two").mkdir()
    for name in ("HPS_v2.1_a.pt", "HPS_v2.1_b.pt"):
        (tmp_path / "two" / name).touch()
    with pytest.raises(InputError) as caught:
        create("hpsv21", protocol="author", weights=tmp_path / where, implementation=implementation)
    message = str(caught.value)
    assert "scorer 'hpsv21'" in message
    assert re.search(r"HPS_v2\.1(\*|_compressed|_a)", message)
    assert not re.search(r"HPS_v2(_|\*)|'hpsv2'", message)


def test_messages_of_hpsv21_name_it_after_loading(open_clip_folder: Path, tmp_path: Path) -> None:
    scorer = create("hpsv21", protocol="author", weights=open_clip_folder)
    assert scorer.name == "hpsv21"  # type: ignore[attr-defined]
    with pytest.raises(InputError, match="scorer 'hpsv21': dtype is 'float16'"):
        create("hpsv21", protocol="author", weights=open_clip_folder, implementation="package", dtype="float16")


def test_the_fingerprint_does_not_depend_on_the_record(open_clip_folder: Path, tmp_path: Path) -> None:
    folder = fetched(open_clip_folder, tmp_path / "fetched", HPS_20)
    assert create("hpsv2", weights=folder).fingerprint == create("hpsv2", weights=open_clip_folder).fingerprint


@pytest.mark.parametrize(
    ("scorer", "protocol"), [("hpsv2", "sdpo"), *((s, p) for s in ("hpsv2", "hpsv21") for p in ("author", "package"))]
)
def test_a_name_of_the_other_version_is_refused_in_every_protocol(tmp_path: Path, scorer: str, protocol: str) -> None:
    other = {"hpsv2": "HPS_v2.1_compressed.pt", "hpsv21": "HPS_v2_compressed.pt"}[scorer]
    (tmp_path / other).touch()
    for implementation in ("native", "package"):
        for weights in (tmp_path, tmp_path / other):
            with pytest.raises(InputError, match=rf"{re.escape(other)}.* (scorer 'hpsv2'|HPS v2\.0)"):
                create(scorer, protocol=protocol, weights=weights, implementation=implementation)


def changed(cfg: dict[str, Any], **changes: Any) -> dict[str, Any]:
    return {**cfg, **changes}


@pytest.mark.parametrize(
    ("scorer", "protocol", "model_cfg", "message"),
    [
        ("clip", "author", open_clip_model.VIT_H_14, r"ViT-H-14 .*the protocol's model is OpenAI's ViT-B-32"),
        ("clip", "package", open_clip_model.OPENAI_VIT_B_32, r"OpenAI's ViT-B-32 .*model is OpenAI's ViT-L-14"),
        ("clip", "sdpo", open_clip_model.OPENAI_VIT_L_14, r"OpenAI's ViT-L-14 .*model is ViT-H-14"),
        (
            "hpsv2",
            "sdpo",
            changed(open_clip_model.VIT_H_14, quick_gelu=True),
            r"ViT-H-14 \(images of 224 pixels, Quick",
        ),
        ("clip", "author", changed(open_clip_model.OPENAI_VIT_B_32, quick_gelu=False), r"224 pixels, GELU\)"),
    ],
)
def test_a_published_network_that_is_not_the_protocols(
    open_clip_folder: Path, scorer: str, protocol: str, model_cfg: dict[str, Any], message: str
) -> None:
    (open_clip_folder / "open_clip_config.json").write_text(json.dumps({"model_cfg": model_cfg}))
    with pytest.raises(InputError, match=rf"open_clip_config\.json: 'model_cfg' has the size of .*{message}"):
        create(scorer, protocol=protocol, weights=open_clip_folder)


def test_the_protocols_own_network_is_taken_from_a_configuration(open_clip_folder: Path) -> None:
    """It gets as far as the weights, which are of a small network here."""
    file = open_clip_folder / "open_clip_config.json"
    file.write_text(json.dumps({"model_cfg": open_clip_model.OPENAI_VIT_B_32}))
    with pytest.raises(InputError, match=r"open_clip_model\.safetensors: .*another architecture"):
        create("clip", protocol="author", weights=open_clip_folder)


@pytest.mark.parametrize(
    ("scorer", "vision", "message"),
    [
        ("pickscore", (1024, 24, 14, 224), "is ViT-L/14 for images of 224 pixels, scorer 'pickscore' is ViT-H/14"),
        ("aesthetic", (768, 12, 32, 224), "is ViT-B/32 for images of 224 pixels, scorer 'aesthetic' is ViT-L/14"),
        ("aesthetic", (1024, 24, 14, 336), "is ViT-L/14 for images of 336 pixels, scorer 'aesthetic' is ViT-L/14"),
    ],
)
def test_a_published_transformers_network_that_is_not_the_scorers(
    request: pytest.FixtureRequest, scorer: str, vision: tuple[int, ...], message: str
) -> None:
    folder: Path = request.getfixturevalue(f"{scorer}_folder")
    file = next(folder.rglob("config.json"))
    config = json.loads(file.read_text())
    keys = ("hidden_size", "num_hidden_layers", "patch_size", "image_size")
    config.get("vision_config", config).update(zip(keys, vision, strict=True))
    file.write_text(json.dumps(config))
    with pytest.raises(InputError, match=message):
        create(scorer, weights=folder)
