"""What may import what, and what a command may import before it knows its work."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
MAY_IMPORT = {
    "artifacts": {"artifacts"},
    "sdpo": {"artifacts", "sdpo"},
    "evals": {"artifacts", "evals"},
    "miniature": {"artifacts", "sdpo", "evals", "miniature"},
    "toy_surface": {"artifacts", "sdpo", "evals", "toy_surface"},
    "pipeline": {"artifacts", "sdpo", "evals", "miniature", "toy_surface", "pipeline"},
}
HEAVY = {"torch", "diffusers", "transformers", "open_clip", "mlflow", "matplotlib", "pandas", "scipy", "snakemake"}


def imported(path: Path) -> Iterator[str]:
    """Top-level packages that a module imports anywhere, functions included."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name.split(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            assert node.module is not None
            yield node.module.split(".")[0]


@pytest.mark.parametrize("package", MAY_IMPORT)
def test_layers_import_only_what_lies_below(package: str) -> None:
    modules = list((ROOT / package).rglob("*.py"))
    assert modules
    wrong = {
        f"{path.relative_to(ROOT)} imports {name}"
        for path in modules
        for name in imported(path)
        if name in MAY_IMPORT and name not in MAY_IMPORT[package]
    }
    assert wrong == set()


@pytest.mark.parametrize("command", ["sdpo.cli", "evals.cli", "miniature.cli", "toy_surface.cli", "pipeline.cli"])
def test_help_imports_nothing_heavy(command: str) -> None:
    code = (
        f"import sys, {command} as cli\n"
        "try:\n    cli.main(['--help'])\n"
        "except SystemExit as stop:\n    assert stop.code == 0\n"
        f"print(sorted(set({sorted(HEAVY)!r}) & set(sys.modules)), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout.startswith("usage: ")
    assert done.stderr.strip() == "[]"


def test_checking_a_config_imports_nothing_heavy() -> None:
    code = (
        "import sys\nfrom pipeline.config import load\nfrom pipeline.jobs import Plan\n"
        "jobs = list(Plan(load('config/miniature.yaml', check_files=False)).jobs())\n"
        f"print(len(jobs) > 10, sorted(set({sorted(HEAVY)!r}) & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout.strip() == "True []"
