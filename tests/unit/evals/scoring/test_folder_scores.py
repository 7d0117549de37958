from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from artifacts.atomic import file_sha256
from artifacts.contracts import read_table
from artifacts.errors import InputError
from evals import cli
from evals.images.matching import PromptedImage
from evals.scorers import create, load
from evals.scoring.folder_scores import score_folder
from evals.scoring.score_cache import ScoreCache


@dataclass
class Brightness:
    """Mean red value times prompt length: needs whole images, and records what it was given."""

    fingerprint: str = "brightness"
    calls: list[int] = field(default_factory=list)

    def score(self, images: Sequence[Image.Image], prompts: Sequence[str]) -> np.ndarray:
        self.calls.append(len(images))
        return np.array([np.asarray(i)[..., 0].mean() * len(p) for i, p in zip(images, prompts, strict=True)])


ITEMS = [PromptedImage(f"{i}.png", "x" * (i + 1)) for i in range(5)]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "images").mkdir()
    for index, item in enumerate(ITEMS):
        Image.new("RGB", (40, 30), (10 * (index + 1), 0, 0)).save(tmp_path / "images" / item.file)
    return tmp_path / "images"


def score(folder: Path, scorer: Brightness, **options: Any) -> Any:
    return score_folder({"brightness": scorer}, {"brightness": "p"}, folder, ITEMS, label=None, **options)


@pytest.mark.parametrize("workers", [1, 3])
def test_scores_follow_the_images_in_batches(folder: Path, workers: int) -> None:
    scorer = Brightness()
    table = score(folder, scorer, batch_size=2, workers=workers).table
    assert scorer.calls == [2, 2, 1]
    assert list(table["score"]) == [10.0, 40.0, 90.0, 160.0, 250.0]
    assert list(table["file"]) == [item.file for item in ITEMS]
    assert list(table["image_sha256"]) == [file_sha256(folder / item.file) for item in ITEMS]


def test_cached_scores_are_neither_computed_nor_decoded_again(folder: Path, tmp_path: Path) -> None:
    with ScoreCache(tmp_path / "cache") as cache:
        first = score(folder, Brightness(), cache=cache)
        Image.new("RGB", (8, 8), (200, 0, 0)).save(folder / "2.png")
        scorer = Brightness()
        second = score(folder, scorer, cache=cache)
        assert (first.cached, second.cached, scorer.calls) == (0, 4, [1])
        assert list(second.table["score"]) == [10.0, 40.0, 600.0, 160.0, 250.0]
        other = Brightness("another")
        assert score(folder, other, cache=cache).cached == 0


def damage(folder: Path, kind: str) -> None:
    path = folder / "3.png"
    if kind == "truncated":
        content = path.read_bytes()
        path.write_bytes(content[: len(content) // 2])
    elif kind == "empty":
        path.write_bytes(b"")
    elif kind == "text":
        path.write_text("not an image")
    elif kind == "folder":
        path.unlink()
        path.mkdir()
    elif kind == "bomb":
        Image.new("1", (10_000, 10_000)).save(path)
    elif kind == "strip":
        Image.new("RGB", (1, 60_000)).save(path)
    elif kind == "huge":
        Image.new("1", (20_000, 10_000)).save(path)
    elif kind == "animated":
        path.unlink()
        frames = [Image.new("RGB", (8, 8), (value, 0, 0)) for value in (0, 255)]
        frames[0].save(path, save_all=True, append_images=frames[1:])
    elif kind == "deep":
        Image.fromarray(np.full((8, 8), 40_000, dtype=np.uint16)).save(path)


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("truncated", r"truncated or damaged \(.*\)"),
        ("empty", "the file is empty"),
        ("text", "not an image of a known format"),
        ("folder", "is a folder, not an image"),
        ("bomb", "10000 x 10000 pixels, at most 89478485 are read"),
        ("strip", "1 x 60000 pixels, one edge is more than 256 times the other; crop it"),
        ("huge", "more than 178956970 pixels"),
        ("animated", "holds 2 frames; save one of them as PNG"),
        ("deep", "mode I;16, more than 8 bits a channel"),
    ],
)
def test_a_broken_image_is_named_and_stops(folder: Path, kind: str, message: str) -> None:
    damage(folder, kind)
    with pytest.raises(InputError, match=rf"3\.png: {message}.*\(nothing was written\)") as error:
        score(folder, Brightness())
    assert "\n" not in str(error.value)


