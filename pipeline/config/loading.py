"""From a YAML file to a checked :class:`~pipeline.config.benchmark.Benchmark`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from artifacts.errors import InputError
from artifacts.validation import ConfigError, Problem, check
from artifacts.yaml_files import read_yaml
from pipeline.config.benchmark import Benchmark
from pipeline.config.checks import cross_checks
from pipeline.config.named_files import missing_files, unreadable


def load(path: str | Path, *, check_files: bool = True, read_files: bool = False) -> Benchmark:
    """Read and check a config file.

    Args:
        path: YAML file.
        check_files: whether the weights and files that it names must be there.
        read_files: whether bases and prompts that need no download are read too, which takes a second.

    Raises:
        ConfigError: with all errors of the file, one line each.
    """
    try:
        data, repeated = read_yaml(path)
    except InputError as error:
        raise ConfigError([str(error)]) from error
    return validate(data, source=str(path), check_files=check_files, read_files=read_files, found=repeated)


def validate(
    data: Any,
    *,
    source: str | None = None,
    check_files: bool = True,
    read_files: bool = False,
    folder: str | Path = ".",
    found: list[Problem] | None = None,
) -> Benchmark:
    """Check a config.

    Args:
        data: the config as read from YAML.
        source: file it was read from, named in every line.
        check_files: whether the weights and files that it names must be there.
        read_files: whether bases and prompts that need no download are read too, relative to the working directory.
        folder: what other relative paths are relative to.
        found: errors known already.

    Raises:
        ConfigError: with all errors, one line each.
    """
    if not isinstance(data, Mapping):
        raise ConfigError([f"{source or 'config'}: expected keys with values, got {type(data).__name__}"])
    benchmark, wrong = check(Benchmark, data)
    problems = [*(found or []), *wrong, *cross_checks(data)]
    if check_files:
        problems += missing_files(data, Path(folder))
    if read_files and not wrong:
        problems += unreadable(data)
    if problems or benchmark is None:
        lines = [problem.line(source=source, note=_variant(data, problem.path)) for problem in problems]
        raise ConfigError(list(dict.fromkeys(lines)))
    return benchmark


def _variant(data: Mapping[Any, Any], path: tuple[str | int, ...]) -> str:
    """Which variant a key belongs to, by its name."""
    try:
        name = data[path[0]][path[1]]["name"] if path[0] == "variants" else None
    except (TypeError, KeyError, IndexError):
        return ""
    return f" (variant '{name}')" if isinstance(name, str) else ""
