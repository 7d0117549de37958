"""What stands behind a table, of a benchmark that ran."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from artifacts.errors import InputError
from pipeline.cli import main
from pipeline.trace import trace

if TYPE_CHECKING:
    from conftest import Benchmark


@pytest.fixture
def there(finished: Benchmark, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The table, seen from where snakemake was started."""
    monkeypatch.chdir(finished.folder)
    return (finished.root / "tables/main.md").relative_to(finished.folder)


@pytest.fixture
def changed(finished: Benchmark, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The same in a copy, which a test may change."""
    copied = finished.copied(tmp_path)
    monkeypatch.chdir(copied.folder)
    return (copied.root / "tables/main.md").relative_to(copied.folder)


def test_all_files_are_counted_and_are_what_they_were(there: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["trace", str(there)]) == 0
    said = capsys.readouterr().out
    # Five models, two prompt sets, three scorers; the base is not trained.
    counts = {
        line.split()[0]: line.split()[1] for line in said.splitlines() if line.startswith(("sco", "gen", "tr", "pa"))
    }
    assert counts == {"score": "30", "generate": "10", "train": "4", "pairs": "1"}
    assert said.rstrip().endswith("Every file is what its job has written, and was made from the files above.")


def test_a_cell_is_shown_file_by_file(there: Path) -> None:
    text, intact = trace(there, model="miniature/dpo/seed1", prompt_set="seen", scorer="oracle")
    assert intact
    root = there.parents[1].as_posix()
    assert [line for line in text.splitlines() if root in line and not line.startswith(" ")][1:] == [
        f"score  {root}/scores/oracle/miniature/dpo/seed1/seen.parquet",
        f"generate  {root}/images/miniature/dpo/seed1/seen/manifest.parquet",
        f"train  {root}/models/miniature/dpo/seed1/provenance.json",
        f"pairs  {root}/pairs/renders/miniature/cache.json",
    ]
    weights = json.loads((there.parents[1] / "models/miniature/dpo/seed1/provenance.json").read_text())["outputs"]
    assert all(f"  of {Path(file).name} {sha256}" in text for file, sha256 in weights.items())
    for job in ('score --job "dpo/0-1/seen', 'generate --job "dpo/0-1/seen', 'train --job "dpo/0-1"', "pairs --job"):
        assert f"sdpo-bench spec CONFIG --stage {job}" in text


def test_scores_of_another_models_images_are_found(changed: Path) -> None:
    scores = changed.parents[1] / "scores/oracle/miniature/dpo"
    shutil.copyfile(scores / "seed1/seen.parquet", scores / "seed0/seen.parquet")
    text, intact = trace(changed)
    assert not intact
    assert f"{scores}/seed0/seen.parquet: of other images than are there" in text
    assert f"{scores}/seed0/seen.parquet: changed" in text
    assert f"{changed}: made from other scores than are there" in text


def test_a_table_that_was_edited_is_found(changed: Path) -> None:
    assert trace(changed)[1]
    table = changed.with_name("differences.csv")
    table.write_text(table.read_text().replace("dpo+sdpo", "dpo+sdp0", 1))
    text, intact = trace(table)
    assert not intact
    assert text.endswith(f"{table}: changed since it was made")
    assert trace(changed)[1]


def test_a_table_that_nothing_holds_is_named(there: Path) -> None:
    for name in ("costs.csv", "comparison.json"):
        text, _ = trace(there.with_name(name))
        assert text.endswith(
            f"No digest of {there.with_name(name)} itself was noted, so a change to it would not be seen."
        )
    assert "No digest" not in trace(there)[0]


def test_images_of_other_weights_are_found(changed: Path) -> None:
    models = changed.parents[1] / "models/miniature/dpo"
    shutil.copyfile(models / "seed1/provenance.json", models / "seed0/provenance.json")
    text, _ = trace(changed, model="miniature/dpo/seed0")
    assert "images/miniature/dpo/seed0/seen: drawn with another diffusion_pytorch_model.safetensors than" in text


def test_models_of_other_pairs_are_found(changed: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pairs = changed.parents[1] / "pairs/renders/miniature"
    about = json.loads((pairs / "cache.json").read_text())
    about["files"]["index.parquet"] = "0" * 64
    (pairs / "cache.json").write_text(json.dumps(about))
    assert main(["trace", str(changed)]) == 2
    said = capsys.readouterr()
    assert f"models/miniature/dpo/seed0: trained on another {pairs} than is there" in said.out
    assert "not all of the files behind it are as they were" in said.err


def test_what_is_not_there_is_refused(there: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"unknown model 'miniature/dpo/seed7': .*; did you mean 'miniature/dpo/seed"):
        trace(there, model="miniature/dpo/seed7")
    with pytest.raises(InputError, match="not a file below results/<benchmark>/ with tables"):
        trace(tmp_path / "main.md")
