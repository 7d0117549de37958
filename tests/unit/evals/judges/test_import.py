from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from artifacts import layout
from artifacts.atomic import file_sha256
from artifacts.contracts import read_table, write_table
from artifacts.errors import InputError
from evals import cli
from evals.images.folder import read_manifest
from evals.judges.answers import JudgedImage, scores_of
from evals.judges.result_files import Answer, Results, read
from evals.scorers import create
from evals.tables import write_tables
from evals.tables.comparison import Comparison
from evals.tables.rows import CategoryRow, ScoreRow, read_rows

EXAMPLES = Path(__file__).parents[4] / "docs" / "examples"
PROMPTS = ["a red disc", "two dogs", "a blue cup"]
TAGS = ["one", "one", "two"]


@pytest.fixture
def benchmark(tiny_benchmark: Comparison) -> Comparison:
    """Two images of each prompt of ``seen``, which has two tags; their scores stay those of one."""
    root = tiny_benchmark.root
    path = layout.prompts(root, "seen")
    prompts = read_table(path, "prompts").assign(prompt=PROMPTS, category=TAGS, item=["x1", "x2", "x10"])
    write_table(path, prompts, "prompts")
    for model in tiny_benchmark.models:
        folder = layout.images(root, model.name, "seen")
        manifest = read_manifest(folder)
        more = manifest.assign(image=1, file=[f"{row:05d}_1.png" for row in range(3)])
        for row, file in enumerate(more["file"]):
            Image.new("RGB", (8, 8), (row, 9, 9)).save(folder / file)
        more["sha256"] = [file_sha256(folder / file) for file in more["file"]]
        write_table(folder / "manifest.parquet", pd.concat([manifest, more]), "manifest")
        for scorer in tiny_benchmark.scorers:
            path = layout.scores(root, scorer, model.name, "seen")
            table = read_table(path, "scores")
            again = table.assign(image=1, image_sha256=more["sha256"].tolist())
            write_table(path, pd.concat([table, again]), "scores")
    comparison = replace(tiny_benchmark, images_per_prompt={"seen": 2})
    write_tables(comparison)
    return comparison


def geneval(path: Path, correct: list[list[bool]], **changed: Any) -> Path:
    """Answers as GenEval writes them, in the order in which a disk may list folders; ``correct`` is by prompt."""
    rows = [
        {
            "filename": f"/data/base/{row:05d}/samples/{image:05d}.png",
            "tag": TAGS[row],
            "prompt": PROMPTS[row],
            "correct": answer,
            "reason": "",
            **changed,
        }
        for row, answers in enumerate(correct)
        for image, answer in enumerate(answers)
    ]
    path.write_text("".join(f"{json.dumps(row)}\n" for row in reversed(rows)))
    return path


def import_args(file: Path, root: Path, model: str, form: str = "geneval", judge: str = "geneval") -> list[str]:
    target = ["--benchmark", str(root), "--model", model, "--prompt-set", "seen"]
    return ["import", str(file), "--format", form, "--judge", judge, "--protocol", "af4902f", *target]


