"""Each layout as its data set publishes it, built small: labels, splits, streaming, and what is wrong with a file."""

from __future__ import annotations

import io
import json
import re
import subprocess
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from artifacts.atomic import write_bytes, write_json, write_text
from artifacts.errors import InputError
from sdpo import pairs
from sdpo.pairs import Pair

Row = dict[str, Any]


def png(value: int, size: tuple[int, int] = (16, 16), format: str = "PNG") -> bytes:
    """A picture that is known again by its red."""
    buffer = io.BytesIO()
    Image.new("RGB", size, (value, 0, 0)).save(buffer, format)
    return buffer.getvalue()


def read(source: str, folder: Path | None, **options: Any) -> list[Pair]:
    given = {**({} if folder is None else {"path": str(folder)}), **options}
    return list(pairs.read(source, given, base_path=Path("unused")))


def seen(read_pairs: list[Pair]) -> list[tuple[str, tuple[int, int], float, str]]:
    """Prompt, reds of the two images, label and split of each pair."""
    return [
        (p.prompt, (p.images[0].getpixel((8, 8))[0], p.images[1].getpixel((8, 8))[0]), p.label, p.split)  # type: ignore[index]
        for p in read_pairs
    ]


def preference(
    caption: str | None, first: int, second: int, labels: tuple[float | None, float | None], **more: Any
) -> Row:
    row = {"caption": caption, "jpg_0": png(first), "jpg_1": png(second), "label_0": labels[0], "label_1": labels[1]}
    return {**row, "has_label": True, "ranking_id": 1000 * first + second, **more}


WON, LOST, TIE = (1.0, 0.0), (0.0, 1.0), (0.5, 0.5)


def parquet(path: Path, rows: list[Row], **options: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.Table.from_pylist(rows), path, **options)


@pytest.fixture
def pickapic(tmp_path: Path) -> Path:
    """Two shards of train, one of a held-out split and one of a split that is not asked for."""
    train = [preference("a", 1, 2, WON), preference("b", 3, 4, TIE), preference("c", 5, 6, LOST)]
    parquet(tmp_path / "data/train-00000-of-00002.parquet", train[:2])
    parquet(tmp_path / "data/train-00001-of-00002.parquet", train[2:])
    parquet(tmp_path / "data/validation_unique-00000-of-00001.parquet", [preference("d", 7, 8, LOST)])
    parquet(tmp_path / "data/validation-00000-of-00001.parquet", [preference("e", 9, 10, WON)])
    return tmp_path


def test_pickapic_labels_ties_and_splits(pickapic: Path, capsys: pytest.CaptureFixture[str]) -> None:
    heldout, a, c = ("d", (7, 8), 0.0, "heldout"), ("a", (1, 2), 1.0, "train"), ("c", (5, 6), 0.0, "train")
    assert seen(read("pickapic", pickapic)) == [heldout, a, c]
    assert "4 rows, 2 pairs to train on, 1 held out; skipped: 1 × tie\n" in capsys.readouterr().err
    assert seen(read("pickapic", pickapic, ties="keep")) == [heldout, a, ("b", (3, 4), 0.5, "train"), c]
    # `validation-*` is not `validation_unique-*`.
    assert seen(read("pickapic", pickapic, heldout_splits=["validation"]))[0] == ("e", (9, 10), 1.0, "heldout")


