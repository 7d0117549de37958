from __future__ import annotations

import json
import re
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.captions import captioned
from pipeline.files import AUDIT_FILES, PUBLISHED_FILES, TABLE_FILES

if TYPE_CHECKING:
    from conftest import Workflow

RULES = Path(__file__).parents[2] / "workflow/rules"
PAGE = (
    "report/index.html",
    "report/degenerate.csv",
    *(f"figures/{name}.png" for name in ("grid", "drift", "noise", "differences", "ranks")),
)
TABLES = [f"tables/{name}" for name in (*TABLE_FILES, *PUBLISHED_FILES)]


def test_the_archive_of_a_finished_run_has_tables_figures_and_page_with_their_captions(
    finished_workflow: Workflow, tmp_path: Path
) -> None:
    workflow = finished_workflow.copied(tmp_path)
    workflow.run("--report", "archive.zip")
    assert workflow.executed() == []
    archive = zipfile.ZipFile(workflow.folder / "archive.zip")
    page = archive.read("archive/report.html").decode()
    found = re.search(r"^\s*var results = (\{.*\});?$", page, re.MULTILINE)
    assert found is not None
    shown = json.loads(found[1])
    root = Path("results/tiny")
    assert set(shown) == {str(root / name) for name in (*TABLES, *PAGE)}
    assert "a tie is half a win" in shown["results/tiny/tables/win_rates.csv"]["caption"]
    assert "with their intervals" in shown["results/tiny/figures/differences.png"]["caption"]
    for path, entry in shown.items():
        assert archive.read(f"archive/{entry['data_uri']}") == (workflow.folder / path).read_bytes()
    description = re.search(r'var workflow_desc = "(.*)"', page)
    assert description is not None
    assert "2 variants on the base" in description[1]


def test_each_file_has_a_caption_and_each_caption_a_file() -> None:
    files = captioned([*TABLES, *PAGE, "figures/guidance.png", *(f"audit/{name}" for name in AUDIT_FILES)])
    captions = {(RULES / file.flags["report"].caption).resolve() for file in files}
    written = set((RULES.parent / "report").rglob("*.rst"))
    assert captions == written - {(RULES.parent / "report/workflow.rst").resolve()}
