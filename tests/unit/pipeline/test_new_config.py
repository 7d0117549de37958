"""``sdpo-bench init`` writes a config that is right as it stands, and ``sdpo-bench list`` what can be put in."""

from __future__ import annotations

from importlib.metadata import EntryPoint
from pathlib import Path

import pytest

import artifacts.plugins
import evals.scorers
import sdpo.objectives
from artifacts.errors import InputError
from pipeline.cli import main
from pipeline.config import load
from pipeline.listing import KINDS, listing
from pipeline.new_config import write_config


def test_a_new_config_has_no_errors_and_its_own_name(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "first-try.yaml"
    assert main(["init", str(file)]) == 0
    assert f"snakemake --configfile {file}" in capsys.readouterr().out
    benchmark = load(str(file), read_files=True)
    assert benchmark.benchmark == "first-try"
    assert [variant.name for variant in benchmark.variants] == ["dmpo", "dmpo+sdpo"]
    assert main(["check", str(file)]) == 0


def test_a_new_config_replaces_nothing_and_has_a_benchmark_s_name(tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text("mine")
    with pytest.raises(InputError, match=r"mine\.yaml: is there already"):
        write_config(file)
    assert file.read_text() == "mine"
    for name in ("mine", "mine.json", ".yaml", "a b.yaml"):
        with pytest.raises(InputError, match="expected a name that a benchmark can have"):
            write_config(tmp_path / name)
    with pytest.raises(InputError, match="no folder"):
        write_config(tmp_path / "other/new.yaml")


def test_all_that_can_be_named_is_listed_with_a_sentence() -> None:
    found = listing()
    lines = dict(line.split(maxsplit=1) for line in found.splitlines() if line.startswith("  "))
    for name in [*sdpo.objectives.names(), *evals.scorers.names()]:
        assert len(lines[name]) > 20
    assert lines["pickscore"].startswith("PickScore (Kirstain et al. 2023")
    # The sentence alone, and without the name that the module's text begins with.
    assert lines["miniature_samples"] == "on-policy pairs, two samples of the base for each prompt."
    assert lines["hpdv2"].startswith("the HPDv2 benchmark")
    assert [line for line in found.splitlines() if line and line[0] != " "] == [
        f"{kind} ({key})" for kind, (key, _) in KINDS.items()
    ]


def test_one_kind_alone_and_no_other(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["list", "objectives"]) == 0
    assert capsys.readouterr().out.splitlines()[0] == "objectives (variants[].objective)"
    assert main(["list", "scorer"]) == 2
    assert "did you mean 'scorers'?" in capsys.readouterr().err


def test_a_plug_in_that_is_broken_says_so_in_its_line(monkeypatch: pytest.MonkeyPatch) -> None:
    broken = EntryPoint("mine", "no_such_module", "evals.scorers")
    known = artifacts.plugins._entry_points("evals.scorers")
    monkeypatch.setattr(artifacts.plugins, "_entry_points", lambda group: {**known, "mine": (broken,)})
    (line,) = [line for line in listing("scorers").splitlines() if line.strip().startswith("mine ")]
    assert "cannot be imported" in line and "no_such_module" in line
