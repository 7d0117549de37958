"""A job of the workflow as a job of Kubernetes: a template, with what the job asks for filled in."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import Any

from artifacts.errors import InputError

_PROPERTIES = "# properties = "
"""How the line of Snakemake's script of a job begins that says what the job is."""


def kubernetes_job(template: str | Path, script: str | Path, *, folder: str | Path | None = None) -> dict[str, Any]:
    """The job's manifest, as JSON and YAML spell it.

    Args:
        template: YAML of a job. In its texts ``{script}`` and ``{folder}`` are paths, ``{rule}`` is the job's and
            ``{name}`` that with its wildcards, ``{threads}``, ``{gpus}``, ``{memory_mb}`` and ``{seconds}`` are
            numbers, and ``{digest}`` is the same for jobs that write the same files by the same template. Limits of 0
            are left out.
        script: Snakemake's, of the job.
        folder: where the workflow runs; the current one if not given.

    Raises:
        InputError: a file is not there or is none of its kind.
    """
    import yaml

    try:
        text = Path(template).read_text(encoding="utf-8")
        manifest = yaml.safe_load(text)
    except (OSError, yaml.YAMLError) as error:
        raise InputError(
            f"{template}: {' '.join(str(error).split())}; expected the YAML of a job of Kubernetes"
        ) from None
    job, folder = _properties(Path(script)), str(Path(folder or os.getcwd()).resolve())
    resources = job["resources"]
    written = json.dumps([text, folder, job["output"]])
    values = {
        "script": str(Path(script).resolve()),
        "folder": folder,
        "name": " ".join([job["rule"], *job.get("wildcards", {}).values()]),
        # Names of Kubernetes have no underscores.
        "rule": job["rule"].replace("_", "-"),
        "digest": hashlib.sha256(written.encode()).hexdigest()[:12],
        "threads": job["threads"],
        "gpus": resources.get("gpu", 0),
        "memory_mb": resources["mem_mb"],
        "seconds": 60 * resources["runtime"],
    }
    filled: dict[str, Any] = _filled(manifest, values, str(template))
    return filled


def _properties(script: Path) -> dict[str, Any]:
    try:
        lines = script.read_text(encoding="utf-8").splitlines()
        (line,) = (line for line in lines if line.startswith(_PROPERTIES))
        found: dict[str, Any] = json.loads(line.removeprefix(_PROPERTIES))
    except (OSError, ValueError) as error:
        raise InputError(f"{script}: {error}; expected the script of a job, by Snakemake") from None
    return found


def _filled(part: Any, values: dict[str, Any], where: str) -> Any:
    if isinstance(part, dict):
        filled = {key: _filled(value, values, where) for key, value in part.items()}
        if isinstance(limits := filled.get("limits"), dict):
            filled["limits"] = {key: value for key, value in limits.items() if value != 0}
        return filled
    if isinstance(part, list):
        return [_filled(value, values, where) for value in part]
    if not isinstance(part, str):
        return part
    # A number where the text is nothing else, since Kubernetes takes no text for one.
    if part[:1] == "{" and part[1:-1] in values and part[-1:] == "}":
        return values[part[1:-1]]
    try:
        return part.format_map(values)
    except (KeyError, ValueError, IndexError):
        raise InputError(f"{where}: '{part}': expected in braces one of {', '.join(values)}") from None
