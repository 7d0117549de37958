"""One reader of YAML: numbers as YAML 1.2 has them, no key twice, no alias that leads to itself.

Every error is one line with its place.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import yaml

from artifacts.errors import InputError
from artifacts.validation import MISSING, Problem, short

MOST_VALUES = 1_000_000
"""Values of a file, aliases written out; more are a mistake or an attack."""

_INTEGER, _FLOAT = "tag:yaml.org,2002:int", "tag:yaml.org,2002:float"
_NUMBERS = {
    _INTEGER: r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+",
    _FLOAT: r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)",
}
"""What is a number in the core schema of YAML 1.2, integers first; YAML 1.1 has octal, binary and base 60 besides."""


class _Loader(yaml.SafeLoader):  # type: ignore[misc]
    """Reads numbers as YAML 1.2 has them: ``1e-4`` is one, ``010`` is ten, and ``1:30`` is a text, not ninety."""

    yaml_implicit_resolvers: ClassVar[dict[str, list[Any]]] = {
        first: [found for found in resolvers if found[0] not in _NUMBERS]
        for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }

    def construct_object(self, node: yaml.Node, deep: bool = False) -> Any:
        """As :class:`yaml.SafeLoader`; what YAML takes for a date or a number and Python does not, has a place too."""
        try:
            return super().construct_object(node, deep=deep)
        except (ValueError, TypeError, AttributeError, KeyError, OverflowError) as error:
            problem = f"{short(node.value)} cannot be read as {node.tag.rpartition(':')[2]}; quote it if it is a text"
            raise yaml.MarkedYAMLError(problem=problem, problem_mark=node.start_mark) from error


def _integer(loader: yaml.SafeLoader, node: yaml.ScalarNode) -> int:
    text = str(loader.construct_scalar(node))
    base = {"0o": 8, "0x": 16}.get(text[:2], 10)
    return int(text, base)


for _tag, _pattern in _NUMBERS.items():
    _Loader.add_implicit_resolver(_tag, re.compile(f"^({_pattern})$"), list("-+.0123456789"))
_Loader.add_constructor(_INTEGER, _integer)


def read_yaml(path: str | Path) -> tuple[Any, list[Problem]]:
    """The content of a YAML file, and the keys that stand in it twice.

    Raises:
        InputError: the file cannot be read, or is not YAML that has an end; in one line, with the place.
    """
    try:
        text = Path(path).read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not UTF-8"
        raise InputError(f"{path}: {reason}; give a readable YAML file") from error
    try:
        node = yaml.compose(text, _Loader)
        if node is None:
            return None, []
        _size(node, {})
        return yaml.load(text, _Loader), list(_repeated(node, (), set()))
    except yaml.YAMLError as error:
        what = getattr(error, "problem", None) or getattr(error, "reason", None) or "cannot be read"
        raise InputError(f"{path}: {_place(error, text)}not YAML: {what}") from error
    except RecursionError as error:
        raise InputError(f"{path}: nested too deeply to be read; expected a few levels of keys") from error


def read_mapping(path: str | Path) -> dict[str, Any]:
    """As :func:`read_yaml`, of a file that holds keys with values.

    Raises:
        InputError: as :func:`read_yaml`, or the file holds something else, or a key twice.
    """
    content, repeated = read_yaml(path)
    if not isinstance(content, dict):
        raise InputError(f"{path}: expected keys with values, found {type(content).__name__}")
    if repeated:
        raise InputError("; ".join(problem.line(source=str(path)) for problem in repeated))
    return content


def _place(error: yaml.YAMLError, text: str) -> str:
    mark = getattr(error, "problem_mark", None)
    if mark is not None:
        return f"line {mark.line + 1}, column {mark.column + 1}: "
    if isinstance(position := getattr(error, "position", None), int):
        before = text[:position]
        return f"line {before.count(chr(10)) + 1}, column {position - before.rfind(chr(10))}: "
    return ""


def _size(node: yaml.Node, sizes: dict[int, int | None]) -> int:
    """Values below a node, aliases written out.

    Raises:
        yaml.YAMLError: an alias leads to itself, or there are too many values.
    """
    if id(node) not in sizes:
        # No size while its children are counted.
        sizes[id(node)] = None
        parts = node.value if isinstance(node, yaml.CollectionNode) else ()
        inner = [x for part in parts for x in (part if isinstance(part, tuple) else (part,))]
        sizes[id(node)] = 1 + sum(_size(part, sizes) for part in inner)
    size = sizes[id(node)]
    if size is None:
        raise yaml.MarkedYAMLError(problem="an alias leads back to what holds it", problem_mark=node.start_mark)
    if size > MOST_VALUES:
        problem = f"aliases make more than {MOST_VALUES} values of it"
        raise yaml.MarkedYAMLError(problem=problem, problem_mark=node.start_mark)
    return size


def _repeated(node: yaml.Node, path: tuple[str | int, ...], seen: set[int]) -> Iterator[Problem]:
    """Keys that stand twice in one mapping; YAML would silently take the last."""
    if id(node) in seen:
        return
    seen.add(id(node))
    if isinstance(node, yaml.SequenceNode):
        for index, item in enumerate(node.value):
            yield from _repeated(item, (*path, index), seen)
    if isinstance(node, yaml.MappingNode):
        lines: dict[str, int] = {}
        for key, value in node.value:
            name, line = str(key.value), key.start_mark.line + 1
            if name in lines:
                yield Problem((*path, name), MISSING, f"given on line {lines[name]} and on line {line}; expected once")
            lines[name] = line
            yield from _repeated(value, (*path, name), seen)
