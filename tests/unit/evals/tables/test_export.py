from __future__ import annotations

import json
from pathlib import Path

import jsonschema
import pytest
import yaml
from huggingface_hub import parse_eval_result_entries

from evals import cli
from evals.tables.comparison import Comparison
from evals.tables.rows import ScoreRow, read_rows

SCHEMA = json.loads((Path(__file__).parent / "every_eval_ever-0.3.0.schema.json").read_text(encoding="utf-8"))
"""As version 0.3.0 of the package every_eval_ever ships it; MIT License, Copyright (c) 2026 EvalEval."""


def pooled(benchmark: Comparison, variant: str) -> dict[tuple[str, str], ScoreRow]:
    rows = read_rows(benchmark.root / "tables/scores.csv", ScoreRow)
    return {(row.prompt_set, row.scorer): row for row in rows if (row.variant, row.seed) == (variant, "all")}


def test_every_eval_ever_takes_the_files(
    tiny_benchmark: Comparison, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    command = ["export", str(tiny_benchmark.root), "--to", str(out), "--format", "every_eval_ever"]
    assert cli.main([*command, "--organisation", "my-lab"]) == 0
    files = [Path(line) for line in capsys.readouterr().out.splitlines()]
    assert [file.parent.relative_to(out).as_posix() for file in files] == [
        f"data/toy/my-lab/{variant}" for variant in tiny_benchmark.variants
    ]
    methods = ("Student's t, over prompts, which", "variance components, over prompts and seeds")
    for file, variant in zip(files, tiny_benchmark.variants, strict=True):
        content = json.loads(file.read_text(encoding="utf-8"))
        jsonschema.Draft7Validator(SCHEMA).validate(content)
        assert content["schema_version"] == SCHEMA["version"]
        assert content["model_info"]["id"] == f"my-lab/{variant}"
        rows = pooled(tiny_benchmark, variant)
        assert len(content["evaluation_results"]) == len(rows) == 4
        for result in content["evaluation_results"]:
            _, prompt_set, scorer = result["evaluation_name"].split("/")
            row, details = rows[prompt_set, scorer], result["score_details"]
            interval = details["uncertainty"]["confidence_interval"]
            assert (details["score"], interval["lower"], interval["upper"]) == (row.mean, row.ci_low, row.ci_high)
            assert (interval["confidence_level"], details["uncertainty"]["num_samples"]) == (0.95, row.n)
            assert interval["method"].startswith(methods[len(tiny_benchmark.of_variant(variant)) > 1])
            assert result["metric_config"]["lower_is_better"] is False
    # A wrong type is found: the schema does say something.
    content["evaluation_results"][0]["score_details"]["score"] = "high"
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.Draft7Validator(SCHEMA).validate(content)


def test_the_hubs_library_reads_its_files(tiny_benchmark: Comparison, tmp_path: Path) -> None:
    command = ["export", str(tiny_benchmark.root), "--to", str(tmp_path), "--format", "hub"]
    assert cli.main([*command, "--dataset", "my-lab/toy", "--variant", "dmpo+sdpo"]) == 0
    (file,) = tmp_path.glob("*/.eval_results/*.yaml")
    assert file.relative_to(tmp_path).as_posix() == "dmpo+sdpo/.eval_results/toy.yaml"
    entries = parse_eval_result_entries(yaml.safe_load(file.read_text(encoding="utf-8")))
    rows = pooled(tiny_benchmark, "dmpo+sdpo")
    assert {entry.task_id: entry.value for entry in entries} == {
        f"{prompt_set}_{scorer}": row.mean for (prompt_set, scorer), row in rows.items()
    }
    assert {entry.dataset_id for entry in entries} == {"my-lab/toy"}
    assert all(entry.notes and entry.notes.startswith("protocol ") for entry in entries)


@pytest.mark.parametrize(
    ("command", "option"),
    [
        (["export", "SOURCE", "--format", "hub", "--dataset", "a/b", "--to"], "--to"),
        (["compare", "SOURCE", "--out"], "--out"),
        (["tables", "--from", "SOURCE", "--out"], "--out"),
    ],
)
def test_a_folder_that_cannot_be_written_is_one_line(
    tiny_benchmark: Comparison, tmp_path: Path, capsys: pytest.CaptureFixture[str], command: list[str], option: str
) -> None:
    (tmp_path / "file").write_text("")
    place = str(tmp_path / "file/below")
    given = [str(tiny_benchmark.root) if word == "SOURCE" else word for word in command]
    assert cli.main([*given, place]) == 2
    said = f"error: {option} {place}: cannot be written (Not a directory); give a folder that can be written\n"
    assert capsys.readouterr().err.endswith(said)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--format", "hub"], "--dataset is None, expected the id of a data set on the hub, owner/name"),
        (["--format", "hub", "--dataset", "toy"], "--dataset is 'toy', expected the id"),
        (["--format", "every_eval_ever"], "--organisation is None, expected who ran the benchmark"),
        (["--format", "every_eval_ever", "--organisation", "../x"], "--organisation is '../x', expected"),
        (["--format", "hub", "--dataset", "a/b", "--variant", "dmpoo"], "--variant dmpoo: expected one of base, dmpo"),
    ],
)
def test_what_is_missing_is_said(
    options: list[str], message: str, tiny_benchmark: Comparison, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["export", str(tiny_benchmark.root), "--to", str(tmp_path / "out"), *options]) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
