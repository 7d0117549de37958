"""Digest of a module's source, found without importing it: what an author's edit of a plug-in changes.

Comments, docstrings and layout do not count. Of the modules that it imports, at any place and however indirectly, those
count that lie in the same package as it does, or in one that its registry shares; for what lies outside there are the
numbers of stages and the versions of packages. A module that is no Python text counts by its bytes. Of other files
those count that lie beside one of these modules, or in a folder beside it, and that a text in it names.
"""

from __future__ import annotations

import ast
import importlib.util
import os
from collections.abc import Iterator
from functools import cache
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path

from artifacts.atomic import file_sha256, json_sha256

_MODULES = frozenset([".py", ".pyc", ".pyi", ".so"])
_LONGEST = 60
"""Characters of a text that may be a file's name."""


def source_digest(module: str, *packages: str) -> str | None:
    """Hex digest of a module and of what it imports of some packages.

    Args:
        module: its dotted name.
        packages: whose modules count; by default the outermost one that the module lies in, and then its ``__init__``
            too: that of a registry is the registry's.

    Returns:
        ``None`` if there is no such module, or it is not in a file.
    """
    within, outermost = packages or (module.partition(".")[0],), not packages
    found: dict[str, str] = {}
    waiting = [module]
    while waiting:
        name = waiting.pop()
        inside = name.startswith(tuple(f"{package}." for package in within)) or (name in within and outermost)
        if name in found or not inside or (file := _file(name)) is None:
            continue
        path, is_package = file
        around = name.rpartition(".")[0]
        found[name], imported, texts = _read(path, name if is_package else around)
        found |= {f"{name} {file}": file_sha256(path.parent / file) for file in _data(path.parent, texts)}
        # Python runs the packages around a module first.
        waiting += [around] if around else []
        waiting += imported
    return json_sha256(found) if module in found else None


def _file(module: str) -> tuple[Path, bool] | None:
    """File of a module, and whether it is a package's ``__init__``; no package around it is run."""
    spec: ModuleSpec | None = None
    for end, part in enumerate(parts := module.split(".")):
        name = ".".join(parts[: end + 1])
        try:
            if end == 0:
                spec = importlib.util.find_spec(part)
            else:
                assert spec is not None
                spec = PathFinder.find_spec(name, list(spec.submodule_search_locations or ()))
        # A module that was made by hand has no specification.
        except ValueError:
            spec = None
        if spec is None:
            return None
    if spec is None or spec.origin is None or not (path := Path(spec.origin)).is_file():
        return None
    return path, spec.submodule_search_locations is not None


def _data(folder: Path, texts: frozenset[str]) -> list[str]:
    """Files but modules that texts name from a folder: ``words.txt``, ``data/words.txt``, or ``data`` and the rest."""
    with os.scandir(folder) as entries:
        beside = {entry.name: entry.is_dir() for entry in entries if Path(entry.name).suffix not in _MODULES}
    named = [text for text in texts if text.partition("/")[0] in beside]
    inside = [f"{name}/{text}" for name in named if beside.get(name) for text in texts]
    return sorted({name for name in (*named, *inside) if (folder / name).is_file() and ".." not in Path(name).parts})


def _read(path: Path, package: str) -> tuple[str, tuple[str, ...], frozenset[str]]:
    """Digest of a file alone, without docstrings, what it imports and its texts; neither if it is no Python text."""
    status = path.stat()
    return _parsed(path, package, status.st_size, status.st_mtime_ns)


@cache
def _parsed(path: Path, package: str, size: int, modified_ns: int) -> tuple[str, tuple[str, ...], frozenset[str]]:
    """Parsed once a process; size and time are there to notice a change."""
    try:
        tree = ast.parse(path.read_bytes())
    except (SyntaxError, ValueError):
        return file_sha256(path), (), frozenset()
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            # Only a text at the very start is a docstring; one that stands elsewhere does nothing either.
            node.body = [line for line in node.body if not _is_text(line)] or [ast.Pass()]
    # Unparsed text is the same in all releases of Python, where the tree itself is not.
    constants = (node.value for node in ast.walk(tree) if isinstance(node, ast.Constant))
    texts = frozenset(value for value in constants if isinstance(value, str) and 0 < len(value) <= _LONGEST)
    return json_sha256(ast.unparse(tree)), tuple(dict.fromkeys(_imports(tree, package))), texts


def _is_text(line: ast.stmt) -> bool:
    return isinstance(line, ast.Expr) and isinstance(line.value, ast.Constant) and isinstance(line.value.value, str)


def _imports(tree: ast.Module, package: str) -> Iterator[str]:
    """Names that the import statements of a module in a package may mean as modules."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
            base = ".".join([*above, *([node.module] if node.module else [])])
            yield base
            yield from (f"{base}.{alias.name}" for alias in node.names)
