from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from safetensors import safe_open

import evals.generation.generate
from artifacts import layout
from artifacts.atomic import file_sha256, json_sha256, tree_sha256
from artifacts.contracts import read_table, write_table
from artifacts.errors import InputError
from evals import cli
from evals.generation.generate import collect_shards, generate
from evals.generation.pipelines import open_pipeline
from evals.generation.pipelines.stable_diffusion import StableDiffusion
from evals.generation.sampling import noise_seed
from evals.generation.settings import SamplingSettings
from evals.images.numbering import Numbering

pytestmark = pytest.mark.slow

SEEN = {"seen-00000": "a small red circle on a blue background", "seen-00001": "", "seen-00002": "a cat"}
SETTINGS = {"scheduler": "ddim", "steps": 2, "guidance_scale": 4.0, "seed": 5, "batch_size": 2}


@pytest.fixture
def job(base_path: Path, tmp_path: Path) -> Callable[..., dict[str, Any]]:
    """Two models, the base and one with other weights, on one prompt set of three."""
    frame = pd.DataFrame({"prompt_id": list(SEEN), "prompt": list(SEEN.values()), "category": "", "source": "test"})
    write_table(layout.prompts(tmp_path, "seen"), frame, "prompts")
    from diffusers import UNet2DConditionModel

    unet = UNet2DConditionModel.from_pretrained(base_path / "unet")
    with torch.no_grad():
        for parameter in unet.parameters():
            parameter.mul_(1.5)
    unet.save_pretrained(layout.model(tmp_path, "mini/dmpo/seed0") / "unet")

    def make(**changed: Any) -> dict[str, Any]:
        return {
            "root": str(tmp_path),
            "base": {"name": "mini", "family": "sd15", "path": str(base_path)},
            "models": ["mini/base", "mini/dmpo/seed0"],
            "prompt_sets": ["seen"],
            "generation": SETTINGS,
            "threads": 1,
            **changed,
        }

    return make


def pictures(root: Path, model: str) -> np.ndarray:
    folder = layout.images(root, model, "seen")
    return np.stack([np.asarray(Image.open(folder / f"{i:05d}.png"), dtype=int) for i in range(len(SEEN))])


def test_folder_is_complete_and_its_manifest_true(job: Callable[..., dict[str, Any]], tmp_path: Path) -> None:
    generate(job())
    for model in ("mini/base", "mini/dmpo/seed0"):
        folder = layout.images(tmp_path, model, "seen")
        manifest = read_table(folder / "manifest.parquet", "manifest")
        assert manifest["prompt_id"].tolist() == list(SEEN)
        assert manifest["sha256"].tolist() == [file_sha256(folder / file) for file in manifest["file"]]
        assert manifest["seed"].tolist() == [noise_seed(SamplingSettings(**SETTINGS), name) for name in SEEN]
        assert {p.name for p in folder.iterdir()} == {*manifest["file"], "manifest.parquet", "provenance.json"}
        provenance = json.loads((folder / "provenance.json").read_text())
        base = job()["base"]
        drawn = {"generation": SETTINGS, "model": model, "prompt_set": "seen", "stage_version": None, "base": base}
        assert provenance["spec"] == drawn
        weights = base["path"] if model == "mini/base" else layout.model(tmp_path, model)
        file = Path(weights) / "unet/diffusion_pytorch_model.safetensors"
        parts = ("tokenizer", "text_encoder", "vae", "scheduler")
        others = json_sha256({part: tree_sha256(Path(base["path"]) / part) for part in parts})
        assert provenance["inputs"] == {file.name: file_sha256(file), "base": others}
        assert provenance["commits"] == {}
        assert provenance["config_sha256"] == json_sha256(provenance["spec"])
        assert provenance["stage"] == "generate"
    assert abs(pictures(tmp_path, "mini/base") - pictures(tmp_path, "mini/dmpo/seed0")).max() > 1


