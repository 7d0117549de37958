from __future__ import annotations

import json
import os
import re
import stat
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml

from pipeline.files import MODEL_FILES, PAIR_FILES, TABLE_FILES

HERE = Path(__file__).parent
ROOT = HERE.parents[1]


class Workflow:
    """A folder in which the project's workflow runs with commands that only write their files."""

    def __init__(self, folder: Path, config: dict[str, Any]) -> None:
        self.folder, self.config = folder, config
        commands = folder / "bin"
        commands.mkdir()
        for name in ("sdpo", "evals"):
            stub = commands / name
            stub.write_text(f'#!/bin/sh\nexec "{sys.executable}" -S "{HERE / "stub_command.py"}" "$@"\n')
            stub.chmod(stub.stat().st_mode | stat.S_IXUSR)
        for path in ("base", "pickscore"):
            (folder / "resources/miniature" / path).mkdir(parents=True)
            (folder / "resources/miniature" / path / "provenance.json").write_text("{}")

    def write_config(self) -> Path:
        path = self.folder / "bench.yaml"
        path.write_text(yaml.safe_dump(self.config, sort_keys=False))
        return path

    def command(self, *arguments: str) -> list[str]:
        return [
            *(sys.executable, "-m", "snakemake", "--snakefile", str(ROOT / "Snakefile")),
            *("--directory", str(self.folder), "--configfile", str(self.write_config()), "--cores", "2", *arguments),
        ]

    @property
    def environment(self) -> dict[str, str]:
        # The interpreter's own folder is in PATH, behind the stubs, so that the workflow does not put it in front.
        paths = [str(self.folder / "bin"), str(Path(sys.executable).parent), os.environ["PATH"]]
        report = ["report/index.html", *(f"figures/{name}.png" for name in ("grid", "drift", "win_rates"))]
        names = {"pairs": PAIR_FILES, "train": MODEL_FILES, "compare": TABLE_FILES, "report": report}
        return {**os.environ, "PATH": os.pathsep.join(paths), "STUB_FILES": json.dumps(names)}

    def run(self, *arguments: str, fails: bool = False) -> str:
        """Run to the end; what it printed."""
        done = subprocess.run(
            self.command(*arguments), cwd=self.folder, env=self.environment, capture_output=True, text=True, timeout=120
        )
        assert (done.returncode != 0) == fails, done.stdout + done.stderr
        return done.stdout + done.stderr

    def planned(self, *arguments: str) -> dict[str, int]:
        """Jobs by rule that a dry run announces."""
        text = self.run("--dry-run", *arguments)
        table = text.rpartition("Job stats:")[2].partition("total")[0]
        return {name: int(count) for name, count in re.findall(r"^(\w+)\s+(\d+)$", table, re.MULTILINE)}

    def executed(self) -> Sequence[str]:
        """Commands run since the last call, as stage and variant or models."""
        log = self.folder / "commands"
        lines = sorted(log.read_text().splitlines()) if log.exists() else []
        log.unlink(missing_ok=True)
        return lines


@pytest.fixture
def workflow(tmp_path: Path) -> Workflow:
    variant = {"objective": "dmpo", "parameters": {"beta": 2000}, "pairs": "renders"}
    return Workflow(
        tmp_path,
        {
            "benchmark": "tiny",
            "base": {"name": "miniature", "family": "miniature", "path": "resources/miniature/base"},
            "pairs": {"renders": {"source": "miniature_renders"}, "unused": {"source": "miniature_samples"}},
            "variants": [{"name": "dmpo", **variant}, {"name": "dmpo+sdpo", **variant, "safeguard": {"mu": 0.9}}],
            "seeds": [0, 1],
            "prompt_sets": {"seen": {"source": "miniature_seen"}, "held-out": {"source": "miniature_heldout"}},
            "scorers": {"oracle": {}, "pickscore": {"weights": "resources/miniature/pickscore"}},
            "execution": {"seeds_per_job": 2, "prompt_sets_per_job": 2, "scorers_per_job": 2},
        },
    )
