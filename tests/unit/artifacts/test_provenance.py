"""Provenance says "clean" of code that is in the commit, and of no other."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[3]


class Repository:
    """A copy of the package ``artifacts`` with an empty package ``losses``, committed."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        ignore = shutil.ignore_patterns("__pycache__")
        shutil.copytree(ROOT / "artifacts", folder / "artifacts", ignore=ignore)
        self.write("losses/__init__.py", "")
        self.write("losses/dpo.py", "X = 1\n")
        self.write(".gitignore", "__pycache__/\nresults/\nlosses/private_*.py\n")
        self.git("init", "-q")
        self.commit()

    def write(self, name: str, text: str) -> None:
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)

    def git(self, *arguments: str) -> str:
        identity = ("-c", "user.name=x", "-c", "user.email=x@example.org", "-c", "commit.gpgsign=false")
        command = ["git", "-C", str(self.folder), *identity, *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()

    def commit(self) -> None:
        self.git("add", "-A")
        self.git("commit", "-qm", "x")

    def state(self, code: str = "", **environment: str) -> dict[str, Any]:
        run = f"import json\n{code}\nfrom artifacts.provenance import git_state\nprint(json.dumps(git_state()))"
        given = {**os.environ, "PYTHONPATH": str(self.folder), "PYTHONDONTWRITEBYTECODE": "", **environment}
        command = [sys.executable, "-c", run]
        done = subprocess.run(command, capture_output=True, text=True, check=True, env=given, cwd=self.folder)
        found: dict[str, Any] = json.loads(done.stdout)
        return found


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    return Repository(tmp_path / "clone")


def test_clean_is_said_when_all_code_is_in_the_commit(repository: Repository) -> None:
    repository.write("results/out.py", "X = 1\n")
    repository.write("notes.txt", "x")
    repository.write("scratch.py", "nobody imports this\n")
    commit = repository.git("rev-parse", "HEAD")
    # As torch has some.
    made_up = "import sys, types; sys.modules['x'] = types.ModuleType('x'); sys.modules['x'].__file__ = 'x.py'"
    hook = {"GIT_DIR": "/nowhere", "GIT_WORK_TREE": "/"}
    another_owner = {"GIT_TEST_ASSUME_DIFFERENT_OWNER": "1", "GIT_CONFIG_GLOBAL": os.devnull}
    for environment in ({}, hook, another_owner):
        assert repository.state(f"import losses.dpo; {made_up}", **environment) == {
            "git_commit": commit,
            "git_dirty": False,
            "git_changes": [],
        }


@pytest.mark.parametrize(
    ("name", "code"),
    [
        ("losses/dpo.py", ""),
        ("losses/new.py", ""),
        ("losses/private_loss.py", ""),
        ("losses/sub/new.py", ""),
        ("my_loss.py", "import my_loss"),
        ("results/my_loss.py", "import sys; sys.path.insert(0, 'results'); import my_loss"),
        ("a name with spaces.py", "import importlib; importlib.import_module('a name with spaces')"),
    ],
)
def test_code_that_is_not_in_the_commit_is_dirty(repository: Repository, name: str, code: str) -> None:
    repository.write(name, "X = 2\n")
    found = repository.state(code)
    assert found["git_dirty"] is True
    assert found["git_changes"] == [name]


def test_a_plug_in_of_another_package_is_not_in_the_commit(repository: Repository, tmp_path: Path) -> None:
    folder = tmp_path / "site"
    info = folder / "theirs-2.1.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: theirs\nVersion: 2.1\n")
    (info / "entry_points.txt").write_text("[losses]\nown = their_loss\n")
    (folder / "their_loss.py").write_text("X = 1\n")
    load = "from artifacts.plugins import Registry; r = Registry(kind='loss', package='losses', group='losses')\n"
    paths = os.pathsep.join([str(repository.folder), str(folder)])
    assert repository.state(f"{load}r.load('dpo'); r.source('own')", PYTHONPATH=paths)["git_dirty"] is False
    found = repository.state(f"{load}r.load('own')", PYTHONPATH=paths)
    assert (found["git_dirty"], found["git_changes"]) == (True, [])
    described = (
        f"{load}r.load('own'); r.load('dpo')\nfrom artifacts.provenance import describe\n"
        "print(json.dumps(describe(stage='x', spec={}, inputs={}, started=0.0)['code'])); raise SystemExit"
    )
    code = json.loads(
        subprocess.run(
            [sys.executable, "-c", f"import json\n{described}"],
            env={**os.environ, "PYTHONPATH": paths},
            cwd=repository.folder,
            capture_output=True,
            text=True,
            check=True,
        ).stdout
    )
    assert {name: (of["package"], of["version"], of["module"]) for name, of in code.items()} == {
        "loss dpo": ("sdpo-bench", code["loss dpo"]["version"], "losses.dpo"),
        "loss own": ("theirs", "2.1", "their_loss"),
    }
    assert len(code["loss own"]["sha256"]) == len(code["loss dpo"]["sha256"]) == 64


def test_code_that_was_installed_into_an_environment_in_somebodys_repository_is_of_no_commit(
    repository: Repository,
) -> None:
    site = repository.folder / "env" / "site-packages"
    site.mkdir(parents=True)
    repository.git("mv", "artifacts", str(site / "artifacts"))
    repository.git("rm", "-q", "--cached", "-r", "env")
    repository.git("commit", "-qm", "y")
    nothing = {"git_commit": None, "git_dirty": None, "git_changes": None}
    assert repository.state(PYTHONPATH=str(site)) == nothing


def test_outside_a_repository(repository: Repository) -> None:
    shutil.rmtree(repository.folder / ".git")
    assert repository.state() == {"git_commit": None, "git_dirty": None, "git_changes": None}