def test_order_of_models_and_sharding_change_nothing(job: Callable[..., dict[str, Any]], tmp_path: Path) -> None:
    generate(job())
    together = pictures(tmp_path, "mini/dmpo/seed0")
    shutil.rmtree(tmp_path / "images")
    generate(job(models=["mini/dmpo/seed0"], generation={**SETTINGS, "batch_size": 3}))
    assert abs(pictures(tmp_path, "mini/dmpo/seed0") - together).max() <= 1


@pytest.fixture
def wide_job(save_tiny_base: Callable[..., Path], tmp_path: Path) -> Callable[..., dict[str, Any]]:
    """The base of a tiny SDXL on seven prompts, two at a time."""
    base = save_tiny_base(tmp_path / "sdxl", "sdxl")
    ids = [f"own-{i:05d}" for i in range(7)]
    texts = [f"{'a' * (i + 1)} cat" for i in range(7)]
    frame = pd.DataFrame({"prompt_id": ids, "prompt": texts, "category": "", "source": "test"})

    def make(root: str, **changed: Any) -> dict[str, Any]:
        write_table(layout.prompts(tmp_path / root, "own"), frame, "prompts")
        return {
            "root": str(tmp_path / root),
            "base": {"name": "xl", "family": "sdxl", "path": str(base)},
            "models": ["xl/base"],
            "prompt_sets": ["own"],
            "generation": {"protocol": "clean", "scheduler": "euler", "steps": 2, "batch_size": 2},
            "stage_version": 1,
            **changed,
        }

    return make


def contents(folder: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in sorted(folder.iterdir()) if file.name != "provenance.json"}


@pytest.mark.parametrize("count", [2, 3, 6])
def test_shards_put_together_are_what_one_job_draws(
    wide_job: Callable[..., dict[str, Any]], tmp_path: Path, count: int
) -> None:
    generate(wide_job("whole"))
    whole = contents(layout.images(tmp_path / "whole", "xl/base", "own"))
    assert len(whole) == 8
    for index in range(count):
        generate(wide_job("cut", shard=[index, count]))
        assert not layout.images(tmp_path / "cut", "xl/base", "own").exists()
    # Two jobs of six have none of the four batches.
    drawn = [
        len(contents(layout.image_shard(tmp_path / "cut", "xl/base", "own", (i, count)))) - 1 for i in range(count)
    ]
    assert drawn == {2: [4, 3], 3: [2, 2, 3], 6: [0, 2, 2, 0, 2, 1]}[count]
    collect_shards({"root": str(tmp_path / "cut"), "models": ["xl/base"], "prompt_sets": ["own"], "shards": count})
    folder = layout.images(tmp_path / "cut", "xl/base", "own")
    assert contents(folder) == whole
    provenance = json.loads((folder / "provenance.json").read_text())
    assert provenance["jobs"] == count
    assert provenance["spec"]["model"] == "xl/base"
    assert not (tmp_path / "cut/unfinished_images").exists() or not any(
        (tmp_path / "cut/unfinished_images").rglob("*.png")
    )


def test_shares_of_another_prompt_set_are_refused(wide_job: Callable[..., dict[str, Any]], tmp_path: Path) -> None:
    for index in (0, 1):
        generate(wide_job("cut", shard=[index, 3]))
    spec = {"root": str(tmp_path / "cut"), "models": ["xl/base"], "prompt_sets": ["own"], "shards": 3}
    with pytest.raises(InputError, match=r"2-of-3/manifest\.parquet: no such file"):
        collect_shards(spec)
    shutil.copytree(
        layout.image_shard(tmp_path / "cut", "xl/base", "own", (0, 3)),
        layout.image_shard(tmp_path / "cut", "xl/base", "own", (2, 3)),
    )
    with pytest.raises(InputError, match="its 6 images are not those of the 7 prompts in order"):
        collect_shards(spec)
    assert not layout.images(tmp_path / "cut", "xl/base", "own").exists()


