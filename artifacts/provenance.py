"""Where a result comes from: code, configuration, inputs, packages, hardware, time."""

from __future__ import annotations

import os
import platform
import subprocess
import time
from collections.abc import Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

PACKAGES = ("torch", "diffusers", "transformers", "open_clip_torch", "pillow", "numpy", "pyarrow", "snakemake")


def git_state() -> dict[str, Any]:
    """Commit and dirty flag of the repository this code lies in; nulls outside a repository."""
    folder = Path(__file__).resolve().parent

    def git(*arguments: str) -> str | None:
        try:
            answer = subprocess.run(
                ["git", "-C", str(folder), *arguments], capture_output=True, text=True, timeout=20, check=True
            )
        except (OSError, subprocess.SubprocessError):
            return None
        return answer.stdout.strip()

    commit, status = git("rev-parse", "HEAD"), git("status", "--porcelain", "--untracked-files=no")
    return {"git_commit": commit, "git_dirty": None if status is None else bool(status)}


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
        "hardware": {"machine": platform.machine(), "system": platform.system(), "cores": os.cpu_count()},
    }


def describe(
    *, stage: str, spec: Mapping[str, Any], inputs: Mapping[str, str], started: float, **extra: Any
) -> dict[str, Any]:
    """The content of a ``provenance.json``.

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
        **environment(),
        "started": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(started)),
        "wall_seconds": round(time.time() - started, 3),
        **extra,
    }
