"""What the commands say of themselves."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from importlib.metadata import version
from pathlib import Path

import pytest

import evals.cli
import pipeline.cli
import sdpo.cli

Main = Callable[[Sequence[str]], int]


@pytest.mark.parametrize(
    ("name", "main"), [("sdpo", sdpo.cli.main), ("evals", evals.cli.main), ("sdpo-bench", pipeline.cli.main)]
)
def test_version(name: str, main: Main, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        main(["--version"])
    assert (stop.value.code, capsys.readouterr().out) == (0, f"{name} {version('sdpo-bench')}\n")


@pytest.mark.parametrize(
    ("main", "arguments", "words"),
    [
        (
            sdpo.cli.main,
            ["train"],
            "`sdpo-bench spec CONFIG --stage STAGE` lists those of a config, and with --job NAME",
        ),
        (
            evals.cli.main,
            ["generate"],
            "`sdpo-bench spec CONFIG --stage STAGE` lists those of a config, and with --job",
        ),
        (pipeline.cli.main, ["check"], "config of a benchmark, config/README.md (default: config/miniature.yaml)"),
        (pipeline.cli.main, ["show"], "(default: config/miniature.yaml)"),
        (pipeline.cli.main, ["spec"], "(default: config/miniature.yaml)"),
        (pipeline.cli.main, ["unlock"], "where snakemake was started (default: here)"),
    ],
)
def test_help_says_what_an_argument_is(
    main: Main, arguments: list[str], words: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    with pytest.raises(SystemExit):
        main([*arguments, "--help"])
    assert words in " ".join(capsys.readouterr().out.split())


def test_the_address_of_each_benchmarks_runs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "imported").mkdir()
    for name, more in (("toy", {"page": "#/experiments/3/runs"}), ("from-before", {})):
        (tmp_path / f"imported/{name}.json").write_text(json.dumps({"database": "x", "experiment": name, **more}))
    assert pipeline.cli.main(["runs", "http://127.0.0.1:5000", "--store", str(tmp_path)]) == 0
    assert capsys.readouterr().out == ("toy: http://127.0.0.1:5000/#/experiments/3/runs\n")


def test_unlock_says_so_where_there_is_nothing_to_do(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert pipeline.cli.main(["unlock", str(tmp_path)]) == 0
    assert capsys.readouterr().out == "nothing to clean up: no lock, and no job of a killed workflow\n"
