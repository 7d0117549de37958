from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pandas as pd
import pytest

from artifacts.contracts import write_table
from artifacts.errors import InputError
from evals.images.matching import Matching, list_images, match
from evals.prompts.prompt_file import FilePrompt, read_prompt_file

SOURCE = "prompts.csv"


def folder_of(folder: Path, names: Sequence[str]) -> Path:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()
    return folder


def prompts(count: int, files: Sequence[str] = (), ids: Sequence[str] = ()) -> list[FilePrompt]:
    return [
        FilePrompt(f"prompt {i}", f"row {i + 1}", files[i] if files else None, ids[i] if ids else None)
        for i in range(count)
    ]


def by_prompt(matching: Matching) -> list[str]:
    assert [image.prompt for image in matching.images] == [f"prompt {i}" for i in range(len(matching.images))]
    return [image.file for image in matching.images]


def test_numbers_are_sorted_as_numbers(tmp_path: Path) -> None:
    names = [f"{i}.png" for i in range(12)]
    matching = match(folder_of(tmp_path, [*reversed(names), "notes.txt", ".hidden.png"]), prompts(12), SOURCE)
    assert by_prompt(matching) == names
    assert matching.how == "by the running number in the names"


@pytest.mark.parametrize(
    "names",
    [
        ["img_1.jpg", "img_2.jpg", "img_10.jpg", *(f"img_{i}.jpg" for i in range(3, 10))],
        [f"{i:05d}_seed42.png" for i in range(10)],
        [f"{i}_{word}.png" for i, word in enumerate("zyxwvutsrq")],
    ],
)
def test_a_number_anywhere_in_the_name_may_run(tmp_path: Path, names: list[str]) -> None:
    found = by_prompt(match(folder_of(tmp_path, names), prompts(10), SOURCE))
    assert found == sorted(names, key=lambda name: int("".join(c for c in name.split("_seed")[0] if c.isdigit())))


@pytest.mark.parametrize(
    "names",
    [
        ["0.png", "1.png", "3.png"],  # one is missing, and everything after it would shift
        ["7.png", "8.png", "9.png"],  # a shard of something larger
        ["cat.png", "dog.png", "owl.png"],
        ["dog_0.png", "cat_1.png", "owl_2.png"],  # alphabet and number disagree
    ],
)
def test_names_that_do_not_say_the_order_are_refused_unless_told(tmp_path: Path, names: list[str]) -> None:
    folder = folder_of(tmp_path, names)
    with pytest.raises(InputError, match=r"do not say which prompt is whose; give a \.csv .* or say --in-order"):
        match(folder, prompts(3), SOURCE)
    assert by_prompt(match(folder, prompts(3), SOURCE, in_order=True)) == sorted(names)


def test_counts_must_match_also_in_order(tmp_path: Path) -> None:
    folder = folder_of(tmp_path, ["0.png", "1.png"])
    with pytest.raises(InputError, match=r"2 images \(0\.png … 1\.png\), but prompts\.csv has 3 prompts"):
        match(folder, prompts(3), SOURCE, in_order=True)


def test_names_in_the_file_come_first(tmp_path: Path) -> None:
    folder = folder_of(tmp_path, ["0.png", "1.png", "sub/2.png"])
    matching = match(folder, prompts(2, ["./1.png", "sub/2.png"]), SOURCE)
    assert by_prompt(matching) == ["1.png", "sub/2.png"]
    assert matching.unused == ("0.png",)


@pytest.mark.parametrize(
    ("files", "message"),
    [
        (["0.png", "5.png"], r"5\.png: no such image, but prompts\.csv has its prompt \(row 2; 1 missing in all\)"),
        (["0.png", "./0.png"], r"prompts\.csv: image '0\.png' stands at row 1 and at row 2; expected once"),
        (["0.png", "../1.png"], r"prompts\.csv: row 2: '\.\./1\.png' leads out of"),
        (["0.png", "/etc/1.png"], r"row 2: '/etc/1\.png' leads out of"),
    ],
)
def test_wrong_names_in_the_file(tmp_path: Path, files: list[str], message: str) -> None:
    with pytest.raises(InputError, match=message):
        match(folder_of(tmp_path, ["0.png", "1.png"]), prompts(2, files), SOURCE)


