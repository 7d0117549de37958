"""Registries: built-in modules of a package, and plug-ins announced by entry points.

A built-in is a module ``<package>/<name>.py``: dropping in a file registers it. A plug-in of another
distribution is an entry point in the registry's group whose value names a module with the same
attributes. Names are listed without importing anything.
"""

from __future__ import annotations

import difflib
import importlib
import pkgutil
from dataclasses import dataclass
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from types import ModuleType

from artifacts.errors import InputError


def nearest(name: str, known: list[str]) -> str:
    """``"; did you mean 'x'?"`` for the closest known name, or an empty string."""
    match = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    return f"; did you mean '{match[0]}'?" if match else ""


@cache
def _entry_points(group: str) -> dict[str, EntryPoint]:
    return {point.name: point for point in entry_points(group=group)}


@dataclass(frozen=True)
class Registry:
    """Modules that implement one interface.

    Args:
        kind: what a member is called in messages, e.g. ``objective``.
        package: package whose public modules are the built-in members; ``None`` if there are none.
        group: entry-point group of plug-ins.
        not_members: public modules of the package that are not members.
    """

    kind: str
    package: str | None
    group: str
    not_members: tuple[str, ...] = ()

    def names(self) -> list[str]:
        """All names, sorted; nothing is imported but the package itself."""
        return sorted({*self._built_in(), *_entry_points(self.group)})

    def load(self, name: str) -> ModuleType:
        """Import the member.

        Raises:
            InputError: no member has this name, or a plug-in takes the name of a built-in.
        """
        built_in, plugins = self._built_in(), _entry_points(self.group)
        if name in built_in and name in plugins:
            raise InputError(f"{self.kind} '{name}' is defined by the project and again by {plugins[name].value}")
        if name in built_in:
            return importlib.import_module(f"{self.package}.{name}")
        if name in plugins:
            module = plugins[name].load()
            assert isinstance(module, ModuleType)
            return module
        known = self.names()
        raise InputError(f"unknown {self.kind} '{name}': expected one of {', '.join(known)}{nearest(name, known)}")

    def _built_in(self) -> list[str]:
        if self.package is None:
            return []
        path = importlib.import_module(self.package).__path__
        modules = (m.name for m in pkgutil.iter_modules(path))
        return [m for m in modules if not m.startswith("_") and m not in self.not_members]