def test_shares_drawn_from_other_weights_or_by_other_settings_are_refused(
    wide_job: Callable[..., dict[str, Any]], tmp_path: Path
) -> None:
    spec = {"root": str(tmp_path / "cut"), "models": ["xl/base"], "prompt_sets": ["own"], "shards": 2}
    generate(wide_job("cut", shard=[0, 2]))
    generate(wide_job("cut", shard=[1, 2], stage_version=2))
    with pytest.raises(InputError, match=r"1-of-2: was drawn .* other weights than 0-of-2 \(`spec` in their prov"):
        collect_shards(spec)
    generate(wide_job("cut", shard=[1, 2]))
    weights = tmp_path / "sdxl/unet/diffusion_pytorch_model.safetensors"
    was = weights.read_bytes()
    weights.write_bytes(was[:-4] + b"\0\0\x80\x3f")
    generate(wide_job("cut", shard=[0, 2]))
    with pytest.raises(InputError, match=r"\(`inputs` in their provenance\.json\); delete .*xl/base/own and run"):
        collect_shards(spec)
    assert not layout.images(tmp_path / "cut", "xl/base", "own").exists()
    weights.write_bytes(was)
    generate(wide_job("cut", shard=[0, 2]))
    collect_shards(spec)
    assert len(contents(layout.images(tmp_path / "cut", "xl/base", "own"))) == 8