def test_skip_broken_lists_them(folder: Path) -> None:
    damage(folder, "truncated")
    table = score(folder, Brightness(), skip_broken=True).table
    assert list(table["score"].isna()) == [False, False, False, True, False]
    assert table["problem"][3].startswith("truncated or damaged")
    assert table["image_sha256"][3] == file_sha256(folder / "3.png")


@pytest.mark.parametrize(
    ("kind", "problem"),
    [
        ("folder", "is a folder, not an image"),
        ("missing", "no such image"),
        ("link", "is a link to a file that is not there"),
    ],
)
def test_skip_broken_lists_what_is_no_file(folder: Path, tmp_path: Path, kind: str, problem: str) -> None:
    """By the command, whose prompts name the images: a missing one is not found in the folder."""
    path = folder / "3.png"
    path.unlink()
    if kind == "folder":
        path.mkdir()
    elif kind == "link":
        path.symlink_to(folder / "nowhere.png")
    rows = "".join(f"{item.file},{item.prompt}\n" for item in ITEMS)
    (tmp_path / "p.csv").write_text(f"file,prompt\n{rows}")
    out = tmp_path / "o.parquet"
    command = ["score", "--scorers", "blank", "--device", "cpu", "--images", folder, "--prompts", tmp_path / "p.csv"]
    assert run(*command, "--out", out) == 2
    assert run(*command, "--out", out, "--skip-broken") == 0
    table = read_table(out, "folder_scores")
    assert table["problem"].dropna().to_dict() == {3: problem}
    assert table["image_sha256"].isna().sum() == table["score"].isna().sum() == 1


def test_rows_stand_scorer_by_scorer_in_the_order_of_the_prompts(folder: Path) -> None:
    damage(folder, "truncated")
    scorers = {"first": Brightness(), "second": Brightness("another")}
    table = score_folder(
        scorers, {"first": "p", "second": "q"}, folder, ITEMS, batch_size=2, skip_broken=True, label=None
    ).table
    names = [item.file for item in ITEMS]
    assert list(table["file"]) == names * 2
    assert list(table["prompt"]) == [item.prompt for item in ITEMS] * 2
    assert list(zip(table["scorer"], table["protocol"], strict=True)) == [("first", "p")] * 5 + [("second", "q")] * 5
    assert list(table["fingerprint"]) == [scorers["first"].fingerprint] * 5 + [scorers["second"].fingerprint] * 5
    assert list(table["image_sha256"]) == [file_sha256(folder / name) for name in names] * 2
    assert list(table["problem"].isna()) == [True, True, True, False, True] * 2
    whole = [True, True, True, False, True] * 2
    assert list(table["score"].notna()) == whole
    assert list(table["score"][whole][:4]) == list(table["score"][whole][4:])


