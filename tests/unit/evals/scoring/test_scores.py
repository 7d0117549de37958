from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

import evals.scoring.scores
from artifacts import layout
from artifacts.atomic import file_sha256, json_sha256
from artifacts.contracts import read_table, write_table
from artifacts.errors import InputError
from artifacts.image_decoding import decode
from evals.commands.stages import written
from evals.networks.interface import PromptTokens, RefusedImageError
from evals.scorers import create
from evals.scoring.score_cache import ScoreCache
from evals.scoring.scores import score as score_by_spec
from evals.scoring.scores import score_images


@dataclass
class Brightness:
    """Mean red value times prompt length: a scorer that needs whole images, and records what it was given."""

    fingerprint: str = "brightness"
    calls: list[int] = field(default_factory=list)

    def score(self, images: Sequence[Image.Image], prompts: Sequence[str]) -> np.ndarray:
        self.calls.append(len(images))
        return np.array([np.asarray(i)[..., 0].mean() * len(p) for i, p in zip(images, prompts, strict=True)])

    @property
    def tokens(self) -> PromptTokens:
        return PromptTokens(3, lambda prompts: [list(prompt.encode()) for prompt in prompts])


REDS = [10, 20, 30, 40, 50]
PROMPTS = ["a", "bb", "ccc", "dddd", "eeeee"]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Five images whose manifest is not in the prompt set's order."""
    folder = layout.images(tmp_path, "base/dpo/seed0", "set")
    folder.mkdir(parents=True)
    for index, red in enumerate(REDS):
        Image.new("RGB", (40, 30), (red, 0, 0)).save(folder / f"{index:05d}.png")
    ids = [f"set-{index:05d}" for index in range(5)]
    prompts = pd.DataFrame({"prompt_id": ids, "prompt": PROMPTS, "category": "", "source": "test"})
    write_table(layout.prompts(tmp_path, "set"), prompts, "prompts")
    files = [f"{index:05d}.png" for index in range(5)]
    manifest = pd.DataFrame(
        {"prompt_id": ids, "file": files, "seed": range(5), "sha256": [file_sha256(folder / f) for f in files]}
    )
    write_table(folder / "manifest.parquet", manifest.iloc[[3, 0, 4, 2, 1]], "manifest")
    return tmp_path


def images_dir(root: Path) -> Path:
    return layout.images(root, "base/dpo/seed0", "set")


def rewrite(root: Path, change: dict[str, object] | None = None, drop: str | None = None) -> None:
    path = images_dir(root) / "manifest.parquet"
    manifest = read_table(path, "manifest").sort_values("prompt_id", ignore_index=True)
    for column, value in (change or {}).items():
        manifest.loc[1, column] = value
    write_table(path, manifest[manifest["prompt_id"] != drop], "manifest")