def test_images_named_by_prompt_id(tmp_path: Path) -> None:
    folder = folder_of(tmp_path, ["s-00000.png", "s-00001.png"])
    assert by_prompt(match(folder, prompts(2, ids=["s-00001", "s-00000"]), SOURCE)) == ["s-00001.png", "s-00000.png"]
    with pytest.raises(InputError, match=r"s-00007\.png: no such image"):
        match(folder, prompts(2, ids=["s-00001", "s-00007"]), SOURCE)
    with pytest.raises(InputError, match="prompt_id 's-00001' stands at row 1 and at row 2"):
        match(folder, prompts(2, ids=["s-00001", "s-00001"]), SOURCE)


def test_manifest_of_our_own_folders_beats_the_number(tmp_path: Path) -> None:
    folder = folder_of(tmp_path, ["00000.png", "00001.png"])
    manifest = pd.DataFrame(
        {"prompt_id": ["s-0", "s-1"], "file": ["00001.png", "00000.png"], "seed": [0, 1], "sha256": ["", ""]}
    )
    write_table(folder / "manifest.parquet", manifest, "manifest")
    assert by_prompt(match(folder, prompts(2, ids=["s-0", "s-1"]), SOURCE)) == ["00001.png", "00000.png"]
    with pytest.raises(InputError, match="lists no image for prompt_id 's-2'"):
        match(folder, prompts(2, ids=["s-0", "s-2"]), SOURCE)


def test_names_that_differ_by_suffix_only(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"0\.jpg, 0\.png have one name; keep one"):
        match(folder_of(tmp_path, ["0.png", "0.jpg"]), prompts(2), SOURCE)


def test_no_images(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"holds no images \(\.png"):
        list_images(tmp_path)
    with pytest.raises(InputError, match="no such folder"):
        list_images(tmp_path / "x")


def test_only_the_digits_0_to_9_are_numbers(tmp_path: Path) -> None:
    """A superscript two is a digit to Python and no number to its int()."""
    folder_of(tmp_path, ["²1.png", "10.png", "9.png"])
    assert list_images(tmp_path) == ["9.png", "10.png", "²1.png"]


def test_a_name_that_no_table_could_hold(tmp_path: Path) -> None:
    folder_of(tmp_path, ["0.png", b"1\xff.png".decode("utf-8", "surrogateescape")])
    with pytest.raises(InputError, match=r"the name '1\\udcff\.png' of an image is not UTF-8; rename the file"):
        list_images(tmp_path)


def test_missing_images_are_matched_where_somebody_else_lists_them(tmp_path: Path) -> None:
    folder_of(tmp_path, ["a.png"])
    asked = prompts(2, files=["a.png", "b.png"])
    with pytest.raises(InputError, match=r"b\.png: no such image"):
        match(tmp_path, asked, SOURCE)
    assert by_prompt(match(tmp_path, asked, SOURCE, missing=True)) == ["a.png", "b.png"]


def texts(matching: Matching) -> dict[str, str]:
    return {image.file: image.prompt for image in matching.images}


@pytest.mark.parametrize("ids", [["2", "0", "1"], ["s-2", "s-0", "s-1"], ["00002", "00000", "00001"]])
@pytest.mark.parametrize("in_order", [False, True])
def test_a_number_in_the_ids_beats_the_order_of_rows(tmp_path: Path, ids: list[str], in_order: bool) -> None:
    folder = folder_of(tmp_path, [f"img_{i:05d}.png" for i in range(3)])
    found = texts(match(folder, prompts(3, ids=ids), SOURCE, in_order=in_order))
    assert found == {"img_00000.png": "prompt 1", "img_00001.png": "prompt 2", "img_00002.png": "prompt 0"}