def test_commits_are_recorded_and_weights_read_once_a_model(
    wide_job: Callable[..., dict[str, Any]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    commits = {"owner/xl": "a" * 40, "owner/vae": "b" * 40, "owner/model": "c" * 40}
    for name, part in (("owner/xl", "."), ("owner/vae", "vae"), ("owner/model", "unet")):
        folder = tmp_path / "snapshots" / commits[name]
        shutil.copytree(tmp_path / "sdxl" / part, folder if part != "unet" else folder / "unet")
    monkeypatch.setattr(
        "huggingface_hub.snapshot_download", lambda name, **_: str(tmp_path / "snapshots" / commits[name])
    )
    spec = wide_job("cut", models=["xl/base", "xl/released"], prompt_sets=["own", "again"])
    shutil.copy(layout.prompts(tmp_path / "cut", "own"), layout.prompts(tmp_path / "cut", "again"))
    read: list[Path] = []
    monkeypatch.setattr(evals.generation.generate, "file_sha256", lambda path: read.append(path) or file_sha256(path))
    base = {**spec["base"], "path": "owner/xl@main", "vae": "owner/vae@main"}
    generate({**spec, "base": base, "sources": {"xl/released": {"source": "owner/model@main"}}})
    assert len(read) == 2
    for model, others in (("xl/base", {}), ("xl/released", {"model": "c" * 40})):
        folder = layout.images(tmp_path / "cut", model, "again")
        provenance = json.loads((folder / "provenance.json").read_text())
        assert provenance["commits"] == {"base": "a" * 40, "vae": "b" * 40, **others}
        assert list(provenance["inputs"]) == ["diffusion_pytorch_model.safetensors"]
        assert provenance["spec"]["base"] == base


def test_more_images_a_prompt_leave_those_before_as_they_are(
    wide_job: Callable[..., dict[str, Any]], tmp_path: Path
) -> None:
    """Seven prompts by twos: the seventh is alone in its batch, and stays so."""
    found = {}
    for count in (1, 2, 3):
        several = {"images_per_prompt": {"own": count}} if count > 1 else {}
        generate(wide_job(f"by-{count}", **several))
        folder = layout.images(tmp_path / f"by-{count}", "xl/base", "own")
        found[count] = contents(folder)
        manifest = read_table(folder / "manifest.parquet", "manifest")
        assert found[count].pop("manifest.parquet")
        assert manifest["image"].tolist() == [image for image in range(count) for _ in range(7)]
        assert manifest["sha256"].tolist() == [file_sha256(folder / file) for file in manifest["file"]]
        assert manifest["seed"].nunique() == 7 * count
    assert len(found[1]) == 7 and len(found[3]) == 21
    assert found[1].items() < found[2].items() < found[3].items()
    assert {"00006.png", "00006_1.png", "00006_2.png"} < set(found[3])
    # All start otherwise, so all are different pictures.
    assert len(set(found[3].values())) == 21


def test_shards_of_several_images_a_prompt_are_what_one_job_draws(
    wide_job: Callable[..., dict[str, Any]], tmp_path: Path
) -> None:
    several = {"images_per_prompt": {"own": 3}}
    generate(wide_job("whole", **several))
    for index in range(5):
        generate(wide_job("shared", shard=[index, 5], **several))
    root = tmp_path / "shared"
    spec = {"root": str(root), "models": ["xl/base"], "prompt_sets": ["own"], "shards": 5}
    with pytest.raises(InputError, match="its 21 images are not those of the 7 prompts in order"):
        collect_shards(spec)
    collect_shards({**spec, **several})
    own, whole = (layout.images(tmp_path / name, "xl/base", "own") for name in ("shared", "whole"))
    assert contents(own) == contents(whole)


def test_one_image_a_prompt_has_no_column_of_its_own(job: Callable[..., dict[str, Any]], tmp_path: Path) -> None:
    generate(job(models=["mini/base"]))
    manifest = layout.images(tmp_path, "mini/base", "seen") / "manifest.parquet"
    assert pd.read_parquet(manifest).columns.tolist() == ["prompt_id", "file", "seed", "sha256"]
    assert read_table(manifest, "manifest")["image"].tolist() == [0, 0, 0]


def test_shares_are_whole_batches_and_cover_every_row() -> None:
    for rows, size, count in ((487, 16, 8), (7, 2, 3), (5, 8, 2), (64, 64, 1)):
        shares = [Numbering(rows).share(size, (index, count)) for index in range(count)]
        assert [row for rows_of_one in shares for row in rows_of_one] == list(range(rows))
        assert all(rows_of_one.start % size == 0 for rows_of_one in shares if len(rows_of_one))
        assert max(map(len, shares)) - min(map(len, shares)) <= 2 * size


def test_killed_job_goes_on_at_the_image(
    wide_job: Callable[..., dict[str, Any]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    generate(wide_job("whole"))
    whole = contents(layout.images(tmp_path / "whole", "xl/base", "own"))
    drawn: list[list[str]] = []
    real = evals.generation.generate.sample_batch

    def counted(
        pipeline: Any, unet: Any, conditions: Any, empty: Any, ids: list[str], settings: Any, **told: Any
    ) -> Any:
        if len(drawn) == 3:
            raise KeyboardInterrupt
        drawn.append(ids)
        return real(pipeline, unet, conditions, empty, ids, settings, **told)

    monkeypatch.setattr(evals.generation.generate, "sample_batch", counted)
    with pytest.raises(KeyboardInterrupt):
        generate(wide_job("cut"))
    folder = layout.images(tmp_path / "cut", "xl/base", "own")
    assert not folder.exists()
    (kept,) = (tmp_path / "cut/unfinished_images/xl/base/own").iterdir()
    (kept / "00002.png").write_bytes((kept / "00002.png").read_bytes()[:60])
    (kept / "00001.png").write_bytes((kept / "00001.png").read_bytes()[:-4])
    drawn.clear()
    generate(wide_job("cut"))
    # The batches of the damaged images and the one that was not drawn yet; other images stay as they are.
    assert drawn == [["own-00000", "own-00001"], ["own-00002", "own-00003"], ["own-00006"]]
    assert contents(folder) == whole
    warnings = capsys.readouterr().err
    assert "00001.png: the end of the file is missing; drawing it again" in warnings
    assert "00002.png: truncated or damaged" in warnings
    assert not any((tmp_path / "cut/unfinished_images").rglob("*.png"))


@pytest.mark.parametrize("shard", [None, [1, 2]])
def test_killed_job_keeps_the_sets_and_models_that_it_had_finished(
    wide_job: Callable[..., dict[str, Any]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, shard: list[int] | None
) -> None:
    unet = open_pipeline(tmp_path / "sdxl").denoiser
    torch.save({name: tensor * 0.5 for name, tensor in unet.state_dict().items()}, tmp_path / "unet.pth")
    models, sets = ["xl/base", "xl/released"], ["own", "more"]

    def job(root: str) -> dict[str, Any]:
        spec = wide_job(root, models=models, prompt_sets=sets, **({"shard": shard} if shard else {}))
        more = pd.DataFrame({"prompt_id": ["m-0", "m-1", "m-2"], "prompt": "a", "category": "", "source": "test"})
        write_table(layout.prompts(tmp_path / root, "more"), more, "prompts")
        return {**spec, "sources": {"xl/released": {"source": str(tmp_path / "unet.pth")}}}

    def folders(root: str) -> list[Path]:
        at = (lambda m, s: layout.image_shard(tmp_path / root, m, s, (1, 2))) if shard else None
        return [(at or (lambda m, s: layout.images(tmp_path / root, m, s)))(m, s) for m in models for s in sets]

    generate(job("whole"))
    whole = [contents(folder) for folder in folders("whole")]
    drawn: list[str] = []
    real, limit = evals.generation.generate.sample_batch, 0

    def counted(
        pipeline: Any, unet: Any, conditions: Any, empty: Any, ids: list[str], settings: Any, **told: Any
    ) -> Any:
        if len(drawn) == limit:
            raise KeyboardInterrupt
        drawn.append(ids[0])
        return real(pipeline, unet, conditions, empty, ids, settings, **told)

    monkeypatch.setattr(evals.generation.generate, "sample_batch", counted)
    # Of 4 + 2 batches a model, or 2 + 1 of the second of two jobs, all but the last are drawn.
    first, second = ["own-00000", "own-00002"], ["own-00004", "own-00006"]
    every = [*second, "m-2"] if shard else [*first, *second, "m-0", "m-2"]
    limit = 2 * len(every) - 1
    with pytest.raises(KeyboardInterrupt):
        generate(job("cut"))
    assert drawn == [*every, *every[:-1]]
    assert [folder.exists() for folder in folders("cut")] == [True, True, True, False]
    # What Snakemake does before it runs the job again: the outputs are the folders of a share, or else the manifests.
    for folder in folders("cut"):
        shutil.rmtree(folder, ignore_errors=True) if shard else (folder / "manifest.parquet").unlink(missing_ok=True)
    drawn.clear()
    limit = 100
    generate(job("cut"))
    assert drawn == every[-1:]
    assert [contents(folder) for folder in folders("cut")] == whole
    # Nothing of it is left, so a job that is asked for again draws again.
    assert not list((tmp_path / "cut/unfinished_images").rglob("*.*"))
    drawn.clear()
    generate(job("cut"))
    assert drawn == every * 2


def test_images_of_other_settings_or_weights_are_not_taken(
    wide_job: Callable[..., dict[str, Any]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(evals.generation.generate, "sample_batch", stop)
    weights = tmp_path / "sdxl/unet/config.json"
    changes: list[Callable[[], dict[str, Any]]] = [
        lambda: wide_job("cut"),
        lambda: wide_job("cut", generation={"scheduler": "euler", "steps": 3, "batch_size": 2}),
        lambda: wide_job("cut", stage_version=2),
        lambda: [weights.write_text(weights.read_text() + " "), wide_job("cut")][1],  # type: ignore[list-item]
    ]
    for number, job in enumerate([*changes, changes[-1]], start=1):
        with pytest.raises(KeyboardInterrupt):
            generate(job())
        assert len(list((tmp_path / "cut/unfinished_images/xl/base/own").iterdir())) == number


def test_prompts_are_encoded_once_for_all_jobs(
    wide_job: Callable[..., dict[str, Any]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    generate(wide_job("cut", shard=[0, 2]))
    (file,) = (tmp_path / "cut/prompt_embeddings/xl").glob("*.safetensors")
    first = file.read_bytes()
    with safe_open(file, framework="pt") as content:
        assert content.get_slice("text").get_shape() == [7, 16, 40]
        assert content.get_slice("pooled").get_shape() == [7, 12]
        assert content.get_slice("empty.text").get_shape() == [1, 16, 40]
    file.write_bytes(first[:-1])
    generate(wide_job("cut", shard=[1, 2]))
    assert file.read_bytes() == first
    assert "cannot be read" in capsys.readouterr().err
    # Another protocol has another empty prompt, and other texts are others.
    monkeypatch.setattr(StableDiffusion, "encode_prompts", lambda *_: pytest.fail("encoded again"))
    generate(wide_job("cut", generation={"scheduler": "ddim", "steps": 2, "batch_size": 7}))
    with pytest.raises(pytest.fail.Exception, match="encoded again"):
        generate(wide_job("cut", generation={"protocol": "sdpo", "scheduler": "ddim", "steps": 2}))


def test_model_from_elsewhere_is_drawn_as_its_weights_are(
    wide_job: Callable[..., dict[str, Any]], tmp_path: Path
) -> None:
    unet = open_pipeline(tmp_path / "sdxl").denoiser
    state = {name: tensor * 0.5 for name, tensor in unet.state_dict().items()}
    torch.save(state, tmp_path / "unet.pth")
    source = {"source": str(tmp_path / "unet.pth"), "file": None, "sha256": file_sha256(tmp_path / "unet.pth")}
    generate(wide_job("cut", models=["xl/released", "xl/base"], sources={"xl/released": source}))
    # The same weights as a base of their own.
    unet.load_state_dict(state)
    unet.save_pretrained(tmp_path / "sdxl/unet")
    generate(wide_job("other"))
    released, base, expected = (
        contents(layout.images(tmp_path / root, model, "own"))
        for root, model in (("cut", "xl/released"), ("cut", "xl/base"), ("other", "xl/base"))
    )
    assert released == expected
    assert released != base
    provenance = json.loads((layout.images(tmp_path / "cut", "xl/released", "own") / "provenance.json").read_text())
    assert provenance["inputs"]["unet.pth"] == source["sha256"]
    assert provenance["spec"]["source"] == source


def test_missing_model_is_named(job: Callable[..., dict[str, Any]]) -> None:
    with pytest.raises(InputError, match=r"mini/sft/seed0/unet: no denoiser"):
        generate(job(models=["mini/sft/seed0"]))


def test_missing_prompt_set_is_named(job: Callable[..., dict[str, Any]]) -> None:
    with pytest.raises(InputError, match=r"unseen.parquet: no such file"):
        generate(job(prompt_sets=["unseen"]))


@pytest.mark.parametrize(("options", "expected"), [([], 1), (["--threads", "2"], 2)])
def test_threads_come_from_the_command_line(
    job: Callable[..., dict[str, Any]], monkeypatch: pytest.MonkeyPatch, options: list[str], expected: int
) -> None:
    seen: list[int] = []
    monkeypatch.setattr(torch, "set_num_threads", seen.append)
    monkeypatch.setattr(evals.generation.generate._Job, "run", lambda _: None)
    spec = job()
    del spec["threads"]
    assert cli.main(["generate", *options, "--spec", json.dumps(spec)]) == 0
    assert seen == [expected]


def test_threads_are_not_passed_over(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    asked = ["score", "--images", str(tmp_path), "--prompts", "p.txt", "--out", "s.parquet", "--threads", "2"]
    assert cli.main(asked) == 2
    assert "for a folder of images there is --workers" in capsys.readouterr().err


def test_prompt_sets_under_settings_of_their_own(wide_job: Callable[..., dict[str, Any]], tmp_path: Path) -> None:
    generation = {"protocol": "clean", "scheduler": "euler", "steps": 2, "batch_size": 2}
    apart = {"own-g1": {**generation, "guidance_scale": 1.0}}
    both = wide_job("both", prompt_sets=["own", "own-g1"], apart=apart)
    shutil.copy(layout.prompts(tmp_path / "both", "own"), layout.prompts(tmp_path / "both", "own-g1"))
    generate(both)
    generate(wide_job("alone", generation=apart["own-g1"]))
    generate(wide_job("usual"))
    found = {name: contents(layout.images(tmp_path / "both", "xl/base", name)) for name in ("own", "own-g1")}
    assert found["own"] == contents(layout.images(tmp_path / "usual", "xl/base", "own"))
    assert found["own-g1"] == contents(layout.images(tmp_path / "alone", "xl/base", "own"))
    assert found["own"] != found["own-g1"]
    about = json.loads((layout.images(tmp_path / "both", "xl/base", "own-g1") / "provenance.json").read_text())
    assert about["spec"]["generation"]["guidance_scale"] == 1.0
