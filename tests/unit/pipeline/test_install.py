"""`sdpo-bench install-miniature` takes complete weights that are good enough, or are accepted as they are."""

from __future__ import annotations

from pathlib import Path

import pytest

from artifacts.atomic import write_json, write_text
from pipeline.cli import main

FILES = (
    *("base/provenance.json", "flow/provenance.json", "scorers/clip/config.json"),
    *("agreement.json", "contact_sheet.png", "contact_sheet_flow.png"),
)


@pytest.fixture
def built(tmp_path: Path) -> Path:
    for name in FILES:
        write_text(tmp_path / "built" / name, name)
    write_json(tmp_path / "built" / "quality.json", {"shortfalls": []})
    return tmp_path / "built"


def test_installs_everything_over_what_was_there(built: Path, tmp_path: Path) -> None:
    write_text(tmp_path / "target" / "base" / "old.json", "old")
    assert main(["install-miniature", "--built", str(built), "--target", str(tmp_path / "target")]) == 0
    found = {p.relative_to(tmp_path / "target").as_posix() for p in (tmp_path / "target").rglob("*") if p.is_file()}
    assert found == {
        *FILES,
        "quality.json",
    }


def test_refuses_weights_that_fall_short(built: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_json(built / "quality.json", {"shortfalls": ["base: shape is right on 0.5"]})
    arguments = ["install-miniature", "--built", str(built), "--target", str(tmp_path / "target")]
    assert main(arguments) == 2
    assert "shape is right on 0.5" in capsys.readouterr().err
    assert not (tmp_path / "target").exists()
    assert main([*arguments, "--accept-shortfalls"]) == 0


def test_refuses_what_is_not_complete(built: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (built / "agreement.json").unlink()
    assert main(["install-miniature", "--built", str(built), "--target", str(tmp_path / "target")]) == 2
    assert "agreement.json" in capsys.readouterr().err
