"""From a YAML file to a checked :class:`~pipeline.config.benchmark.Benchmark`."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from pipeline.config.benchmark import Benchmark
from pipeline.config.checks import cross_checks, missing_files
from pipeline.config.problems import MISSING, ConfigError, Problem, from_pydantic


class _Loader(yaml.SafeLoader):  # type: ignore[misc]
    """Reads ``1e-4`` as a number, as YAML 1.2 does; YAML 1.1 wants ``1.0e-4``."""


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"^[-+]?[0-9]+(\.[0-9]*)?[eE][-+]?[0-9]+$"), list("-+0123456789")
)


def load(path: str | Path, *, check_files: bool = True) -> Benchmark:
    """Read and check a config file.

    Args:
        path: YAML file.
        check_files: whether the weights it names must be there.

    Raises:
        ConfigError: with all errors of the file, one line each.
    """
    data, repeated = read_yaml(path)
    return validate(data, source=str(path), check_files=check_files, found=repeated)


def read_yaml(path: str | Path) -> tuple[Any, list[Problem]]:
    """The content of a YAML file, and the keys that stand in it twice.

    Raises:
        ConfigError: the file cannot be read, or is not YAML.
    """
    try:
        text = Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not UTF-8"
        raise ConfigError([f"{path}: {reason}; give a readable YAML file"]) from error
    try:
        node = yaml.compose(text, _Loader)
        return yaml.load(text, _Loader), list(_repeated(node, ())) if node else []
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f"line {mark.line + 1}, column {mark.column + 1}: " if mark else ""
        what = getattr(error, "problem", None) or "cannot be read"
        raise ConfigError([f"{path}: {where}not YAML: {what}"]) from error


def validate(
    data: Any,
    *,
    source: str | None = None,
    check_files: bool = True,
    folder: str | Path = ".",
    found: list[Problem] | None = None,
) -> Benchmark:
    """Check a config.

    Args:
        data: the config as read from YAML.
        source: file it was read from, named in every line.
        check_files: whether the weights it names must be there.
        folder: what relative paths are relative to.
        found: errors known already.

    Raises:
        ConfigError: with all errors, one line each.
    """
    problems = list(found or [])
    if not isinstance(data, Mapping):
        raise ConfigError([f"{source or 'config'}: expected keys with values, got {type(data).__name__}"])
    benchmark = None
    try:
        benchmark = Benchmark.model_validate(dict(data))
    except ValidationError as error:
        problems += from_pydantic(error, Benchmark)
    problems += cross_checks(data)
    if check_files:
        problems += missing_files(data, Path(folder))
    if problems or benchmark is None:
        raise ConfigError([problem.line(data, source) for problem in problems])
    return benchmark


def _repeated(node: yaml.Node, path: tuple[str | int, ...]) -> Iterator[Problem]:
    """Keys that stand twice in one mapping; YAML would silently take the last."""
    if isinstance(node, yaml.SequenceNode):
        for index, item in enumerate(node.value):
            yield from _repeated(item, (*path, index))
    if isinstance(node, yaml.MappingNode):
        lines: dict[str, int] = {}
        for key, value in node.value:
            name, line = str(key.value), key.start_mark.line + 1
            if name in lines:
                yield Problem((*path, name), MISSING, f"given on line {lines[name]} and on line {line}; expected once")
            lines[name] = line
            yield from _repeated(value, (*path, name))