def test_accuracy_by_tag_of_imported_answers(
    benchmark: Comparison, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root, board = benchmark.root, tmp_path / "board"
    some = [[True, True], [True, False], [False, False]]
    for model in benchmark.models:
        right = some if model.safeguard else [[False, True], [False, False], [True, True]]
        file = geneval(tmp_path / "results.jsonl", right)
        assert cli.main(import_args(file, root, model.name)) == 0
    written = layout.scores(root, "geneval", benchmark.models[-1].name, "seen")
    table = read_table(written, "scores")
    assert table["score"].tolist() == [1, 1, 0, 1, 0, 0]
    record = json.loads(written.with_suffix(".import.json").read_text())
    assert (record["sha256"], record["protocol"]) == (file_sha256(file), "af4902f")
    assert set(table["fingerprint"]) == {record["fingerprint"]}
    assert cli.main(["compare", str(root), "--out", str(board)]) == 0
    scores = {(r.variant, r.prompt_set): r for r in read_rows(board / "scores.csv", ScoreRow) if r.scorer == "geneval"}
    # The judge rates one set, and a prompt is one unit.
    assert {key[1] for key in scores} == {"seen"}
    assert scores["dmpo+sdpo", "seen"].mean == 0.5
    found = {
        (r.category): (r.mean_a, r.mean_b, r.n_prompts)
        for r in read_rows(board / "categories.csv", CategoryRow)
        if (r.a, r.scorer, r.kind) == ("dmpo+sdpo", "geneval", "baseline")
    }
    assert found == {"one": (0.75, 0.25, 2), "two": (0.0, 1.0, 1)}
    assert "geneval" in (board / "main.md").read_text() and "geneval (af4902f)" in (board / "main.md").read_text()
    # Of some models alone nothing is compared.
    written.unlink()
    assert cli.main(["compare", str(root), "--out", str(board)]) == 2
    assert "'geneval' has scores of other models on seen, not of this one (1 of 5 are missing)" in (
        capsys.readouterr().err
    )


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda rows: rows[1:], "has no answer for 00002_1.png .'a blue cup'. of .*; 1 of 6 images are without one"),
        (lambda rows: [*rows, rows[0]], "line 7: 00002_1.png has an answer at line 1 too; expected one an image"),
        (
            lambda rows: [rows[0] | {"prompt": "a blue mug"}, *rows[1:]],
            "line 1: .*samples/00001.png' was judged with .* 'a blue mug', but 00002_1.png of .* has 'a blue cup'",
        ),
        (
            lambda rows: [rows[0] | {"filename": "/x/00003/samples/00000.png"}, *rows[1:]],
            "line 1: '/x/00003/samples/00000.png' is none of the 6 images of ",
        ),
        (lambda rows: [rows[0] | {"correct": "yes"}], "line 1: filename is .*, correct 'yes' and prompt 'a blue cup'"),
        (lambda rows: [], "holds no results; expected those of format geneval"),
    ],
)
def test_answers_that_do_not_fit_are_refused_and_nothing_is_written(
    benchmark: Comparison,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    change: Callable[[list[dict[str, Any]]], list[dict[str, Any]]],
    message: str,
) -> None:
    file = geneval(tmp_path / "results.jsonl", [[True, False]] * 3)
    rows = change([json.loads(line) for line in file.read_text().splitlines()])
    file.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    assert cli.main(import_args(file, benchmark.root, "mini/base")) == 2
    error = capsys.readouterr().err
    assert re.search(message, error) and error.count("\n") == 1
    assert not (benchmark.root / "scores" / "geneval").exists()