@pytest.fixture(autouse=True)
def brightness(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make ``brightness`` a scorer that a spec can name."""
    monkeypatch.setattr(
        evals.scoring.scores,
        "create",
        lambda name, **block: Brightness() if name == "brightness" else create(name, **block),
    )


def score(root: Path, **scorers: dict[str, str]) -> Path:
    score_by_spec(
        {
            "root": str(root),
            "models": ["base/dpo/seed0"],
            "prompt_sets": ["set"],
            "scorers": {"brightness": {"protocol": "sdpo"}, **scorers},
            "batch_size": 2,
        }
    )
    return root / "scores" / "brightness" / "base/dpo/seed0" / "set.parquet"


def test_each_image_meets_its_prompt_in_the_order_of_the_set(root: Path) -> None:
    table = read_table(score(root), "scores")
    assert list(table["prompt_id"]) == [f"set-{index:05d}" for index in range(5)]
    assert list(table["score"]) == [10, 40, 90, 160, 250]
    assert table["image_sha256"][3] == file_sha256(images_dir(root) / "00003.png")
    assert set(table["fingerprint"]) == {"brightness"}


def test_scores_say_what_made_them(root: Path, aesthetic_folder: Path) -> None:
    path = score(root, aesthetic={"protocol": "sdpo", "weights": str(aesthetic_folder)})
    assert set(read_table(path, "scores")["protocol"]) == {"sdpo"}
    (record,) = (root / "scores" / "aesthetic").glob("*.json")
    found = json.loads(record.read_text())
    scores = read_table(layout.scores(root, "aesthetic", "base/dpo/seed0", "set"), "scores")
    assert set(scores["fingerprint"]) == {found["fingerprint"]} == {json_sha256(found["hashed"])}
    assert record.name.startswith(found["fingerprint"][:16])
    head = next(file for file in aesthetic_folder.iterdir() if file.suffix == ".safetensors")
    assert file_sha256(head) in found["hashed"]["files"].values()
    assert (found["device"], found["batch_size"]) == ("cpu", 2)
    assert {"torch", "pillow"} <= set(found["packages"])
    # A plug-in that gives a bare digest is recorded by it.
    (record,) = (root / "scores" / "brightness").glob("*.json")
    assert json.loads(record.read_text())["fingerprint"] == "brightness"


def test_scores_made_elsewhere_are_recorded_beside_each_other(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    score(root)
    score(root)
    assert len(list((root / "scores" / "brightness").glob("*.json"))) == 1
    monkeypatch.setattr("evals.networks.interface.device_name", lambda device: "NVIDIA H100")
    score(root)
    assert len(list((root / "scores" / "brightness").glob("*.json"))) == 2


def test_images_are_given_in_chunks(root: Path) -> None:
    scorer = Brightness()
    score_images({"b": scorer}, images_dir(root), layout.prompts(root, "set"), batch_size=2)
    assert scorer.calls == [2, 2, 1]


def test_prompts_that_a_scorer_does_not_read_to_the_end_are_marked(root: Path, aesthetic_folder: Path) -> None:
    scorers = {"b": Brightness(), "aesthetic": create("aesthetic", weights=aesthetic_folder)}
    tables = score_images(scorers, images_dir(root), layout.prompts(root, "set"))
    assert list(tables["b"]["truncated"]) == [False, False, False, True, True]
    # A scorer that reads no prompt cuts none.
    assert not tables["aesthetic"]["truncated"].any()


def test_known_scores_are_taken_from_the_cache_in_whole_chunks(root: Path, tmp_path: Path) -> None:
    """A change in the second chunk makes that chunk new, with the same batch as without a cache, and no other."""
    first, second, third = Brightness(), Brightness(), Brightness()
    with ScoreCache(tmp_path / "cache") as cache:
        run = [images_dir(root), layout.prompts(root, "set")]
        before = score_images({"b": first}, *run, batch_size=2, cache=cache)["b"]
        again = score_images({"b": second}, *run, batch_size=2, cache=cache)["b"]
        assert (first.calls, second.calls) == ([2, 2, 1], [])
        pd.testing.assert_frame_equal(before, again)
        changed = images_dir(root) / "00002.png"
        Image.new("RGB", (40, 30), (99, 0, 0)).save(changed)
        rewrite_digest(root, 2, file_sha256(changed))
        after = score_images({"b": third}, *run, batch_size=2, cache=cache)["b"]
    assert third.calls == [2]
    assert list(after["score"]) == [10, 40, 99 * 3, 160, 250]


def test_a_cached_score_does_not_hide_a_damaged_file(root: Path, tmp_path: Path) -> None:
    with ScoreCache(tmp_path / "cache") as cache:
        score_images({"b": Brightness()}, images_dir(root), layout.prompts(root, "set"), cache=cache)
        (images_dir(root) / "00001.png").write_bytes(b"cut off")
        with pytest.raises(InputError, match=r"00001\.png: truncated or changed"):
            score_images({"b": Brightness()}, images_dir(root), layout.prompts(root, "set"), cache=cache)


def rewrite_digest(root: Path, index: int, sha256: str) -> None:
    path = images_dir(root) / "manifest.parquet"
    manifest = read_table(path, "manifest")
    manifest.loc[manifest["file"] == f"{index:05d}.png", "sha256"] = sha256
    write_table(path, manifest, "manifest")


def test_several_scorers_share_one_decoding(
    root: Path, pickscore_folder: Path, aesthetic_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two scorers of one image size: five files read, five crops made, and the numbers of scoring alone."""
    from evals.networks import preprocessing

    read, cropped = [], []
    monkeypatch.setattr("evals.scoring.items.decode", lambda *a: read.append(a) or decode(*a))
    monkeypatch.setattr(
        preprocessing,
        "square_crop",
        lambda *a, original=preprocessing.square_crop: cropped.append(a) or original(*a),
    )
    scorers = {
        "pickscore": create("pickscore", weights=pickscore_folder, batch_size=2),
        "aesthetic": create("aesthetic", weights=aesthetic_folder),
        "brightness": Brightness(),
    }
    tables = score_images(scorers, images_dir(root), layout.prompts(root, "set"), batch_size=3)
    assert (len(read), len(cropped)) == (5, 5)
    images = [Image.open(images_dir(root) / f"{index:05d}.png") for index in range(5)]
    for name, table in tables.items():
        np.testing.assert_allclose(table["score"], scorers[name].score(images, PROMPTS), rtol=1e-5, atol=1e-6)
        assert list(table["fingerprint"]) == [scorers[name].fingerprint] * 5


def test_a_spec_runs_scorers_with_weights_beside_others(root: Path, aesthetic_folder: Path) -> None:
    score(root, aesthetic={"protocol": "sdpo", "weights": str(aesthetic_folder), "dtype": "float32"})
    table = read_table(layout.scores(root, "aesthetic", "base/dpo/seed0", "set"), "scores")
    images = [Image.open(images_dir(root) / f"{index:05d}.png") for index in range(5)]
    alone = create("aesthetic", weights=aesthetic_folder)
    np.testing.assert_allclose(table["score"], alone.score(images, PROMPTS), rtol=1e-5)
    assert set(table["fingerprint"]) == {alone.fingerprint}


def test_nothing_is_written_when_a_later_model_fails(root: Path) -> None:
    spec = {"root": str(root), "models": ["base/dpo/seed0", "base/dpo/seed1"], "prompt_sets": ["set"]}
    with pytest.raises(InputError, match=r"seed1/set/manifest\.parquet: no such file"):
        score_by_spec({**spec, "scorers": {"brightness": {"protocol": "sdpo"}}, "batch_size": 2})
    assert not (root / "scores").exists()


def refused(root: Path, message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        score(root)
    assert "\n" not in str(caught.value)
    assert "run snakemake again" in str(caught.value)
    assert not (root / "scores").exists()


def test_truncated_png(root: Path) -> None:
    path = images_dir(root) / "00001.png"
    path.write_bytes(path.read_bytes()[:-20])
    refused(root, r"00001\.png: truncated or changed.*delete the image folder")


def test_truncated_png_that_the_manifest_lists_so(root: Path) -> None:
    path = images_dir(root) / "00001.png"
    path.write_bytes(path.read_bytes()[:-30])
    rewrite(root, {"sha256": file_sha256(path)})
    refused(root, r"00001\.png: not a readable image")


def test_not_an_image(root: Path) -> None:
    path = images_dir(root) / "00001.png"
    path.write_text("text")
    rewrite(root, {"sha256": file_sha256(path)})
    refused(root, r"00001\.png: not a readable image")


def test_manifest_row_without_its_file(root: Path) -> None:
    (images_dir(root) / "00004.png").unlink()
    refused(root, r"00004\.png: listed in the manifest, but missing")


def test_file_outside_the_folder(root: Path) -> None:
    rewrite(root, {"file": "../00001.png"})
    refused(root, r"manifest\.parquet: '\.\./00001\.png' is not the name of a file beside it")


def test_prompt_without_an_image(root: Path) -> None:
    rewrite(root, drop="set-00002")
    refused(root, r"no image for prompt_id 'set-00002' of .*set\.parquet \(1 in all\)")


def test_image_without_a_prompt(root: Path) -> None:
    path = layout.prompts(root, "set")
    write_table(path, read_table(path, "prompts").iloc[:3], "prompts")
    refused(root, r"prompt_id 'set-00003' is not in .*set\.parquet \(2 in all\)")


def test_repeated_prompt_id(root: Path) -> None:
    rewrite(root, {"prompt_id": "set-00000"})
    refused(root, r"manifest\.parquet: prompt_id 'set-00000' stands there twice")


def test_missing_manifest(root: Path) -> None:
    (images_dir(root) / "manifest.parquet").unlink()
    with pytest.raises(InputError, match=r"manifest\.parquet: no such file"):
        score(root)


def test_an_image_that_a_scorer_cannot_take_is_named(root: Path) -> None:
    class Picky(Brightness):
        def score(self, images: Sequence[Image.Image], prompts: Sequence[str]) -> np.ndarray:
            if "dddd" in prompts:
                raise RefusedImageError(list(prompts).index("dddd"), "too red; paint it over")
            return super().score(images, prompts)

    with pytest.raises(InputError, match=r"00003\.png: scorer 'picky': too red; paint it over$"):
        score_images({"picky": Picky()}, images_dir(root), layout.prompts(root, "set"), batch_size=2)


@pytest.mark.parametrize(
    ("values", "message"),
    [([1.0, np.nan, 2.0, 3.0, 4.0], "'set-00001' is nan"), ([1.0], r"shape \(1,\) for 5 images")],
)
def test_scorer_that_gives_no_number_per_image(root: Path, values: list[float], message: str) -> None:
    class Broken(Brightness):
        def score(self, images: Sequence[Image.Image], prompts: Sequence[str]) -> np.ndarray:
            return np.array(values)

    with pytest.raises(InputError, match=f"scorer 'broken': .*{message}"):
        score_images({"broken": Broken()}, images_dir(root), layout.prompts(root, "set"))


def test_scorers_score_the_prompt_sets_that_they_rate(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("prompts/set.parquet", "images/base/dpo/seed0/set"):
        other = root / name.replace("set", "other")
        (shutil.copytree if (root / name).is_dir() else shutil.copy)(root / name, other)
    made: list[str] = []

    def make(name: str, **_: object) -> Brightness:
        made.append(name)
        return Brightness(fingerprint=name)

    monkeypatch.setattr(evals.scoring.scores, "create", make)
    spec = {"root": str(root), "models": ["base/dpo/seed0"], "prompt_sets": ["set", "other"], "batch_size": 4}
    blocks: dict[str, object] = {name: {"protocol": "x"} for name in ("one", "two", "none")}
    spec |= {"scorers": blocks, "rated": {"one": ["other"], "none": []}, "device": "cpu"}
    score_by_spec(spec)
    found = {path.relative_to(root / "scores").as_posix() for path in (root / "scores").rglob("*.parquet")}
    assert found == {
        f"{name}/base/dpo/seed0/{s}.parquet" for name, s in (("one", "other"), ("two", "set"), ("two", "other"))
    }
    # What rates nothing is not loaded.
    assert made == ["one", "two"]
    assert {path.relative_to(root).as_posix() for path in written("score", spec)} == {
        f"scores/{name}" for name in found
    }


def several(root: Path, images: list[tuple[int, int]]) -> Path:
    """The manifest lists a picture for each pair of a row and a number of image; its red is ten times the row + it."""
    folder = images_dir(root)
    listed = []
    for row, image in images:
        file = f"{row:05d}_{image}.png"
        Image.new("RGB", (40, 30), (10 * (row + 1) + image, 0, 0)).save(folder / file)
        listed.append((f"set-{row:05d}", image, file, 0, file_sha256(folder / file)))
    manifest = pd.DataFrame(listed, columns=["prompt_id", "image", "file", "seed", "sha256"])
    write_table(folder / "manifest.parquet", manifest, "manifest")
    return root


def score_two(root: Path) -> pd.DataFrame:
    brightness = {"brightness": {"protocol": "sdpo"}}
    spec = {"root": str(root), "models": ["base/dpo/seed0"], "prompt_sets": ["set"], "scorers": brightness}
    score_by_spec({**spec, "batch_size": 4, "images_per_prompt": {"set": 2}})
    return read_table(layout.scores(root, "brightness", "base/dpo/seed0", "set"), "scores")


def test_all_images_of_a_prompt_are_scored_with_it(root: Path) -> None:
    table = score_two(several(root, [(row, image) for row in (4, 2, 0, 1, 3) for image in (1, 0)]))
    ids = [f"set-{index:05d}" for index in range(5)]
    assert list(zip(table["prompt_id"], table["image"], strict=True)) == [(i, 0) for i in ids] + [(i, 1) for i in ids]
    # Red times the length of the prompt.
    assert table["score"].tolist() == [10, 40, 90, 160, 250, 11, 42, 93, 164, 255]


def test_each_prompt_has_as_many_images_as_are_asked_for(root: Path) -> None:
    both = [(row, image) for row in range(5) for image in range(2)]
    with pytest.raises(InputError, match="no image 1 for prompt_id 'set-00003'"):
        score_two(several(root, [pair for pair in both if pair != (3, 1)]))
    with pytest.raises(InputError, match="image 2 of prompt_id 'set-00004' is more than the config asks for"):
        score_two(several(root, [*both, (4, 2)]))
    with pytest.raises(InputError, match="image 1 of prompt_id 'set-00000' stands there twice"):
        several(root, both)
        path = images_dir(root) / "manifest.parquet"
        manifest = read_table(path, "manifest")
        again = manifest.iloc[[1]].assign(file="00000_2.png")
        write_table(path, pd.concat([manifest, again], ignore_index=True), "manifest")
        score_two(root)