def test_no_memory_for_an_image_is_said_of_it(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise MemoryError

    monkeypatch.setattr("evals.scorers.jpeg_size.rgb", fail)
    with pytest.raises(InputError, match=r"0\.png: cannot be brought to a scorer's size \(MemoryError\)"):
        score_folder({"jpeg_size": create("jpeg_size")}, {"jpeg_size": "sdpo"}, folder, ITEMS, label=None)


def test_a_score_that_is_no_number_names_its_image(folder: Path) -> None:
    class Broken(Brightness):
        def score(self, images: Sequence[Image.Image], prompts: Sequence[str]) -> np.ndarray:
            return np.array([np.nan if len(prompt) == 4 else 0.0 for prompt in prompts])

    with pytest.raises(InputError, match=r"scorer 'brightness': the score of 3\.png is nan"):
        score(folder, Broken())


def test_every_protocol_gets_its_own_pixels(folder: Path, open_clip_folder: Path, imagereward_folder: Path) -> None:
    """All scorers and protocols of one run share the decoded image, and each gives the score it gives alone."""
    together, protocols = {}, {}
    for name, weights in (("hpsv2", open_clip_folder), ("clip", open_clip_folder), ("imagereward", imagereward_folder)):
        for protocol in load(name).PROTOCOLS:
            together[f"{name} {protocol}"] = create(name, protocol=protocol, weights=weights)
            protocols[f"{name} {protocol}"] = protocol
    assert set(together) == {
        f"{n} {p}" for n in ("hpsv2", "clip", "imagereward") for p in ("sdpo", "author", "package")
    }
    rng = np.random.default_rng(0)
    for item in ITEMS:
        Image.fromarray(rng.integers(0, 256, (30, 47, 3), dtype=np.uint8)).save(folder / item.file)
    table = score_folder(together, protocols, folder, ITEMS, batch_size=2, label=None).table
    images = [Image.open(folder / item.file) for item in ITEMS]
    for name, scorer in together.items():
        alone = scorer.score(images, [item.prompt for item in ITEMS])
        np.testing.assert_allclose(table["score"][table["scorer"] == name], alone, rtol=1e-4, atol=1e-6, err_msg=name)


def run(*arguments: object) -> int:
    return cli.main([str(argument) for argument in arguments])


def test_command_line_gives_the_scorers_own_numbers(
    folder: Path, tmp_path: Path, pickscore_folder: Path, aesthetic_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    prompts, out = tmp_path / "p.txt", tmp_path / "out" / "scores.parquet"
    prompts.write_text("\n".join(item.prompt for item in ITEMS))
    command = ["score", "--scorers", "pickscore,aesthetic", "--weights-dir", pickscore_folder.parent, "--device", "cpu"]
    command += ["--images", folder, "--prompts", prompts, "--out", out, "--batch-size", "2"]
    assert run(*command) == 0
    table = read_table(out, "folder_scores")
    images = [Image.open(folder / item.file) for item in ITEMS]
    for name, weights in (("pickscore", pickscore_folder), ("aesthetic", aesthetic_folder)):
        scorer = create(name, weights=weights)
        rows = table[table["scorer"] == name]
        np.testing.assert_allclose(rows["score"], scorer.score(images, [i.prompt for i in ITEMS]), rtol=1e-5)
        assert set(rows["fingerprint"]) == {scorer.fingerprint}
    captured = capsys.readouterr()
    assert "5 images matched by the running number in the names" in captured.err
    assert f"{table['score'][:5].mean():.2f}" in captured.out
    assert captured.out.startswith("| scorer    | protocol |")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (["--scorers", "pickscore,clip"], r"no weights of pickscore, clip; give --weights pickscore=PATH"),
        (["--scorers", "pickscor"], r"unknown scorer 'pickscor'.*did you mean 'pickscore'\?"),
        (["--weights", "pickscore"], r"--weights 'pickscore': expected NAME=PATH"),
        (["--batch-size", "0"], r"--batch-size 0: expected 1 or more"),
        (["--out", "x.csv"], r"--out x\.csv: expected a name that ends in \.parquet"),
        (["--out", "{file}/x.parquet"], r"--out \S+/x\.parquet: cannot be written \(Not a directory\)"),
        (
            ["--out", "{file}/a/b/x.parquet"],
            r"--out \S+/x\.parquet: cannot be written \(Not a directory\); give a file",
        ),
        (["--out", "/proc/x.parquet"], r"--out /proc/x\.parquet: cannot be written \(No such file"),
        (["--scorers", "blank", "--device", "gpu0"], r"device 'gpu0' cannot be used here"),
        (["--spec", "{}"], r"evals score: --spec describes the whole job; leave --images out"),
    ],
)
def test_wrong_arguments(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], change: list[str], message: str
) -> None:
    prompts, out = tmp_path / "p.txt", tmp_path / "scores.parquet"
    prompts.write_text("\n".join(item.prompt for item in ITEMS))
    change = [value.replace("{file}", str(prompts)) for value in change]
    assert run("score", "--images", folder, "--prompts", prompts, "--out", out, *change) == 2
    error = capsys.readouterr().err
    assert sum(not line.startswith("5 images matched") for line in error.splitlines()) == 1
    assert re.search(message, error), error
    assert not out.exists()


