"""Files and directories that are complete or absent: temporary name, fsync, rename."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from artifacts import locks
from artifacts.errors import InputError

PARTIAL = ".partial"
"""Suffix of what is being written, whose name is a dot, the name of what it becomes, a dot, eight characters, and this.

It is locked while it is written (a directory by a file in it), so one that is not locked was left by a killed process.
"""
_LOCK = "lock"


@contextmanager
def writing(what: str, give: str = "a file in a folder") -> Iterator[None]:
    """What the file system says of a place that somebody named becomes one line.

    Args:
        what: the place, with the option that named it.
        give: what to name, other than this.

    Raises:
        InputError: it cannot be written.
    """
    try:
        yield
    except OSError as error:
        raise InputError(
            f"{what}: cannot be written ({error.strerror or error}); give {give} that can be written"
        ) from error


@contextmanager
def replaced_file(path: str | Path) -> Iterator[Path]:
    """Yield a temporary path in the same folder; on success it is synced and renamed to ``path``.

    On any exception the temporary file is removed and ``path`` is left as it was. What a killed process left when it
    wrote ``path`` is removed first.
    """
    path = Path(path)

    def make() -> Path:
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=PARTIAL)
        os.close(handle)
        return Path(name)

    with _written(path, make) as temporary:
        try:
            yield temporary
            with temporary.open("rb") as written:
                os.fsync(written.fileno())
            # mkstemp makes private files; results are meant to be read by others.
            temporary.chmod(0o644)
            os.replace(temporary, path)
        finally:
            temporary.unlink(missing_ok=True)


@contextmanager
def replaced_directory(path: str | Path) -> Iterator[Path]:
    """Yield a temporary directory beside ``path``; on success it takes the place of ``path``.

    The files inside are not synced one by one: a directory of images carries a manifest with their digests, by which a
    reader finds a torn file. What a killed process left when it wrote ``path`` is removed first.
    """
    path = Path(path)

    def make() -> Path:
        return Path(tempfile.mkdtemp(dir=path.parent, prefix=f".{path.name}.", suffix=PARTIAL))

    outer: Path | None = None
    try:
        with _written(path, make) as outer:
            # The lock is not to be in the directory itself.
            inner = outer / path.name
            inner.mkdir()
            yield inner
            inner.chmod(0o755)
            if path.exists():
                shutil.rmtree(path)
            os.replace(inner, path)
    finally:
        # After the lock is closed: a network disk keeps the name of an open file.
        if outer is not None:
            shutil.rmtree(outer, ignore_errors=True)


@contextmanager
def _written(path: Path, make: Callable[[], Path]) -> Iterator[Path]:
    """Make something beside ``path``, and hold its lock."""
    path.parent.mkdir(parents=True, exist_ok=True)
    _remove_left_over(path)
    while True:
        made = make()
        lock = made / _LOCK if made.is_dir() else made
        try:
            file = locks.opened(lock)
        except FileNotFoundError:
            # Another process took it for left over before it was locked; so it may below.
            continue
        with file:
            locks.locked(file, wait=True)
            if locks.is_at(file, lock):
                yield made
                return


def _remove_left_over(path: Path) -> None:
    """Remove what killed processes left when they wrote ``path``; on a disk without locks, nothing."""
    left = re.compile(rf"\.{re.escape(path.name)}\.[a-z0-9_]{{8}}{re.escape(PARTIAL)}")
    for found in [Path(entry.path) for entry in os.scandir(path.parent) if left.fullmatch(entry.name)]:
        # Somebody else may be removing it, or own it.
        with suppress(FileNotFoundError, NotADirectoryError, PermissionError):
            with locks.opened(found / _LOCK if found.is_dir() else found) as file:
                if locks.locked(file) is not True:
                    continue
                _remove(found)
            # A network disk keeps the name of an open file, here of the lock. A file is not removed twice: whoever had
            # just made it makes it anew when it asks for the lock.
            if found.is_dir():
                _remove(found)


def _remove(path: Path) -> None:
    shutil.rmtree(path, ignore_errors=True) if path.is_dir() else path.unlink(missing_ok=True)


@contextmanager
def owned(folder: Path, *, doing: str) -> Iterator[bool]:
    """Hold a folder of unfinished work alone, and remove what killed processes left half-written in it.

    Args:
        folder: made if it is not there; its lock stays in it.
        doing: what a second process, perhaps left over from a killed run, is said to do; it is waited for.

    Yields:
        Whether another process was waited for.

    Raises:
        InputError: the folder cannot be written.
    """
    with locks.held(folder / _LOCK, doing=doing) as waited:
        for left in folder.glob(f".*{PARTIAL}"):
            _remove(left)
        yield waited


def write_bytes(path: str | Path, data: bytes) -> None:
    """Write ``data`` to ``path`` atomically."""
    with replaced_file(path) as temporary:
        temporary.write_bytes(data)


def write_text(path: str | Path, text: str) -> None:
    """Write ``text`` to ``path`` atomically as UTF-8."""
    write_bytes(path, text.encode("utf-8"))


def write_json(path: str | Path, value: Any) -> None:
    """Write ``value`` as JSON with sorted keys, so that equal values are equal bytes."""
    write_text(path, json.dumps(value, indent=2, sort_keys=True, ensure_ascii=False) + "\n")


def file_sha256(path: str | Path) -> str:
    """Hex SHA-256 of a file, read in 1 MiB pieces."""
    digest = hashlib.sha256()
    with Path(path).open("rb") as file:
        while piece := file.read(1 << 20):
            digest.update(piece)
    return digest.hexdigest()


def tree_sha256(path: str | Path) -> str:
    """Hex SHA-256 over the names and contents of all files below a directory, in name order."""
    root = Path(path)
    digest = hashlib.sha256()
    for file in sorted(p for p in root.rglob("*") if p.is_file()):
        digest.update(f"{file.relative_to(root).as_posix()}\0{file_sha256(file)}\n".encode())
    return digest.hexdigest()


def json_sha256(value: Any) -> str:
    """Hex SHA-256 of a JSON value in canonical form (sorted keys, no spaces)."""
    canonical = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(canonical.encode("utf-8")).hexdigest()