def test_an_image_that_was_changed_is_not_the_one_that_was_judged(
    benchmark: Comparison, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = geneval(tmp_path / "results.jsonl", [[True, False]] * 3)
    Image.new("RGB", (3, 3)).save(layout.images(benchmark.root, "mini/base", "seen") / "00001_1.png")
    assert cli.main(import_args(file, benchmark.root, "mini/base")) == 2
    assert "00001_1.png: is not the image that the manifest lists" in capsys.readouterr().err
    assert cli.main([*import_args(file, benchmark.root, "mini/base", judge="clip")]) == 2
    assert "--judge clip: is a scorer of this project" in capsys.readouterr().err
    assert cli.main([*import_args(file, benchmark.root, "mini/base", judge="../x")]) == 2
    assert "--judge ../x: " in capsys.readouterr().err


def test_another_protocol_is_another_judge(
    benchmark: Comparison, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = geneval(tmp_path / "results.jsonl", [[True, False]] * 3)
    first = import_args(file, benchmark.root, "mini/base")
    assert cli.main(first) == 0
    second = [text.replace("af4902f", "newer") for text in import_args(file, benchmark.root, "mini/dmpo/seed0")]
    assert cli.main(second) == 2
    assert "'geneval' has scores of protocol 'af4902f', not 'newer'; give the same, or another --judge" in (
        capsys.readouterr().err
    )


def test_dpg_names_prompts_as_their_publisher_does(benchmark: Comparison, tmp_path: Path) -> None:
    file = tmp_path / "dpg.txt"
    file.write_text(
        "out/x10.png, 0.5, 1.0, 0.75\nout/x1.png, 0.25, 0.75, 0.5\nout, of/x2.png, 0.0, 0.0, 0.0\n"
        "Model: out\nL1 category scores:\n\tentity: 90.0\nDPG-Bench score: 41.6\n"
    )
    assert cli.main(import_args(file, benchmark.root, "mini/base", "dpg", "dpg")) == 0
    table = read_table(layout.scores(benchmark.root, "dpg", "mini/base", "seen"), "scores")
    assert table["score"].tolist() == [0.25, 0.0, 0.5, 0.75, 0.0, 1.0]
    for content, message in (
        ("x1.png, 0.5, 1.0, 0.7\n", "line 1: the mean is 0.7, but that of its 2 scores is another"),
        ("x1.png, 0.5, 1.5, 1.0\n", "line 1: 'x1.png, 0.5, 1.5, 1.0' is not an image, its scores from 0 to 1"),
        ("x1.png\n", "line 1: 'x1.png' is not an image, its scores"),
    ):
        file.write_text(content)
        with pytest.raises(InputError, match=message):
            read(file, "dpg")


def test_tables_name_the_image_or_the_prompt(tmp_path: Path) -> None:
    images = [JudgedImage(f"{row:05d}{k}.png", f"p{row}", row, i) for i, k in enumerate(("", "_1")) for row in (0, 1)]
    file = tmp_path / "votes.csv"

    def scores(text: str, **options: str) -> list[float]:
        file.write_text(text)
        return scores_of(images, read(file, "table", **options), "mine")

    assert scores(
        "file,votes\n00001_1.png,4\n00000.png,1\n00001.png,2\n/a/b/00000_1.png,3\n", score_column="votes"
    ) == [
        *(1, 2),
        *(3, 4),
    ]
    assert scores("prompt,image_number,score\np1,1,4\np1,0,2\np0,0,1\np0,1,3\n") == [1, 2, 3, 4]
    # Without a number, in the order of the images.
    assert scores("prompt,correct\np1,true\np0,false\np0,true\np1,false\n") == [0, 1, 1, 0]
    for text, message in (
        ("prompt,scor\np,1\n", "no column 'score' .found prompt, scor.; did you mean 'scor'"),
        ("prompt,score\np0,nan\n", "row 1: score is 'nan', expected a finite number"),
        ("prompt,image_number,score\np0,2,1\n", "row 1: 'p0' is none of the 4 images of mine"),
        ("prompt,score\np0,1\np0,1\np0,1\n", "row 3: 00000_1.png has an answer at row 2 too"),
        ("score\n1\n", "no column of the image .* and none of the prompt"),
    ):
        with pytest.raises(InputError, match=message):
            scores(text)


def test_the_name_alone_says_nothing_below_folders(tmp_path: Path) -> None:
    """GenEval numbers the images of every prompt from 00000.png, which is our first prompt's, too."""
    images = [JudgedImage(f"{row:05d}.png", f"p{row}", row, 0) for row in range(3)]
    answers = [Answer(f"line {n}", n, file=f"x/{n:05d}/samples/00000.png", prompt=f"p{n}") for n in (2, 0, 1)]
    assert scores_of(images, Results(tmp_path / "r.jsonl", "correct", answers), "mine") == [0, 1, 2]


def test_results_of_another_models_images_are_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """All models have images of the same names; where the judge's own are still there, they are looked at."""
    args = numbered_folder(tmp_path, [0, 1], ["p", "q"], "")
    (tmp_path / "theirs").mkdir()
    monkeypatch.chdir(tmp_path)
    for folder, shade, size, status in (
        ("theirs", 9, 4, 2),
        ("theirs", 0, 4, 0),  # the same pictures, copied
        ("theirs", 9, 8, 0),  # of another size: nobody knows of what
        ("gone", 9, 4, 0),
    ):
        for number in (0, 1):
            Image.new("RGB", (size, size), (number + shade, 0, 0)).save(tmp_path / "theirs" / f"{number}.png")
        (tmp_path / "votes.csv").write_text(f"file,score\n{folder}/1.png,1\n{folder}/0.png,0\n")
        assert cli.main(args) == status
    said = capsys.readouterr().err
    assert "row 1: 'theirs/1.png' is there and shows something else than 1.png of " in said


def test_a_prompts_number_is_no_proof_of_the_prompt(tmp_path: Path) -> None:
    """A judge that sorted the prompts numbers others than we do, and nothing else in such a table says so."""
    images = [JudgedImage(f"{row:05d}.png", f"p{row}", row, 0) for row in range(3)]
    answers = [Answer(f"row {n}", n, file=f"{n:05d}/samples/00000.png") for n in (2, 0, 1)]
    with pytest.raises(
        InputError, match=r"row 2: '00002/samples/00000\.png' is none of the 3 images of mine; a prompt's"
    ):
        scores_of(images, Results(tmp_path / "r.csv", "correct", answers), "mine")
    # Where images are called so themselves, it is a name.
    own = [JudgedImage(f"{row:05d}/samples/00000.png", f"p{row}", row, 0) for row in range(3)]
    assert scores_of(own, Results(tmp_path / "r.csv", "correct", answers), "mine") == [0, 1, 2]


def numbered_folder(folder: Path, numbers: Sequence[int], prompts: Sequence[str], answers: str) -> list[str]:
    """Images of such names, listed with their prompts and rated in this order; the import of them."""
    (folder / "mine").mkdir(parents=True)
    for number in numbers:
        Image.new("RGB", (4, 4), (number, 0, 0)).save(folder / "mine" / f"{number}.png")
    listed = "".join(f"{number}.png,{text}\n" for number, text in zip(numbers, prompts, strict=True))
    (folder / "prompts.csv").write_text(f"file,prompt\n{listed}")
    (folder / "votes.csv").write_text(answers)
    target = ["--images", str(folder / "mine"), "--prompts", str(folder / "prompts.csv")]
    judge = ["import", str(folder / "votes.csv"), "--judge", "people", "--protocol", "p"]
    return [*judge, *target, "--out", str(folder / "mine.parquet")]


@pytest.mark.parametrize("numbers", [sorted(range(12), key=str), [1, 2, 3, 4]])
@pytest.mark.parametrize("alike", [1, 2])
def test_an_image_has_the_score_of_its_own_name(tmp_path: Path, numbers: list[int], alike: int) -> None:
    """Whatever the order of the prompts, the first number, and how many neighbours have one prompt."""
    votes = "".join(f"{number}.png,{number}\n" for number in reversed(numbers))
    prompts = [f"p{row // alike}" for row in range(len(numbers))]
    assert cli.main(numbered_folder(tmp_path, numbers, prompts, f"file,score\n{votes}")) == 0
    table = read_table(tmp_path / "mine.parquet", "folder_scores")
    assert table["score"].tolist() == numbers
    assert table["file"].tolist() == [f"{number}.png" for number in numbers]


@pytest.mark.parametrize("numbers", [sorted(range(12), key=str), [1, 2, 3, 4]])
def test_dpg_names_a_folders_images_by_their_number(tmp_path: Path, numbers: list[int]) -> None:
    """DPG-Bench rates one image a prompt where it lies."""
    prompts = [f"p{row}" for row in range(len(numbers))]
    lines = "".join(f"mine/{number}.png, {number / 16}, {number / 16}\n" for number in reversed(numbers))
    assert cli.main([*numbered_folder(tmp_path, numbers, prompts, lines), "--format", "dpg"]) == 0
    table = read_table(tmp_path / "mine.parquet", "folder_scores")
    assert (16 * table["score"]).tolist() == numbers


def test_a_number_alone_is_no_place(tmp_path: Path) -> None:
    """An answer about 2.jpg is not one about the third image, which is 10.png here."""
    images = [JudgedImage(f"{number}.png", f"p{row}", row, 0) for row, number in enumerate((0, 1, 10, 2))]
    answers = [Answer(f"row {n}", float(n), file=f"{n}.jpg") for n in (0, 1, 2, 10)]
    with pytest.raises(InputError, match=r"row 0: '0\.jpg' is none of the 4 images of mine"):
        scores_of(images, Results(tmp_path / "votes.csv", "score", answers), "mine")


def test_scores_of_two_columns_are_on_two_scales(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    contents = {"a": "file,correct\n0.png,1\n1.png,0\n", "b": "file,score,correct\n0.png,7,1\n1.png,9,0\n"}
    one, two = (numbered_folder(tmp_path / name, [0, 1], PROMPTS[:2], text) for name, text in contents.items())
    assert cli.main(one) == 0
    assert cli.main(two) == 2
    assert "votes.csv: has the columns score, correct, expected one of scores; name it with --score-column" in (
        capsys.readouterr().err
    )
    assert not Path(two[-1]).exists()
    assert cli.main([*two, "--score-column", "score"]) == 0
    records = [json.loads(Path(args[-1]).with_suffix(".scorers.json").read_text())["people"] for args in (one, two)]
    assert [record["column"] for record in records] == ["correct", "score"]
    capsys.readouterr()
    assert cli.main(["compare", one[-1], two[-1]]) == 2
    assert "scorer 'people' has fingerprint" in capsys.readouterr().err
    assert cli.main([*two, "--score-column", "correct"]) == 0
    assert cli.main(["compare", one[-1], two[-1]]) == 0


def test_models_of_a_benchmark_are_judged_by_one_column(
    benchmark: Comparison, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for column, model, status in (("correct", "mini/base", 0), ("score", "mini/dmpo/seed0", 2)):
        rows = "".join(f"{row:05d}{image}.png,1\n" for row in range(3) for image in ("", "_1"))
        (tmp_path / "votes.csv").write_text(f"file,{column}\n{rows}")
        args = import_args(tmp_path / "votes.csv", benchmark.root, model, "table", "people")
        assert cli.main(args) == status
    assert "'people' has scores of column 'correct', not 'score'; give the same, or another --judge" in (
        capsys.readouterr().err
    )


def test_a_folder_in_genevals_layout(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for row in range(3):
        for image in range(2):
            path = tmp_path / "mine" / f"{row:05d}" / "samples" / f"{image:05d}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.new("RGB", (4, 4), (row, image, 0)).save(path)
    (tmp_path / "prompts.txt").write_text("\n".join(PROMPTS))
    file = geneval(tmp_path / "results.jsonl", [[True, True], [False, True], [False, False]])
    out = tmp_path / "mine.parquet"
    target = ["--images", str(tmp_path / "mine"), "--prompts", str(tmp_path / "prompts.txt"), "--out", str(out)]
    judge = ["import", str(file), "--format", "geneval", "--judge", "geneval", "--protocol", "p"]
    assert cli.main([*judge, *target]) == 0
    table = read_table(out, "folder_scores")
    assert table["score"].tolist() == [1, 1, 0, 1, 0, 0]
    assert table["file"].tolist()[2:4] == ["00001/samples/00000.png", "00001/samples/00001.png"]
    assert json.loads(out.with_suffix(".scorers.json").read_text())["geneval"]["sha256"] == file_sha256(file)
    assert "geneval" in capsys.readouterr().out
    assert cli.main([*judge, *target[:4]]) == 2
    assert "expected --benchmark --model --prompt-set, or --images --prompts --out" in capsys.readouterr().err


def test_layouts_of_the_examples_lead_back(benchmark: Comparison, tmp_path: Path) -> None:
    """What the examples lay out is what the importer takes: GenEval's folders, DPG-Bench's sheets."""
    root = benchmark.root
    images = layout.images(root, "mini/base", "seen")
    (tmp_path / "metadata.jsonl").write_text("".join(f'{{"prompt": "{text}"}}\n' for text in PROMPTS))
    run = [sys.executable, str(EXAMPLES / "lay_out_for_geneval.py"), str(images), str(tmp_path / "metadata.jsonl")]
    subprocess.run([*run, str(tmp_path / "geneval")], check=True)
    first, second = (tmp_path / "geneval/00002/samples" / name for name in ("00000.png", "00001.png"))
    assert first.read_bytes() == (images / "00002.png").read_bytes()
    assert second.read_bytes() == (images / "00002_1.png").read_bytes()
    assert json.loads((tmp_path / "geneval/00001/metadata.jsonl").read_text()) == {"prompt": "two dogs"}
    prompts = str(layout.prompts(root, "seen"))
    run = [sys.executable, str(EXAMPLES / "lay_out_for_dpg_bench.py"), str(images), prompts, str(tmp_path / "dpg")]
    subprocess.run(run, check=True)
    sheet = Image.open(tmp_path / "dpg" / "x10.png")
    width = Image.open(images / "00002.png").width
    assert sheet.crop((0, 0, width, width)).tobytes() == Image.open(images / "00002.png").convert("RGB").tobytes()
    assert sheet.getpixel((width + 1, 1)) == (2, 9, 9)


STAND_IN = """
import torch
from PIL import Image

class HPSv3RewardInferencer:
    def __init__(self, checkpoint_path, device):
        print("loading", checkpoint_path)

    def reward(self, prompts, image_paths):
        assert len(prompts) <= 8
        print("rating")
        reds = [Image.open(path).getpixel((0, 0))[0] for path in image_paths]
        return torch.tensor([[red + len(prompt) / 16, 0.5] for red, prompt in zip(reds, prompts)])
"""


@pytest.mark.slow
def test_the_program_of_the_example_rates_by_a_stand_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It talks to its standard output while it loads and rates, and sees no more than eight images at once."""
    package = tmp_path / "packages"
    (package / "hpsv3").mkdir(parents=True)
    (package / "hpsv3/__init__.py").write_text(STAND_IN)
    (package / "hpsv3-1.2.dist-info").mkdir()
    (package / "hpsv3-1.2.dist-info/METADATA").write_text("Metadata-Version: 2.1\nName: hpsv3\nVersion: 1.2\n")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(package), *filter(None, [os.environ.get("PYTHONPATH")])]))
    weights = tmp_path / "HPSv3.safetensors"
    weights.write_bytes(b"weights")
    options = {"path": str(EXAMPLES / "rate_by_hpsv3.py"), "arguments": [str(weights), "cpu"]}
    scorer = create("command", protocol="program", options=options)
    pictures = [Image.new("RGB", (5, 4), (level, 7, 9)) for level in range(20)]
    prompts = ["x" * level for level in range(20)]
    found = scorer.score(pictures, prompts)
    np.testing.assert_allclose(found, [level + level / 16 for level in range(20)])
    about = scorer.fingerprint.hashed["about"]  # type: ignore[attr-defined]
    assert about == {"scorer": "hpsv3", "version": "1.2", "weights_sha256": file_sha256(weights)}