def test_missing_arguments(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("score", "--images", "x") == 2
    message = "evals score: --prompts is missing; give --images, --prompts and --out, or --spec alone"
    assert message in capsys.readouterr().err


def test_what_the_file_system_says_while_writing_is_one_line(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("artifacts.contracts.write_table", full)
    (tmp_path / "p.txt").write_text("\n".join(item.prompt for item in ITEMS))
    out = tmp_path / "o.parquet"
    command = ["score", "--scorers", "blank", "--images", folder, "--prompts", tmp_path / "p.txt", "--device", "cpu"]
    assert run(*command, "--out", out) == 2
    assert f"error: --out {out}: cannot be written (No space left on device)" in capsys.readouterr().err


def test_images_are_scored_as_their_pixels_are_meant_and_what_was_met_is_shown(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """By one rule with the pairs: transparent over black is white, and lying pictures are turned; cached ones too."""
    lying = np.zeros((30, 40, 3), np.uint8)
    lying[:, :3] = 255
    orientation = Image.Exif()
    orientation[274] = 6
    Image.fromarray(lying).save(folder / "0.png", exif=orientation)
    Image.new("RGBA", (40, 30), (0, 0, 0, 0)).save(folder / "1.png")
    Image.new("L", (40, 30), 77).save(folder / "2.png")
    scorer = Brightness()
    with ScoreCache(tmp_path / "cache") as cache:
        first = score(folder, scorer, cache=cache)
        second = score(folder, scorer, cache=cache)
    assert list(first.table["score"][1:3]) == [255 * 2, 77 * 3]
    assert (second.cached, len(scorer.calls)) == (5, 1)
    assert first.met == second.met == {"turned": 1, "alpha": 1, "grey": 1}

    # What lies on its side is as wide as high before the crop, and not after it.
    upright = np.rot90(lying, -1)
    Image.fromarray(upright).save(tmp_path / "upright.png")
    sizes = [
        score_folder(
            {"jpeg_size": create("jpeg_size")}, {"jpeg_size": "sdpo"}, at, [PromptedImage(name, "x")], label=None
        ).table["score"][0]
        for at, name in ((folder, "0.png"), (tmp_path, "upright.png"))
    ]
    assert sizes[0] == sizes[1]

    (tmp_path / "p.txt").write_text("\n".join(item.prompt for item in ITEMS))
    command = ["score", "--scorers", "blank", "--images", folder, "--prompts", tmp_path / "p.txt", "--device", "cpu"]
    assert run(*command, "--out", tmp_path / "o.parquet") == 0
    assert (
        "not plain RGB (docs/image-decoding.md): 1 turned upright as EXIF says, 1 with transparency, laid on white, "
        "1 grey." in capsys.readouterr().out
    )


def test_a_rule_of_decoding_is_part_of_every_fingerprint(
    monkeypatch: pytest.MonkeyPatch, aesthetic_folder: Path
) -> None:
    """Else scores that were kept by another rule would be taken for today's."""
    given = {"blank": None, "jpeg_size": None, "aesthetic": aesthetic_folder}
    before = {name: create(name, weights=weights).fingerprint for name, weights in given.items()}
    monkeypatch.setattr("artifacts.image_decoding.VERSION", 99)
    for name, weights in given.items():
        assert create(name, weights=weights).fingerprint != before[name]
