"""What lies at a path, by content: for weights, prompt files and results that have to be told from one another.

Reading gigabytes takes a while, so the digest of a file is remembered with its size and the time of its last change and
computed again when one of the two is another. A copy with new time stamps is read once more and found equal; another
file in the same place is found whatever its time stamp, unless size and time are both the same.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from artifacts.atomic import file_sha256, json_sha256, write_json
from artifacts.errors import InputError

REMEMBERED_FROM = 1 << 20
"""Bytes from which a digest is remembered; what is smaller is read each time."""
SHOWN_FROM = 1 << 30
"""Bytes from which reading a file is worth a line to whoever waits."""
BY_SIZE = frozenset(
    {
        *(".png", ".jpg", ".jpeg", ".webp", ".gif", ".bmp", ".tif", ".tiff", ".avif", ".mp4"),
        *(".parquet", ".arrow", ".npz", ".npy", ".tar", ".tgz", ".gz", ".zip", ".zst"),
    }
)
"""Suffixes of data that count by size within a folder: a data set may be terabytes."""
IGNORED = frozenset([".md"])
"""Suffixes of files within a folder that no program reads."""


@dataclass
class Contents:
    """Digests of files and folders.

    Paths are remembered as they are given, so a memory of relative ones may be moved with what it describes.

    Attributes:
        memory: file that remembers digests from one process to the next; ``None`` remembers nothing.
    """

    memory: Path | None = None
    _known: dict[str, list[Any]] | None = field(default=None, repr=False)
    _digests: dict[str, str | None] = field(default_factory=dict, repr=False)

    def learn(self, known: Mapping[str, list[Any]]) -> None:
        """Take digests that another record has: size in bytes, time of change in nanoseconds and digest, by file."""
        for path, entry in known.items():
            self._remembered.setdefault(path, entry)

    def file(self, path: Path) -> str:
        """Hex SHA-256 of a file.

        Raises:
            OSError: it cannot be read.
        """
        status = path.stat()
        if status.st_size < REMEMBERED_FROM:
            return file_sha256(path)
        key, state = path.as_posix(), [status.st_size, status.st_mtime_ns]
        if (entry := self._remembered.get(key)) and entry[:2] == state:
            return str(entry[2])
        if status.st_size >= SHOWN_FROM:
            print(f"{path}: reading {status.st_size / 1e9:.1f} GB to know its content", file=sys.stderr)
        digest = file_sha256(path)
        self._remembered[key] = [*state, digest]
        if self.memory is not None:
            write_json(self.memory, self._remembered)
        return digest

    def digest(self, path: Path) -> str | None:
        """Digest of a file, or of what counts in a folder and below; ``None`` if nothing is there.

        In a folder, pictures, tables and archives count by name and size and all else by name and content; hidden
        files and ``.md`` files do not count. Looked up once an object of this class.

        Raises:
            InputError: what is there cannot be read.
        """
        key = path.as_posix()
        if key not in self._digests:
            try:
                self._digests[key] = self._digest(path)
            except OSError as error:
                raise InputError(f"{error.filename}: {error.strerror}; make it readable") from error
        return self._digests[key]

    def _digest(self, path: Path) -> str | None:
        if path.is_file():
            return self.file(path)
        if not path.is_dir():
            return None
        return json_sha256(
            [
                [name, size if Path(name).suffix.lower() in BY_SIZE else self.file(path / name)]
                for name, size in listing(path)
                if Path(name).suffix.lower() not in IGNORED
            ]
        )

    @property
    def _remembered(self) -> dict[str, list[Any]]:
        if self._known is None:
            self._known = {}
            if self.memory is not None:
                # Only a memory: without it files are read again.
                with suppress(OSError, ValueError):
                    self._known.update(json.loads(self.memory.read_text(encoding="utf-8")))
        return self._known


def listing(folder: Path) -> list[tuple[str, int]]:
    """Names relative to a folder, and sizes in bytes, of the files in it and below that are not hidden, by name."""
    return sorted(_files(folder, ""))


def _files(folder: Path, prefix: str) -> Iterator[tuple[str, int]]:
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.name.startswith("."):
                continue
            if entry.is_dir():
                yield from _files(Path(entry.path), f"{prefix}{entry.name}/")
            elif entry.is_file():
                yield f"{prefix}{entry.name}", entry.stat().st_size