def test_ids_without_numbers_leave_the_order_to_the_rows(tmp_path: Path) -> None:
    folder = folder_of(tmp_path, ["0.png", "1.png", "2.png"])
    for ids in (["c", "a", "b"], ["9f1c", "07aa1", "5e02"], ["a7", "b1", "c3"], ["9" * 5000, "8" * 5000, "7" * 5000]):
        assert by_prompt(match(folder, prompts(3, ids=ids), SOURCE)) == ["0.png", "1.png", "2.png"]


@pytest.mark.parametrize("ids", [["2.0", "0.0", "1.0"], ["2.png", "0.png", "1.png"], ["p3 of 3", "p1 of 3", "p2 of 3"]])
@pytest.mark.parametrize(
    "names", [["0.png", "1.png", "2.png"], ["0_0.png", "0_1.png", "1_0.png", "1_1.png", "2_0.png", "2_1.png"]]
)
def test_numbers_of_ids_that_run_otherwise_are_refused(tmp_path: Path, ids: list[str], names: list[str]) -> None:
    """As spreadsheets write a number, or as a name: the order of the rows would be taken without a word."""
    folder = folder_of(tmp_path, names)
    with pytest.raises(InputError, match=r"numbers in the prompts' ids \(.*\) run in another order than the rows"):
        match(folder, prompts(3, ids=ids), SOURCE)
    found = match(folder, prompts(3, ids=sorted(ids)), SOURCE).images
    assert [image.prompt for image in found[:: len(names) // 3]] == ["prompt 0", "prompt 1", "prompt 2"]
    named = folder_of(tmp_path / "named", [f"{prompt_id}.png" for prompt_id in ids])
    assert by_prompt(match(named, prompts(3, ids=ids), SOURCE)) == [f"{prompt_id}.png" for prompt_id in ids]


@pytest.mark.parametrize("header", [",prompt", "Unnamed: 0,prompt"])
def test_an_index_of_pandas_that_is_out_of_order_is_refused(tmp_path: Path, header: str) -> None:
    """Whoever sorted or sampled the rows may have numbered the images before or after."""
    folder, file = folder_of(tmp_path, ["0.png", "1.png", "2.png"]), tmp_path / "p.csv"
    for numbers, wrong in (((2, 0, 1), True), ((7, 3, 9), True), ((3, 7, 9), False), ((1, 0, 0), False)):
        file.write_text("".join(f"{line}\n" for line in (header, *(f"{n},p{n}" for n in numbers))))
        if wrong:
            with pytest.raises(
                InputError, match=r"numbers of its first column, an index without a name \(.*\), are not in order"
            ):
                match(folder, read_prompt_file(file), file)
        else:
            found = match(folder, read_prompt_file(file), file).images
            assert [(image.file, image.prompt) for image in found] == [
                (f"{i}.png", f"p{n}") for i, n in enumerate(numbers)
            ]
    file.write_text("prompt_id,prompt\n2,c\n0,a\n1,b\n")
    assert texts(match(folder, read_prompt_file(file), file)) == {"0.png": "a", "1.png": "b", "2.png": "c"}


@pytest.mark.parametrize(
    ("names", "ids", "told"),
    [
        (["x0.png", "x1.png", "x2.png"], ["1", "2", "3"], True),  # off by one, or not
        (["0.png", "1.png", "2.png"], ["4", "17", "99"], True),
        (["0.png", "1.png", "2.png"], ["17", "4", "99"], False),
        (["x0.png", "x1.png", "x2.png"], ["1", "01", "2"], True),
        (["cat.png", "dog.png", "owl.png"], ["2", "0", "1"], False),
    ],
)
def test_ids_that_say_otherwise_are_refused(tmp_path: Path, names: list[str], ids: list[str], told: bool) -> None:
    """Saying that sorted order is the prompts' helps only where the rows are sorted."""
    folder = folder_of(tmp_path, names)
    with pytest.raises(InputError, match=r"the prompts' ids .* are not the numbers of the images|say --in-order"):
        match(folder, prompts(3, ids=ids), SOURCE)
    if told:
        assert by_prompt(match(folder, prompts(3, ids=ids), SOURCE, in_order=True)) == names
    else:
        with pytest.raises(InputError, match="sort the rows by their ids and say --in-order"):
            match(folder, prompts(3, ids=ids), SOURCE, in_order=True)


def test_one_image_and_one_prompt_need_no_number(tmp_path: Path) -> None:
    assert by_prompt(match(folder_of(tmp_path, ["cat.png"]), prompts(1, ids=["17"]), SOURCE)) == ["cat.png"]


@pytest.mark.parametrize(
    "names",
    [
        ["0_2.png", "1_1.png", "2_0.png"],
        ["seed1_0003.png", "seed2_0001.png", "seed3_0002.png"],
        ["0_of_2 cats_1.png", "1_b_0.png"],  # counted from the back
    ],
)
def test_two_numbers_that_run_in_different_orders(tmp_path: Path, names: list[str]) -> None:
    with pytest.raises(InputError, match=r"two numbers in the names run, in different orders, so '.*' may be number"):
        match(folder_of(tmp_path, names), prompts(len(names)), SOURCE, in_order=True)


@pytest.mark.parametrize(
    "names", [["0_seed1.png", "1_seed2.png", "2_seed3.png"], ["0_2.png", "1_2.png"], ["0_a7.png", "1_3 b8.png"]]
)
def test_two_numbers_that_agree(tmp_path: Path, names: list[str]) -> None:
    assert by_prompt(match(folder_of(tmp_path, names), prompts(len(names)), SOURCE)) == names


def test_one_folder_a_prompt(tmp_path: Path) -> None:
    names = ["00000/samples/0000.png", "00000/samples/0001.png", "00001/samples/0000.png"]
    folder = folder_of(tmp_path, [*names, "00001/samples/0001.png", ".cache/0.png"])
    matching = match(folder, prompts(3, names), SOURCE)
    assert by_prompt(matching) == names
    assert matching.unused == ("00001/samples/0001.png",)
    with pytest.raises(
        InputError, match=r"holds no images .*; 4 lie in folders below, so name them in the prompt file"
    ):
        match(folder, prompts(3), SOURCE)


def test_names_from_windows(tmp_path: Path) -> None:
    folder = folder_of(tmp_path, ["sub/0.png", "sub\\1.png"])
    assert by_prompt(match(folder, prompts(2, [".\\sub\\0.png", "sub\\1.png"]), SOURCE)) == ["sub/0.png", "sub\\1.png"]
    for name in ("..\\0.png", "sub\\..\\..\\0.png", "C:\\sub\\0.png", "\\\\host\\share\\0.png", "\\sub\\0.png"):
        with pytest.raises(InputError, match=r"row 1: '.*' leads out of"):
            match(folder, prompts(1, [name]), SOURCE)
    with pytest.raises(InputError, match=r"image 'sub/0.png' stands at row 1 and at row 2"):
        match(folder, prompts(2, ["sub\\0.png", "sub/0.png"]), SOURCE)


COMPOSED, DECOMPOSED = "caf\u00e9", "cafe\u0301"


def test_names_in_another_unicode_form(tmp_path: Path) -> None:
    """As a disk of macOS has them; files keep the names they have."""
    folder = folder_of(tmp_path, [f"{DECOMPOSED}/{DECOMPOSED}.png", f"{DECOMPOSED}.png", "owl.png"])
    found = match(folder, prompts(2, [f"{COMPOSED}/{COMPOSED}.png", f"{COMPOSED}.png"]), SOURCE)
    assert by_prompt(found) == [f"{DECOMPOSED}/{DECOMPOSED}.png", f"{DECOMPOSED}.png"]
    assert found.unused == ("owl.png",)
    assert by_prompt(match(folder, prompts(2, ids=[COMPOSED, "owl"]), SOURCE)) == [f"{DECOMPOSED}.png", "owl.png"]
    with pytest.raises(InputError, match=r"prompt_id 'caf.*' stands at row 1 and at row 2"):
        match(folder, prompts(2, ids=[COMPOSED, DECOMPOSED]), SOURCE)
    with pytest.raises(InputError, match=r"image 'caf.*' stands at row 1 and at row 2"):
        match(folder, prompts(2, [f"{COMPOSED}.png", f"{DECOMPOSED}.png"]), SOURCE)


def test_names_that_differ_by_unicode_form_only(tmp_path: Path) -> None:
    folder = folder_of(tmp_path, [f"{COMPOSED}.png", f"{DECOMPOSED}.png"])
    message = r"'cafe\\u0301\.png' and 'caf\\xe9\.png' differ only in how letters|'caf\\xe9\.png' and 'cafe"
    for given in (prompts(2), prompts(2, [f"{COMPOSED}.png", f"{DECOMPOSED}.png"]), prompts(2, ids=[COMPOSED, "b"])):
        with pytest.raises(InputError, match=message):
            match(folder, given, SOURCE, in_order=True)


@pytest.mark.parametrize(
    "names",
    [
        [f"{row:05d}{image}.png" for row in range(3) for image in ("", "_1", "_2")],
        [f"{row}_{image}.jpg" for row in range(3) for image in range(3)],
        [f"{row:05d}/samples/{image:05d}.png" for row in range(3) for image in range(3)],
    ],
)
def test_several_images_of_each_prompt(tmp_path: Path, names: list[str]) -> None:
    matching = match(folder_of(tmp_path, [*reversed(names), "notes.txt"]), prompts(3), SOURCE)
    assert [(image.file, image.prompt) for image in matching.images] == [
        (name, f"prompt {place // 3}") for place, name in enumerate(names)
    ]
    assert matching.how == "by number, 3 of each prompt"
    # Ids that are numbers say whose it is, as they do with one image each.
    turned = match(tmp_path, prompts(3, ids=["2", "0", "1"]), SOURCE).images
    assert [image.file for image in turned[:3]] == names[6:]


@pytest.mark.parametrize(
    "names",
    [
        ["0_0.png", "0_1.png", "1_0.png"],
        ["0_0.png", "0_1.png", "1_1.png", "1_2.png"],
        ["0_0.png", "0_1.png", "2_0.png", "2_1.png"],
        ["0.png", "0_0.png", "1.png", "1_0.png"],
    ],
)
def test_numbers_of_images_with_gaps_are_no_order(tmp_path: Path, names: list[str]) -> None:
    with pytest.raises(InputError, match=rf"{len(names)} images .*, but prompts\.csv has 2 prompts"):
        match(folder_of(tmp_path, names), prompts(2), SOURCE)


def test_a_manifest_lists_all_images_of_a_prompt(tmp_path: Path) -> None:
    folder = folder_of(tmp_path, ["a.png", "b.png", "c.png", "d.png"])
    frame = pd.DataFrame({"prompt_id": ["s-0", "s-1", "s-0", "s-1"], "image": [1, 0, 0, 1]})
    frame = frame.assign(file=["a.png", "b.png", "c.png", "d.png"], seed=0, sha256="")
    write_table(folder / "manifest.parquet", frame, "manifest")
    found = match(folder, prompts(2, ids=["s-0", "s-1"]), SOURCE).images
    assert [(image.file, image.prompt) for image in found] == [
        ("c.png", "prompt 0"),
        ("a.png", "prompt 0"),
        ("b.png", "prompt 1"),
        ("d.png", "prompt 1"),
    ]
