"""Registries: built-in modules of a package, and plug-ins announced by entry points.

A built-in is a module ``<package>/<name>.py``: dropping in a file registers it. A plug-in of another
distribution is an entry point in the registry's group whose value names a module with the same
attributes. Names are listed without importing anything; a member that is broken is an error of those who use it only.
"""

from __future__ import annotations

import difflib
import importlib
import inspect
import pkgutil
import traceback
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import cache
from importlib.metadata import EntryPoint, PackageNotFoundError, entry_points, version
from pathlib import Path
from types import ModuleType
from typing import Any

from artifacts.errors import InputError
from artifacts.source_digest import source_digest

OWN = "sdpo-bench"
"""Distribution of the project itself."""


def nearest(name: str, known: list[str]) -> str:
    """``"; did you mean 'x'?"`` for the closest known name, or an empty string."""
    match = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    return f"; did you mean '{match[0]}'?" if match else ""


def place(error: BaseException, file: str | None = None) -> str:
    """What an exception says and where it was raised, in one line: for errors in code that its reader has written.

    Args:
        file: whose deepest frame is named; left out, the deepest that is neither the import system's nor this module's.
    """
    text = " ".join(f"{type(error).__name__}: {error}".split()).removesuffix(":")
    if isinstance(error, SyntaxError) and error.filename is not None:
        return f"{type(error).__name__}: {error.msg} ({error.filename}, line {error.lineno})"
    frames = [
        frame
        for frame in traceback.extract_tb(error.__traceback__)
        if not frame.filename.startswith("<frozen") and Path(frame.filename).parent.name != "importlib"
    ]
    chosen = [f for f in frames if f.filename == file] or [f for f in frames if f.filename != __file__]
    return f"{text} ({chosen[-1].filename}, line {chosen[-1].lineno})" if chosen else text


@contextmanager
def told(what: str, file: str | None) -> Iterator[None]:
    """Turn what a member's code raises into one line with its place, for whoever has written it.

    What is meant to be read as it is passes, and so does want of memory, a GPU's too.

    Args:
        what: of which member, for the message.
        file: of the member.
    """
    try:
        yield
    except (InputError, MemoryError):
        raise
    # Some code leaves the program.
    except (Exception, SystemExit) as error:
        # By its name, since nothing here imports torch.
        if type(error).__name__ == "OutOfMemoryError":
            raise
        raise InputError(f"{what} fails: {place(error, file)}") from error


@cache
def _entry_points(group: str) -> dict[str, tuple[EntryPoint, ...]]:
    found: dict[str, tuple[EntryPoint, ...]] = {}
    for point in sorted(entry_points(group=group), key=lambda point: point.value):
        # A distribution that is on the path twice announces the same thing twice.
        if point.value not in [known.value for known in found.get(point.name, ())]:
            found[point.name] = (*found.get(point.name, ()), point)
    return found


@dataclass(frozen=True)
class Call:
    """How a function of a member is called.

    Args:
        positional: names of the arguments that are given by place.
        keywords: names of those that are given by name.
        only_if: keywords that are given only to members with an attribute of this name: keyword to attribute.
    """

    positional: tuple[str, ...] = ()
    keywords: tuple[str, ...] = ()
    only_if: Mapping[str, str] = field(default_factory=dict)

    def problem(self, member: Any, name: str) -> str:
        """What is wrong with the function ``name`` of a member; empty if nothing is."""
        function = getattr(member, name)
        if not callable(function):
            return f"{name} is {function!r}, expected a function"
        keywords = [*self.keywords, *(word for word, attribute in self.only_if.items() if hasattr(member, attribute))]
        try:
            inspect.signature(function).bind(*self.positional, **dict.fromkeys(keywords))
        except TypeError as error:
            shown = ", ".join([*self.positional, *(f"{word}=…" for word in keywords)])
            return f"{name}{inspect.signature(function)}: {error}; it is called as {name}({shown})"
        # Functions of C have no signature that could be read.
        except ValueError:
            return ""
        return ""


