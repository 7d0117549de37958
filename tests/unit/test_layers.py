"""What may import what, and what a command may import before it knows its work."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
LAYERS = {
    "artifacts": (),
    "families": ("artifacts",),
    "sdpo": ("artifacts", "families"),
    "evals": ("artifacts", "families"),
    "worlds": ("artifacts", "families", "sdpo", "evals"),
    "pipeline": ("artifacts", "families", "sdpo", "evals", "worlds"),
}
"""What each package may import besides itself."""
ROOMS = {
    "sdpo": (
        "safeguard diffusion objectives",
        "objective_check bases",
        "pairs training audit",
        "cli",
    ),
    "evals": (
        "prompts images published prompts.sources",
        "networks",
        "scorers generation scoring",
        "judges",
        "tables report tracking",
        "commands",
        "cli",
    ),
}
"""Rooms of a package in the order in which they may import: what stands before, never what stands behind."""
COMMANDS = ["sdpo.cli", "evals.cli", "worlds.miniature.cli", "worlds.toy_surface.cli", "pipeline.cli"]
HEAVY = {"torch", "diffusers", "transformers", "open_clip", "mlflow", "matplotlib", "pandas", "scipy", "snakemake"}


def modules() -> dict[str, Path]:
    """File of each module, by its dotted name."""
    found = {}
    for package in LAYERS:
        for path in (ROOT / package).rglob("*.py"):
            name = ".".join(path.relative_to(ROOT).with_suffix("").parts)
            found[name.removesuffix(".__init__")] = path
    return found


MODULES = modules()


def imports(name: str) -> Iterator[str]:
    """Modules of the project that a module imports anywhere: in functions and for types too."""
    for node in ast.walk(ast.parse(MODULES[name].read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name in MODULES)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{name}: relative import"
            for alias in node.names:
                inner = f"{node.module}.{alias.name}"
                if (found := inner if inner in MODULES else str(node.module)) in MODULES:
                    yield found


GRAPH = {name: {other for other in imports(name) if other != name} for name in MODULES}


def room(name: str, rooms: Sequence[str]) -> str | None:
    """The innermost of a package's rooms that a module lies in."""
    inside = [r for r in rooms if f"{name}.".startswith(f"{name.partition('.')[0]}.{r}.")]
    return max(inside, key=len, default=None)


@pytest.mark.parametrize("package", LAYERS)
def test_packages_import_only_what_lies_below(package: str) -> None:
    mine = {name: others for name, others in GRAPH.items() if name.partition(".")[0] == package}
    assert len(mine) > 5
    allowed = {package, *LAYERS[package]}
    assert {
        f"{a} imports {b}" for a, others in mine.items() for b in others if b.partition(".")[0] not in allowed
    } == set()


@pytest.mark.parametrize("package", ["sdpo", "evals"])
def test_rooms_import_only_rooms_before_them(package: str) -> None:
    order = " ".join(ROOMS[package]).split()
    wrong = set()
    for name, others in GRAPH.items():
        if name.partition(".")[0] != package or name == package:
            continue
        own = room(name, order)
        assert own is not None, f"{name} lies in no room: put it into one"
        for other in others:
            if other.partition(".")[0] == package and order.index(str(room(other, order))) > order.index(own):
                wrong.add(f"{name} imports {other}")
    assert wrong == set()


def test_worlds_do_not_know_each_other() -> None:
    assert {
        f"{name} imports {other}"
        for name, others in GRAPH.items()
        for other in others
        if name.startswith("worlds.") and other.startswith("worlds.") and name.split(".")[1] != other.split(".")[1]
    } == set()


def test_no_modules_import_each_other() -> None:
    """Take away, again and again, those that import nothing that is left: a circle of any length stays."""
    left = {name: set(others) for name, others in GRAPH.items()}
    while done := {name for name, others in left.items() if not others & left.keys()}:
        left = {name: others for name, others in left.items() if name not in done}
    assert sorted(left) == []


@pytest.mark.parametrize(
    "command", ["sdpo.cli", "evals.cli", "worlds.miniature.cli", "worlds.toy_surface.cli", "pipeline.cli"]
)
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
