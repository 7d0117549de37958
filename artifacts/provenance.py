"""Where a result comes from: code, configuration, inputs, packages, hardware, time."""

from __future__ import annotations

import os
import platform
import re
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from importlib.machinery import EXTENSION_SUFFIXES, SOURCE_SUFFIXES
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from artifacts.plugins import OWN, loaded

PACKAGES = ("torch", "diffusers", "transformers", "open_clip_torch", "pillow", "numpy", "pyarrow", "snakemake")


CHANGES = 20
"""So many changed files are named."""


def git_state() -> dict[str, Any]:
    """Commit of the repository this code lies in, and what of the code that ran is not in it.

    Returns:
        ``git_commit``; ``git_dirty``, whether any code is not in the commit: files that were changed, modules that git
        does not track, in the project's packages or imported, and plug-ins of other packages; ``git_changes``, the
        first of these files. Nulls outside a repository.
    """
    folder = Path(__file__).resolve().parent
    # Those of a hook that runs this would name another repository.
    foreign = ("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_PREFIX")
    environment = {name: value for name, value in os.environ.items() if name not in foreign}

    def git(*arguments: str) -> list[str]:
        # This code runs already, whoever owns it, as a laboratory's checkout or a container's: git would refuse it.
        command = ["git", "-C", str(root), "-c", "safe.directory=*", *arguments]
        answer = subprocess.run(command, capture_output=True, text=True, timeout=20, check=True, env=environment)
        return [line for line in re.split(r"[\0\n]", answer.stdout) if line]

    root = folder
    try:
        root = Path(git("rev-parse", "--show-toplevel")[0])
        commit, tracked = git("rev-parse", "HEAD")[0], set(git("ls-files", "-z"))
        # Else this code was installed into an environment that lies in somebody's repository.
        if Path(__file__).resolve().relative_to(root).as_posix() not in tracked:
            return {"git_commit": None, "git_dirty": None, "git_changes": None}
        changed = {line[3:] for line in git("status", "--porcelain", "--untracked-files=no", "-z", "--no-renames")}
        packages = sorted({Path(path).parts[0] for path in tracked if re.fullmatch(r"[^/]+/__init__\.py", path)})
        changed |= {path for path in git("ls-files", "-z", "--others", "--", *packages) if _is_module(path)}
    except (OSError, ValueError, subprocess.SubprocessError):
        return {"git_commit": None, "git_dirty": None, "git_changes": None}
    changed |= {path for path in _imported_from(root) if path not in tracked}
    elsewhere = any(origin["package"] != OWN for origin in loaded().values())
    return {
        "git_commit": commit,
        "git_dirty": bool(changed) or elsewhere,
        "git_changes": sorted(changed)[:CHANGES],
    }


def _is_module(path: str) -> bool:
    return "__pycache__" not in path and path.endswith((*SOURCE_SUFFIXES, *EXTENSION_SUFFIXES))


def _imported_from(root: Path) -> Iterator[str]:
    """Files of the modules that this process has imported from a folder, but for an environment that lies in it."""
    environment = Path(sys.prefix).resolve()
    for module in list(sys.modules.values()):
        # Names that torch makes up for modules of its own are not absolute.
        if (file := getattr(module, "__file__", None)) is not None and os.path.isabs(file):
            path = _real(file)
            if path.is_relative_to(root) and not path.is_relative_to(environment):
                yield path.relative_to(root).as_posix()


@cache
def _real(file: str) -> Path:
    """Path without links; there are thousands of modules, in some hundred folders."""
    path = Path(file)
    return path.resolve() if path.is_symlink() else _real_folder(path.parent) / path.name


@cache
def _real_folder(folder: Path) -> Path:
    return folder.resolve()


def package_versions(names: Sequence[str] = PACKAGES) -> dict[str, str]:
    """Installed versions; packages that are not installed are left out."""
    found = {}
    for name in names:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def environment() -> dict[str, Any]:
    """Packages, Python and hardware of this process."""
    return {
        "packages": package_versions(),
        "python": platform.python_version(),
        "hardware": {
            "host": platform.node(),
            "machine": platform.machine(),
            "system": platform.system(),
            "cores": os.cpu_count(),
        },
    }


def describe(
    *, stage: str, spec: Mapping[str, Any], inputs: Mapping[str, str], started: float, **extra: Any
) -> dict[str, Any]:
    """The content of a ``provenance.json``.

    ``code`` says where the members of registries come from that this process has used.

    Args:
        stage: stage that made the result.
        spec: the resolved settings that shaped it.
        inputs: path to hex SHA-256 of each input.
        started: ``time.time()`` at the start, seconds since the epoch.
        extra: anything else worth keeping, e.g. ``seed``, ``dtype``, ``hardware``.
    """
    from artifacts.atomic import json_sha256

    return {
        "stage": stage,
        "spec": dict(spec),
        "config_sha256": json_sha256(spec),
        "inputs": dict(inputs),
        **git_state(),
        "code": loaded(),
        **environment(),
        "started": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(started)),
        "wall_seconds": round(time.time() - started, 3),
        **extra,
    }