def test_pickapic_rows_without_a_label_are_no_broken_ones(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = [preference("a", 1, 2, WON), preference("b", 3, 4, (0.0, 0.0), has_label=False)]
    parquet(tmp_path / "train-0.parquet", rows)
    assert len(read("pickapic", tmp_path, heldout_splits=[], max_broken=0)) == 1
    assert "skipped: 1 × without a label" in capsys.readouterr().err


@pytest.mark.parametrize("value", [False, 0, 0.0, "False", "0"])
def test_pickapic_rows_without_a_label_in_other_spellings(tmp_path: Path, value: Any) -> None:
    yes = type(value)(True) if not isinstance(value, str) else "True"
    rows = [preference("a", 1, 2, WON, has_label=yes), preference("b", 3, 4, WON, has_label=value)]
    parquet(tmp_path / "train-0.parquet", rows)
    assert [p.prompt for p in read("pickapic", tmp_path, heldout_splits=[])] == ["a"]


def test_columns_of_one_name_are_refused(tmp_path: Path) -> None:
    row = preference("a", 1, 2, WON)
    twice = pa.Table.from_pylist([row]).append_column("caption", pa.array(["b"]))
    pq.write_table(twice, tmp_path / "train-0.parquet")
    with pytest.raises(InputError, match=r"train-0\.parquet: two columns are named 'caption'"):
        read("pickapic", tmp_path, heldout_splits=[])
    ranked = pa.Table.from_pylist(images_of_prompt("train", "train_1", "a", {1: 1, 2: 2}))
    pq.write_table(ranked.append_column("rank", pa.array([2, 1])), tmp_path / "metadata-train.parquet")
    with pytest.raises(InputError, match=r"metadata-train\.parquet: two columns are named 'rank'"):
        read("imagerewarddb", tmp_path, heldout_splits=[])


def test_pickapic_captions_that_are_no_text_are_broken(tmp_path: Path) -> None:
    parquet(tmp_path / "train-0.parquet", [{**preference("", 1, 2, WON), "caption": b"a", "ranking_id": None}])
    with pytest.raises(InputError, match=r"1 broken pairs of 1, .*row 1: no prompt"):
        read("pickapic", tmp_path, heldout_splits=[], max_broken=0)


@pytest.mark.parametrize("labels", [(None, None), (0.0, 0.0), (1.0, 1.0), (0.3, 0.7), (float("nan"), 1.0)])
def test_pickapic_labels_that_say_nothing_are_broken(tmp_path: Path, labels: tuple[float, float]) -> None:
    parquet(tmp_path / "train-0.parquet", [preference("a", 1, 2, WON), preference("b", 3, 4, labels)])
    with pytest.raises(InputError, match=r"1 broken pairs of 2, more than max_broken = 0: .*row 2: labels are "):
        read("pickapic", tmp_path, heldout_splits=[], max_broken=0)


def test_pickapic_broken_images_are_listed_and_skipped(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    jpeg = png(200, (64, 64), "JPEG")
    rows = [
        preference("a", 1, 2, WON),
        preference("b", 3, 4, WON, jpg_0=jpeg[: len(jpeg) // 2]),
        preference("c", 5, 6, WON, jpg_1=b"<html>404</html>"),
        preference("d", 7, 8, WON, jpg_1=None),
        preference(None, 9, 10, WON),
    ]
    parquet(tmp_path / "train-0.parquet", rows)
    assert [p.prompt for p in read("pickapic", tmp_path, heldout_splits=[])] == ["a"]
    listed = [line for line in capsys.readouterr().err.splitlines() if line.startswith("warning: ")]
    assert [line.split("train-0.parquet, ")[1].split(" cannot")[0] for line in listed] == [
        *("row 2: image 0", "row 3: image 1", "row 4: image 1"),
        "row 5: no prompt; skipped",
    ]
    assert "0x" not in listed[1]  # no address, so that two logs compare equal
    with pytest.raises(InputError, match=r"3 broken pairs of 4, more than max_broken = 2: .*row 2: .*row 3: .*row 4: "):
        read("pickapic", tmp_path, heldout_splits=[], max_broken=2)


def test_pickapic_without_images_is_refused(tmp_path: Path) -> None:
    row = preference("a", 1, 2, WON)
    parquet(tmp_path / "links/train-0.parquet", [{**row, "jpg_0": "https://x/1.png", "jpg_1": "https://x/2.png"}])
    with pytest.raises(InputError, match=r"train-0.parquet: column 'jpg_0' holds string, expected the bytes"):
        read("pickapic", tmp_path / "links", heldout_splits=[])
    parquet(tmp_path / "none/train-0.parquet", [{k: v for k, v in row.items() if k != "jpg_1"}])
    with pytest.raises(InputError, match=r"no column 'jpg_1'; this may be a copy without images"):
        read("pickapic", tmp_path / "none", heldout_splits=[])
    parquet(tmp_path / "text/train-0.parquet", [{**row, "jpg_0": b"no image"}] * 3)
    with pytest.raises(InputError, match=r"not one pair was whole so far; are these the right files and columns\?"):
        read("pickapic", tmp_path / "text", heldout_splits=[], max_broken=2)


def test_pickapic_takes_the_hubs_own_image_columns(tmp_path: Path) -> None:
    row = preference("a", 1, 2, WON)
    parquet(tmp_path / "train-0.parquet", [{**row, **{c: {"bytes": row[c], "path": None} for c in ("jpg_0", "jpg_1")}}])
    assert seen(read("pickapic", tmp_path, heldout_splits=[])) == [("a", (1, 2), 1.0, "train")]


def test_pickapic_of_ties_alone_is_refused(tmp_path: Path) -> None:
    parquet(tmp_path / "train-0.parquet", [preference("a", 1, 2, TIE)] * 2)
    for ties in ("drop", "keep"):
        with pytest.raises(InputError, match="no pair with a winner to train on: 2 rows, "):
            read("pickapic", tmp_path, heldout_splits=[], ties=ties)


def test_pickapic_reads_no_more_than_it_needs(tmp_path: Path) -> None:
    noise = io.BytesIO()
    Image.effect_noise((256, 256), 90).save(noise, "BMP")
    rows = [preference(f"p{i}", i, i, WON, jpg_0=noise.getvalue() + bytes(i), jpg_1=png(i)) for i in range(64)]
    parquet(tmp_path / "train-0.parquet", rows, row_group_size=8, use_dictionary=False, compression="none")
    group = (tmp_path / "train-0.parquet").stat().st_size / 8
    before, peak = pa.total_allocated_bytes(), 0
    for _ in pairs.read("pickapic", {"path": str(tmp_path), "heldout_splits": []}, base_path=Path()):
        peak = max(peak, pa.total_allocated_bytes() - before)
    assert group < peak < 4 * group


def test_pickapic_opens_no_image_beyond_the_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    parquet(tmp_path / "train-0.parquet", [preference(f"p{i}", i, i + 1, WON) for i in range(40)], row_group_size=1)
    asked: list[list[str]] = []
    iter_batches = pq.ParquetFile.iter_batches
    monkeypatch.setattr(
        pq.ParquetFile, "iter_batches", lambda file, **kw: asked.append(kw["columns"]) or iter_batches(file, **kw)
    )
    assert len(read("pickapic", tmp_path, heldout_splits=[], limit=3)) == 3
    assert asked == [["jpg_0", "jpg_1"]] * 3


@pytest.mark.parametrize("source", ["pickapic", "imagerewarddb"])
def test_pairs_are_others_when_an_image_in_a_larger_file_is(
    tmp_path: Path, source: str, request: pytest.FixtureRequest
) -> None:
    """By this a build that goes on after an interruption notices what was corrected meanwhile, row for row alike."""
    folder: Path = request.getfixturevalue(source)
    options = {"heldout_splits": []}
    before = [pair.stated for pair in read(source, folder, **options)]
    assert before == [pair.stated for pair in read(source, folder, **options)]
    if source == "pickapic":
        for path in folder.rglob("*train*.parquet"):
            rows = pq.read_table(path).to_pylist()
            parquet(path, [row | {"jpg_0": png(250)} for row in rows])
    else:
        for path in folder.rglob("*.zip"):
            with zipfile.ZipFile(path) as archive:
                names = archive.namelist()
            with zipfile.ZipFile(path, "w") as archive:
                for name in names:
                    archive.writestr(name, png(250))
    after = [pair.stated for pair in read(source, folder, **options)]
    assert len(after) == len(before) > 0
    assert not set(before) & set(after)


def test_damaged_parquet_is_named(pickapic: Path) -> None:
    path = pickapic / "data/train-00001-of-00002.parquet"
    write_bytes(path, path.read_bytes()[:-20])
    with pytest.raises(InputError, match=r"train-00001-of-00002.parquet: not a whole parquet file"):
        read("pickapic", pickapic)


def shard(path: Path, samples: list[tuple[str, dict[str, bytes | str]]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as tar:
        for key, fields in samples:
            for field, value in fields.items():
                data = value.encode() if isinstance(value, str) else value
                member = tarfile.TarInfo(f"{key}.{field}")
                member.size = len(data)
                tar.addfile(member, io.BytesIO(data))


def sample(prompt: str, first: int, second: int, labels: tuple[Any, Any]) -> dict[str, bytes | str]:
    return {
        "jpg_0.jpg": png(first),
        "jpg_1.jpg": png(second),
        "label_0.txt": str(labels[0]),
        "label_1.txt": str(labels[1]),
        "original_prompt.txt": prompt,
    }


@pytest.fixture
def shards(tmp_path: Path) -> Path:
    shard(tmp_path / "00000.tar", [("0", sample("a", 1, 2, WON)), ("1", sample("b", 3, 4, TIE))])
    # Keys begin anew in each shard.
    shard(tmp_path / "00001.tar", [("0", sample("ünï", 5, 6, LOST))])
    return tmp_path


def test_webdataset_samples(shards: Path) -> None:
    a, u = ("a", (1, 2), 1.0, "train"), ("ünï", (5, 6), 0.0, "train")
    assert seen(read("webdataset", shards, heldout_share=0.0)) == [a, u]
    assert seen(read("webdataset", shards, heldout_share=0.0, ties="keep")) == [a, ("b", (3, 4), 0.5, "train"), u]


def test_webdataset_other_names_of_fields(tmp_path: Path) -> None:
    fields = {f"{name.split('.')[0]}": value for name, value in sample("", 1, 2, WON).items()}
    del fields["original_prompt"]
    shard(tmp_path / "x/train-0.tar", [("sub/k", {**fields, "caption": "a cat", "has_label": "True"})])
    shard(tmp_path / "x/val-0.tar", [("sub/k", {**fields, "caption": "a dog", "has_label": "True"})])
    found = seen(read("webdataset", tmp_path, files="**/{split}-*.tar", heldout_splits=["val"], heldout_share=0.0))
    assert found == [("a dog", (1, 2), 1.0, "heldout"), ("a cat", (1, 2), 1.0, "train")]


def test_webdataset_incomplete_samples_are_broken(shards: Path, capsys: pytest.CaptureFixture[str]) -> None:
    no_image = {k: v for k, v in sample("x", 1, 2, WON).items() if k != "jpg_1.jpg"}
    no_label = {k: v for k, v in sample("y", 1, 2, WON).items() if k != "label_0.txt"}
    shard(
        shards / "00002.tar", [("0", no_image), ("1", no_label), ("2", {**sample("z", 9, 8, WON), "label_0.txt": "?"})]
    )
    assert len(read("webdataset", shards, heldout_share=0.0)) == 2
    err = capsys.readouterr().err
    assert "00002.tar, sample 0: no jpg_1; skipped" in err
    assert "00002.tar, sample 1: labels are None and '0.0'; skipped" in err
    assert "00002.tar, sample 2: labels are '?' and '0.0'; skipped" in err


@pytest.mark.parametrize("field", ["jpg_0.png", "label_0.cls", "original_prompt.txt"])
def test_webdataset_fields_that_are_there_twice_are_broken(shards: Path, field: str) -> None:
    both = [("0", sample("x", 1, 2, WON)), ("0", {field: png(9)})]
    shard(shards / "00002.tar", both)
    with pytest.raises(InputError, match=rf"00002\.tar, sample 0: {field.split('.')[0]} is there 2 times"):
        read("webdataset", shards, heldout_share=0.0, max_broken=0)


def test_truncated_tar_is_named(shards: Path) -> None:
    path = shards / "00001.tar"
    write_bytes(path, path.read_bytes()[:700])
    with pytest.raises(InputError, match=r"00001.tar: not a whole tar file .*fetch it again"):
        read("webdataset", shards, heldout_share=0.0)
    write_bytes(path, bytes(range(256)) * 4)
    with pytest.raises(InputError, match=r"00001.tar: not a whole tar file .*fetch it again") as caught:
        read("webdataset", shards, heldout_share=0.0)
    assert "\n" not in str(caught.value)


@pytest.fixture
def hpdv2(tmp_path: Path) -> Path:
    for name, value in {
        "train/1.jpg": 1,
        "train/2.jpg": 2,
        "train/3.jpg": 3,
        "test/1.jpg": 11,
        "test/2.jpg": 12,
    }.items():
        write_bytes(tmp_path / name, png(value))
    write_bytes(tmp_path / "test/3.jpg", png(13))
    train = [
        {"prompt": "a", "file_path": ["1.jpg", "2.jpg"], "human_preference": [0, 1]},
        {"prompt": "b", "file_path": ["3.jpg", "1.jpg"], "human_preference": [1, 0]},
    ]
    write_json(tmp_path / "train.json", train)
    ranked = {"prompt": "t", "image_path": ["1.jpg", "2.jpg", "3.jpg"], "rank": [2, 1, 2], "raw_annotations": []}
    write_json(tmp_path / "test.json", [ranked])
    return tmp_path


def test_hpdv2_preferences_and_rankings(hpdv2: Path) -> None:
    train = [("a", (1, 2), 0.0, "train"), ("b", (3, 1), 1.0, "train")]
    heldout = [("t", (11, 12), 0.0, "heldout"), ("t", (12, 13), 1.0, "heldout")]
    assert seen(read("hpdv2", hpdv2)) == heldout + train
    tie = ("t", (11, 13), 0.5, "heldout")
    assert seen(read("hpdv2", hpdv2, ties="keep")) == [heldout[0], tie, heldout[1], *train]


def test_hpdv2_missing_image_and_label(hpdv2: Path, capsys: pytest.CaptureFixture[str]) -> None:
    whole = json.loads((hpdv2 / "train.json").read_text())
    broken = [
        {"prompt": "c", "file_path": ["1.jpg", "9.jpg"], "human_preference": [1, 0]},
        {"prompt": "d", "file_path": ["1.jpg", "2.jpg"]},
        {"prompt": "e", "file_path": ["1.jpg"], "human_preference": [1, 0]},
        {"prompt": "f", "file_path": ["1.jpg", "2.jpg"], "human_preference": [0, 0]},
    ]
    write_json(hpdv2 / "train.json", [*broken, *whole])
    assert len(read("hpdv2", hpdv2, heldout_splits=[])) == 2
    listed = [line.split("train.json, ")[1] for line in capsys.readouterr().err.splitlines() if "warning" in line]
    assert [line.split(":")[0] for line in listed] == [f"element {i}" for i in (1, 2, 3, 4)]
    assert "9.jpg cannot be opened" in listed[0]
    assert "human_preference is None" in listed[1]
    assert "file_path is ['1.jpg'], expected two names" in listed[2]


def test_hpdv3_first_path_is_preferred(tmp_path: Path) -> None:
    for value in range(1, 5):
        write_bytes(tmp_path / f"images/{value}.jpg", png(value))
    rows = [
        {"prompt": "a", "path1": "images/1.jpg", "path2": "images/2.jpg", "confidence": 0.99},
        {"prompt": "b", "path1": "images/4.jpg", "path2": "images/3.jpg", "confidence": 0.6},
    ]
    write_json(tmp_path / "train.json", rows)
    write_json(tmp_path / "test.json", [{**rows[0], "prompt": "t"}])
    t, a, b = ("t", (1, 2), 1.0, "heldout"), ("a", (1, 2), 1.0, "train"), ("b", (4, 3), 1.0, "train")
    assert seen(read("hpdv3", tmp_path)) == [t, a, b]
    assert seen(read("hpdv3", tmp_path, min_confidence=0.95)) == [t, a]
    write_json(tmp_path / "train.json", [{k: v for k, v in rows[0].items() if k != "confidence"}])
    for wrong, shown in ((None, "None"), (float("nan"), "nan"), (float("inf"), "inf"), (95, "95")):
        write_text(tmp_path / "train.json", json.dumps([{**rows[0], "confidence": wrong}]))
        with pytest.raises(InputError, match=f"confidence is {shown}, expected a number from 0 to 1, since min_conf"):
            read("hpdv3", tmp_path, min_confidence=0.95, max_broken=0)


def images_of_prompt(split: str, part: str, prompt: str, ranks: dict[int, int]) -> list[Row]:
    return [
        {"image_path": f"images/{split}/{part}/{v}.webp", "prompt_id": f"id-{prompt}", "prompt": prompt, "rank": rank}
        for v, rank in ranks.items()
    ]


@pytest.fixture
def imagerewarddb(tmp_path: Path) -> Path:
    """Train in zip files, one with a folder inside; validation unpacked. The rows of two prompts are mixed."""
    a = images_of_prompt("train", "train_1", "a", {1: 2, 2: 1, 3: 2})
    b = images_of_prompt("train", "train_2", "b", {4: 1, 5: 3})
    parquet(tmp_path / "metadata-train.parquet", [a[0], b[0], a[1], b[1], a[2]])
    parquet(tmp_path / "metadata-validation.parquet", images_of_prompt("validation", "validation_1", "v", {7: 1, 8: 2}))
    (tmp_path / "images/train").mkdir(parents=True)
    with zipfile.ZipFile(tmp_path / "images/train/train_1.zip", "w") as archive:
        for value in (1, 2, 3):
            archive.writestr(f"{value}.webp", png(value))
    with zipfile.ZipFile(tmp_path / "images/train/train_2.zip", "w") as archive:
        for value in (4, 5):
            archive.writestr(f"train_2/{value}.webp", png(value))
    for value in (7, 8):
        write_bytes(tmp_path / f"images/validation/validation_1/{value}.webp", png(value))
    return tmp_path


def test_imagerewarddb_lower_rank_is_preferred(imagerewarddb: Path) -> None:
    v = ("v", (7, 8), 1.0, "heldout")
    a, b = [("a", (1, 2), 0.0, "train"), ("a", (2, 3), 1.0, "train")], ("b", (4, 5), 1.0, "train")
    assert seen(read("imagerewarddb", imagerewarddb)) == [v, *a, b]
    tie = ("a", (1, 3), 0.5, "train")
    assert seen(read("imagerewarddb", imagerewarddb, ties="keep")) == [v, a[0], tie, a[1], b]


def test_imagerewarddb_json_beside_the_images(imagerewarddb: Path) -> None:
    rows = images_of_prompt("validation", "validation_1", "v", {7: 2, 8: 1})
    write_json(imagerewarddb / "images/validation/validation_1/validation_1.json", rows)
    options = {"files": "images/{split}/*/*.json", "train_splits": ["validation"], "heldout_splits": []}
    assert seen(read("imagerewarddb", imagerewarddb, **options)) == [("v", (7, 8), 0.0, "train")]


def test_imagerewarddb_rankings_across_prompts_are_refused(imagerewarddb: Path) -> None:
    rows = images_of_prompt("validation", "validation_1", "v", {7: 2, 8: 1})
    file = imagerewarddb / "images/validation/validation_1/validation_1.json"
    options = {"files": "images/{split}/*/*.json", "train_splits": ["validation"], "heldout_splits": []}
    write_json(file, [{k: v for k, v in row.items() if k != "prompt_id"} for row in rows])
    with pytest.raises(InputError, match=r"validation_1\.json, row 1: prompt_id is None, expected a text"):
        read("imagerewarddb", imagerewarddb, **options)
    write_json(file, [rows[0], {**rows[1], "prompt": "w"}])
    with pytest.raises(InputError, match=r"validation_1\.json, prompt id-v: has images of 'v' and of 'w'"):
        read("imagerewarddb", imagerewarddb, **options)


def test_imagerewarddb_missing_member_and_damaged_archive(
    imagerewarddb: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = imagerewarddb / "images/train/train_2.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("train_2/4.webp", png(4))
    assert len(read("imagerewarddb", imagerewarddb)) == 3
    assert "train_2.zip has no 5.webp; skipped" in capsys.readouterr().err
    with zipfile.ZipFile(path, "w") as archive:
        for value in (4, 5):
            archive.writestr(f"train_2/{value}.webp", png(value))
    # A bit of each member's flags says that it is encrypted.
    content = bytearray(path.read_bytes())
    for mark, flags in ((b"PK\3\4", 6), (b"PK\1\2", 8)):
        content[content.index(mark) + flags] |= 1
    write_bytes(path, bytes(content))
    assert len(read("imagerewarddb", imagerewarddb)) == 3
    assert "train_2/4.webp: File 'train_2/4.webp' is encrypted" in capsys.readouterr().err
    write_bytes(path, b"PK")
    with pytest.raises(InputError, match=r"train_2.zip: not a whole zip file"):
        read("imagerewarddb", imagerewarddb)


@pytest.fixture
def own(tmp_path: Path) -> Callable[[list[Row]], Path]:
    def make(rows: list[Row]) -> Path:
        for value in range(1, 9):
            write_bytes(tmp_path / f"img/{value}.png", png(value, (32, 32)))
        write_text(tmp_path / "pairs.jsonl", "\n".join(json.dumps(row) for row in rows) + "\n\n")
        return tmp_path

    return make


def test_folder_of_ones_own_images(own: Callable[[list[Row]], Path]) -> None:
    folder = own(
        [
            {"prompt": "a", "winner": "img/1.png", "loser": "img/2.png"},
            {"prompt": "b", "winner": "img/3.png", "loser": "img/4.png", "split": "heldout"},
            {"prompt": "c", "winner": "img/5.png", "loser": "img/6.png", "label": 0.5},
            {"prompt": "d", "winner": "img/7.png", "loser": "img/8.png", "label": 0, "split": "train"},
        ]
    )
    found = seen(read("folder", folder, ties="keep"))
    assert found == [
        ("b", (3, 4), 1.0, "heldout"),
        ("a", (1, 2), 1.0, "train"),
        ("c", (5, 6), 0.5, "train"),
        ("d", (7, 8), 0.0, "train"),
    ]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (
            '{"prompt": "a", "winner": "x.png", "looser": "y.png"}',
            "line 1: unknown key 'looser'; expected prompt, winner",
        ),
        ('{"prompt": "a"', "line 1: not JSON"),
        ('["a"]', "line 1: expected an object, got list"),
        (
            '{"prompt": "a", "winner": "x.png", "loser": "y.png", "split": null}',
            "line 1: split is None, expected a text",
        ),
        ('{"prompt": "a", "winner": "x.png"}', "winner is 'x.png' and loser is None, expected two paths"),
        ('{"prompt": "a", "winner": "x.png", "loser": "y.png", "label": true}', "label is True, expected 1, 0 or 0.5"),
        ('{"prompt": "a", "winner": "x.png", "loser": "y.png"}', "image 0 .*x.png cannot be opened: .*No such file"),
    ],
)
def test_folder_lines_that_are_wrong(tmp_path: Path, line: str, message: str) -> None:
    write_text(tmp_path / "pairs.jsonl", line)
    with pytest.raises(InputError, match=message):
        read("folder", tmp_path, heldout_splits=[], max_broken=0)


def test_folder_in_the_encodings_of_text(tmp_path: Path) -> None:
    names = ["caf\u00e9.png", "sub/2.png"]
    for value, name in enumerate(["cafe\u0301.png", "sub/2.png"], start=1):
        write_bytes(tmp_path / name, png(value))
    line = json.dumps({"prompt": "a\u2028b", "winner": names[0], "loser": "sub\\2.png"}, ensure_ascii=False)
    write_bytes(tmp_path / "pairs.jsonl", f"\ufeff{line}\r\n\r\n".encode())
    assert seen(read("folder", tmp_path, heldout_splits=[])) == [("a\u2028b", (1, 2), 1.0, "train")]


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ('{"prompt": "\\ud800 cat", WL}', r"line 2: the prompt is '\\ud800 cat', which is not Unicode text"),
        ('{"prompt": "a\\u0000b", WL}', r"line 2: the prompt is 'a\\x00b', which holds a NUL"),
        ('{"prompt": " \\u3000", WL}', "line 2: the prompt is empty"),
        ('{"prompt": null, WL}', "line 2: no prompt"),
        ('{"prompt": "a", "winner": "\\ud800.png", "loser": "x.png"}', r"'\\ud800\.png' is no file's name"),
        ('{"prompt": "a", "winner": "a\\u0000.png", "loser": "x.png"}', r"'a\\x00\.png' is no file's name"),
    ],
)
def test_text_that_nobody_can_train_on_is_a_broken_pair(
    own: Callable[[list[Row]], Path], capsys: pytest.CaptureFixture[str], row: str, message: str
) -> None:
    folder = own([{"prompt": "a", "winner": "img/1.png", "loser": "img/2.png"}])
    with (folder / "pairs.jsonl").open("a") as file:
        file.write(row.replace("WL", '"winner": "img/1.png", "loser": "img/2.png"'))
    path = folder / "pairs.jsonl"
    path.write_text(path.read_text().replace("\n\n", "\n"))
    assert len(read("folder", folder, heldout_splits=[])) == 1
    assert re.search(f"warning: .*{message}.*; skipped", capsys.readouterr().err)


def test_json_lines_that_name_a_key_twice(tmp_path: Path) -> None:
    write_text(tmp_path / "pairs.jsonl", '{"prompt": "a", "winner": "x", "loser": "y", "winner": "z"}')
    with pytest.raises(InputError, match=r"line 1: not JSON .*names the key 'winner' twice"):
        read("folder", tmp_path, heldout_splits=[])


def test_prompts_of_pairs_with_control_tokens_are_counted(
    own: Callable[[list[Row]], Path], capsys: pytest.CaptureFixture[str]
) -> None:
    images = {"winner": "img/1.png", "loser": "img/2.png"}
    assert (
        len(read("folder", own([{"prompt": "a", **images}, {"prompt": "[SEP] b", **images}]), heldout_splits=[])) == 2
    )
    assert "'folder': 1 of 2 prompts holds text that tokenizers read as control tokens" in capsys.readouterr().err


def test_webdataset_texts_are_utf8(shards: Path, capsys: pytest.CaptureFixture[str]) -> None:
    marked = sample("\ufeffa cat\r\n", 1, 2, WON)
    latin = {**sample("", 3, 4, WON), "original_prompt.txt": b"caf\xe9"}
    shard(shards / "00002.tar", [("0", marked), ("1", latin)])
    assert [pair.prompt for pair in read("webdataset", shards, heldout_share=0.0)] == ["a", "ünï", "a cat"]
    assert r"sample 1: the prompt is 'caf\udce9', which is not Unicode text; skipped" in capsys.readouterr().err


def test_parquet_whose_text_is_no_utf8_is_named(tmp_path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    bad = pa.StringArray.from_buffers(1, pa.py_buffer(b"\0\0\0\0\4\0\0\0"), pa.py_buffer(b"caf\xe9"))
    image = pa.array([png(1)], pa.binary())
    columns = {"caption": bad, "jpg_0": image, "jpg_1": image, "label_0": pa.array([1.0]), "label_1": pa.array([0.0])}
    pq.write_table(pa.table(columns), tmp_path / "train-0.parquet")
    with pytest.raises(InputError, match=r"train-0\.parquet: not a whole parquet file \('utf-8' codec"):
        read("pickapic", tmp_path, heldout_splits=[])


def test_a_data_set_may_lie_in_the_home_folder(
    own: Callable[[list[Row]], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = own([{"prompt": "a", "winner": "img/1.png", "loser": "img/2.png"}])
    monkeypatch.setenv("HOME", str(folder.parent))
    assert seen(read("folder", Path("~") / folder.name, heldout_splits=[])) == [("a", (1, 2), 1.0, "train")]


@pytest.mark.parametrize("source", ["pickapic", "webdataset", "hpdv2", "hpdv3", "imagerewarddb", "folder"])
def test_missing_folder_and_missing_files(tmp_path: Path, source: str) -> None:
    with pytest.raises(InputError, match=f"pair source '{source}': path .*nowhere: no such folder"):
        read(source, tmp_path / "nowhere")
    with pytest.raises(InputError, match=f"pair source '{source}': split 'train': no file .* in {tmp_path}"):
        read(source, tmp_path, heldout_splits=[])
    write_text(tmp_path / "file", "")
    with pytest.raises(InputError, match="file: a file; expected its folder"):
        read(source, tmp_path / "file")


def test_a_file_of_two_splits_is_refused(pickapic: Path) -> None:
    """Its pairs would be trained on twice, or all but their prompts' be left out as held out."""
    for splits in (
        {"train_splits": ["train", "validation", "validation_unique"], "heldout_splits": []},
        {"train_splits": ["validation"]},
    ):
        with pytest.raises(
            InputError, match=r"takes .*validation_unique-.*\.parquet for split 'validation(_unique)?' and"
        ):
            read("pickapic", pickapic, files="**/{split}*.parquet", **splits)
    found = read("pickapic", pickapic, train_splits=["validation"])
    assert [(pair.prompt, pair.split) for pair in found] == [("d", "heldout"), ("e", "train")]


def test_missing_heldout_split_names_the_way_out(pickapic: Path) -> None:
    with pytest.raises(InputError, match=r"split 'test_unique': no file .*set heldout_splits: \[\] and heldout_share"):
        read("pickapic", pickapic, heldout_splits=["test_unique"])


def test_images_become_rgb_of_their_own_size_without_metadata(tmp_path: Path) -> None:
    Image.new("P", (16, 16)).save(tmp_path / "p.png")
    text = PngInfo()
    text.add_text("parameters", "a prompt")
    Image.new("RGBA", (7, 31), (9, 8, 7, 0)).save(tmp_path / "a.png", pnginfo=text)
    write_text(tmp_path / "pairs.jsonl", json.dumps({"prompt": "a", "winner": "p.png", "loser": "a.png"}))
    first, second = read("folder", tmp_path, heldout_splits=[])[0].images
    assert (first.mode, first.size, second.mode, second.size) == ("RGB", (16, 16), "RGB", (7, 31))
    # What is transparent is white, whatever colour lies under it.
    assert (second.getpixel((0, 0)), second.info) == ((255, 255, 255), {})


def animated() -> bytes:
    buffer = io.BytesIO()
    frames = [Image.new("RGB", (16, 16), colour) for colour in ("red", "blue")]
    frames[0].save(buffer, "GIF", save_all=True, append_images=frames[1:])
    return buffer.getvalue()


def deep() -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(np.full((16, 16), 40_000, dtype=np.uint16)).save(buffer, "PNG")
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (deep(), r"mode I;16, more than 8 bits a channel"),
        (animated(), "holds 2 frames"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\nshowpage\n", "not an image of a known"),
        (png(1, (1, 60_000)), "1 x 60000 pixels, one edge is more than 256 times the other"),
    ],
    ids=["16 bits", "animation", "PostScript", "strip"],
)
def test_images_that_scoring_refuses_are_broken_here_too(
    own: Callable[[list[Row]], Path],
    content: bytes,
    why: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def started(*_: Any, **__: Any) -> None:
        raise AssertionError("a program was started")

    for name in ("Popen", "run", "check_call"):
        monkeypatch.setattr(subprocess, name, started)
    folder = own([{"prompt": p, "winner": f"img/{i}.png", "loser": "img/8.png"} for i, p in ((1, "a"), (2, "b"))])
    write_bytes(folder / "img/2.png", content)
    assert [pair.prompt for pair in read("folder", folder, heldout_splits=[])] == ["a"]
    assert re.search(rf"image 0 .*2\.png cannot be opened: {why}", capsys.readouterr().err)


def test_images_become_the_pixels_that_scoring_sees(own: Callable[[list[Row]], Path]) -> None:
    folder = own([{"prompt": "a", "winner": "img/1.png", "loser": "img/2.png"}])
    lying = Image.new("RGB", (20, 10))
    lying.paste("red", (0, 0, 5, 10))
    orientation = Image.Exif()
    orientation[274] = 6
    lying.save(folder / "img/1.png", exif=orientation)
    Image.new("CMYK", (16, 16), (0, 255, 255, 0)).save(folder / "img/2.png", "TIFF")
    (pair,) = read("folder", folder, heldout_splits=[])
    assert (pair.images[0].size, pair.images[0].getpixel((5, 2))) == ((10, 20), (255, 0, 0))
    assert pair.images[1].getpixel((0, 0)) == (255, 0, 0)
    assert pair.met == (("turned",), ("cmyk",))


def test_order_is_that_of_the_rows_however_long_an_image_takes(own: Callable[[list[Row]], Path]) -> None:
    folder = own([{"prompt": str(i), "winner": f"img/{i % 7}.png", "loser": "img/8.png"} for i in range(200)])
    Image.effect_noise((1500, 1500), 90).save(folder / "img/3.png")
    (folder / "img/0.png").unlink(missing_ok=True)
    found = [pair.prompt for pair in read("folder", folder, heldout_splits=[])]
    assert found == [str(i) for i in range(200) if i % 7]


def test_pairs_become_a_cache(own: Callable[[list[Row]], Path], base_path: Path, tmp_path: Path) -> None:
    from sdpo.pairs import cache

    rows = [
        {"prompt": "a red square", "winner": "img/1.png", "loser": "img/2.png"},
        {"prompt": "a red square", "winner": "img/3.png", "loser": "img/4.png", "label": 0},
        {"prompt": "a blue circle", "winner": "img/5.png", "loser": "img/6.png", "split": "heldout"},
    ]
    spec = {
        "stage_version": 1,
        "dataset": "own",
        "source": "folder",
        "options": {"path": str(own(rows))},
        "base": {"name": "mini", "family": "miniature", "path": str(base_path)},
        "out": str(tmp_path / "cache"),
    }
    cache.build(spec)
    counts = json.loads((tmp_path / "cache" / "cache.json").read_text())["counts"]
    assert counts == {"pairs": 3, "ties": 0, "train": 2, "heldout": 1, "prompts": 2, "images": 6}
