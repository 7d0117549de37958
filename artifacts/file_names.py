"""Names of files as people and other systems write them.

A shell has the home folder under ``~``, macOS decomposes letters, Windows separates folders by backslashes.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from artifacts.errors import InputError


def user_path(path: str | Path) -> Path:
    """A path as a person writes it into a config, where ``~`` is the home folder; that of an unknown user stays."""
    try:
        return Path(path).expanduser()
    except RuntimeError:
        return Path(path)


def user_options(value: Any) -> Any:
    """Options of somebody's own kind: what begins with ``~/`` in them, at any depth, is a :func:`user_path`."""
    if isinstance(value, str):
        return str(user_path(value)) if value.startswith("~/") else value
    if isinstance(value, Mapping):
        return {key: user_options(inner) for key, inner in value.items()}
    return [user_options(inner) for inner in value] if isinstance(value, list) else value


def normal(name: str) -> str:
    """The form (NFC) in which names are compared."""
    return unicodedata.normalize("NFC", name)


def check_distinct(folder: Path, names: Iterable[str]) -> None:
    """Refuse names that differ by their Unicode form only: whoever names one may mean either.

    Raises:
        InputError: there are two.
    """
    seen: dict[str, str] = {}
    for name in names:
        if (other := seen.setdefault(normal(name), name)) != name:
            raise InputError(f"{folder}: {other!a} and {name!a} differ only in how letters are composed; rename one")


@dataclass(frozen=True)
class FileNames:
    """Files below a folder by the names that a list gives them; folders are read once."""

    folder: Path
    _listings: dict[Path, dict[str, list[str]]] = field(default_factory=dict)

    def find(self, name: str) -> Path:
        """The file of a name: as it is spelled, else in the form and with the separators that the disk has.

        Where there is none, the path that the name spells.

        Raises:
            InputError: two files differ from the name by their Unicode form only.
        """
        spelled = self.folder / name
        if _exists(spelled):
            return spelled
        path = Path("/") if name.startswith("/") else self.folder
        for part in re.split(r"[/\\]", name):
            if part in ("", "."):
                continue
            if not _exists(path / part):
                found = self._listing(path).get(normal(part), [])
                if len(found) > 1:
                    check_distinct(path, found)
                part = found[0] if found else part
            path = path / part
        return path if _exists(path) else spelled

    def _listing(self, folder: Path) -> dict[str, list[str]]:
        if folder not in self._listings:
            listing: dict[str, list[str]] = {}
            for path in folder.iterdir() if folder.is_dir() else ():
                listing.setdefault(normal(path.name), []).append(path.name)
            self._listings[folder] = listing
        return self._listings[folder]


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    # A name that is too long, or holds what no name can.
    except (OSError, ValueError):
        return False


def natural_key(name: str) -> list[tuple[int, int, str]]:
    """Sort key by which ``2.png`` comes before ``10.png``."""
    return [(0, int(part), part) if part.isdecimal() else (1, 0, part) for part in re.split(r"([0-9]+)", name) if part]