@dataclass(frozen=True)
class Registry:
    """Modules that implement one interface.

    Args:
        kind: what a member is called in messages, e.g. ``objective``.
        package: package whose public modules are the built-in members; ``None`` if there are none.
        group: entry-point group of plug-ins.
        shared: packages that built-in members are built from: what a member imports of them is part of its source.
        attributes: what a member has to define, and of what type.
        optional: attributes that a member may define, and of what type; one that is spelled nearly so is an error.
        calls: functions that a member has to define, and how they are called.
        optional_calls: functions that a member may define, and how they are called.
    """

    kind: str
    package: str | None
    group: str
    shared: tuple[str, ...] = ()
    attributes: Mapping[str, type] = field(default_factory=dict)
    optional: Mapping[str, type] = field(default_factory=dict)
    calls: Mapping[str, Call] = field(default_factory=dict)
    optional_calls: Mapping[str, Call] = field(default_factory=dict)

    def names(self) -> list[str]:
        """All names, sorted; nothing is imported but the package itself."""
        return sorted({*self._built_in(), *_entry_points(self.group)})

    def load(self, name: str) -> ModuleType:
        """Import the member.

        Raises:
            InputError: no member has this name, more than one has, or the one that has it cannot be imported or does
                not define what a member must.
        """
        built_in, plugins = self._built_in(), _entry_points(self.group).get(name, ())
        owners = [*(["the project"] if name in built_in else []), *map(_origin, plugins)]
        if len(owners) > 1:
            raise InputError(
                f"{self.kind} '{name}' is defined by {owners[0]} and again by {' and by '.join(owners[1:])}; "
                "rename it in one of them"
            )
        if not owners:
            known = self.names()
            raise InputError(f"unknown {self.kind} '{name}': expected one of {', '.join(known)}{nearest(name, known)}")
        where = f"{self.kind} '{name}'{f' of {owners[0]}' if plugins else ''}"
        try:
            module = plugins[0].load() if plugins else importlib.import_module(f"{self.package}.{name}")
        except InputError:
            raise
        # Whatever is raised while a module is imported, its author is to read where; some modules leave the program.
        except (Exception, SystemExit) as error:
            raise InputError(f"{where}: cannot be imported: {place(error)}") from error
        if not isinstance(module, ModuleType):
            raise InputError(f"{where}: expected the name of a module, which holds {', '.join(self._interface())}")
        if problems := self._problems(module):
            raise InputError(f"{where}: module {module.__name__}: {'; '.join(problems)}")
        # Python runs a module once, so the source that it had then is the one that counts.
        if _loaded.get(key := f"{self.kind} {name}", (None, {}))[0] is not module:
            _loaded[key] = module, self.origin(name)
        return module

    def origin(self, name: str) -> dict[str, str | None]:
        """Where a member comes from, without importing it.

        Returns:
            ``module``, ``package`` and ``version`` of the distribution, and ``sha256`` of the source
            (:func:`artifacts.source_digest.source_digest`): of a built-in member and what it imports of the registry's
            packages, of a plug-in and what it imports of its own. All ``None`` for a name that nobody has.
        """
        if name in self._built_in():
            module = f"{self.package}.{name}"
            packages = () if self.package is None else (self.package, *self.shared)
            return {"module": module, **_distribution(None), "sha256": source_digest(module, *packages)}
        for point in _entry_points(self.group).get(name, ()):
            return {"module": point.module, **_distribution(point), "sha256": source_digest(point.module)}
        return dict.fromkeys(("module", "package", "version", "sha256"))

    def file(self, name: str) -> str | None:
        """File of a member that this process has loaded."""
        module, _ = _loaded.get(f"{self.kind} {name}", (None, {}))
        return getattr(module, "__file__", None)

    def source(self, name: str) -> str | None:
        """Digest of a member's source, which is part of what shapes its results; see :meth:`origin`."""
        return self.origin(name)["sha256"]

    def _interface(self) -> list[str]:
        return [*self.attributes, *self.calls]

    def _problems(self, module: ModuleType) -> list[str]:
        """What a module lacks of the interface."""
        missing = [name for name in self._interface() if not hasattr(module, name)]
        problems = [f"does not define {', '.join(missing)}"] if missing else []
        known = {**self.attributes, **self.optional}
        for name, kind in known.items():
            if hasattr(module, name) and not isinstance(value := getattr(module, name), kind):
                problems.append(f"{name} is {value!r}, expected a {kind.__name__}")
        for name in sorted(vars(module).keys() - known.keys()):
            if name.isupper() and (meant := difflib.get_close_matches(name, self.optional, n=1, cutoff=0.85)):
                problems.append(f"defines {name}; did you mean {meant[0]}? Nothing asks for {name}")
        for name, call in {**self.calls, **self.optional_calls}.items():
            if hasattr(module, name) and (problem := call.problem(module, name)):
                problems.append(problem)
        return problems

    def _built_in(self) -> list[str]:
        if self.package is None:
            return []
        path = importlib.import_module(self.package).__path__
        modules = (m.name for m in pkgutil.iter_modules(path))
        return [m for m in modules if not m.startswith("_")]


_loaded: dict[str, tuple[ModuleType, dict[str, str | None]]] = {}


def loaded() -> dict[str, dict[str, str | None]]:
    """Where the members come from that this process has loaded (:meth:`Registry.origin`), by kind and name."""
    return {key: origin for key, (_, origin) in sorted(_loaded.items())}


def _distribution(point: EntryPoint | None) -> dict[str, str | None]:
    """Name and version of the distribution of a plug-in, or of the project."""
    if point is not None:
        found = point.dist
        return (
            {"package": None, "version": None} if found is None else {"package": found.name, "version": found.version}
        )
    return {"package": OWN, "version": _own_version()}


@cache
def _own_version() -> str | None:
    with suppress(PackageNotFoundError):
        return version(OWN)
    return None


def _origin(point: EntryPoint) -> str:
    """The package of an entry point and what it points to."""
    package = f"package {point.dist.name}, " if point.dist is not None else ""
    return f"{package}entry point {point.value}"
