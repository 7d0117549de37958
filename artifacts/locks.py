"""Locks of files, by which processes that write the same place wait for each other.

They are advisory and belong to the open file, so the lock of a killed process is gone with it. Network disks may be
mounted without them (Lustre without ``flock``): there a warning is printed once, and the work goes on unlocked.
"""

from __future__ import annotations

import errno
import fcntl
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

from artifacts.errors import InputError

NO_LOCKS = (errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOTSUP)
"""What a disk without locks answers."""


def locked(file: IO[Any], *, wait: bool = False, rows: range | None = None) -> bool | None:
    """Lock an open file, or some bytes of it, until it is closed.

    Args:
        file: open for writing, which network disks ask for.
        wait: for whoever has it.
        rows: bytes, which need not be there; such a lock belongs to the process, not to the open file.

    Returns:
        Whether it is locked now, ``False`` only without ``wait``; ``None`` on a disk without locks.
    """
    operation = fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB)
    try:
        if rows is None:
            fcntl.flock(file, operation)
        else:
            fcntl.lockf(file, operation, len(rows), rows.start)
    except (BlockingIOError, PermissionError):
        return False
    except OSError as error:
        if error.errno not in NO_LOCKS:
            raise
        _warn(file, os.strerror(error.errno))
        return None
    return True


_warned: set[int] = set()
"""Disks without locks that have been named."""


def _warn(file: IO[Any], reason: str) -> None:
    """Say once a process and disk that it has no locks."""
    device = os.fstat(file.fileno()).st_dev
    if device not in _warned:
        _warned.add(device)
        print(
            f"warning: {file.name}: this disk has no file locks ({reason}); see that no two jobs write the same files",
            file=sys.stderr,
        )


def is_at(file: IO[Any], path: Path) -> bool:
    """Whether a path still leads to an open file, which another process may have removed or replaced."""
    with suppress(FileNotFoundError):
        return os.path.samestat(os.fstat(file.fileno()), path.stat())
    return False


def opened(path: Path) -> IO[bytes]:
    """A file to be locked, made if it is not there; a link in its place is not followed.

    Raises:
        OSError: it cannot be made or written, or is a link.
    """
    return open(path, "ab", opener=lambda name, flags: os.open(name, flags | os.O_NOFOLLOW, 0o666))


def is_held(path: Path) -> bool | None:
    """Whether a process holds a lock file now; ``None`` where that cannot be told. Nothing is written or waited for."""
    try:
        with path.open("r+b") as file:
            free = locked(file)
            return None if free is None else not free
    except FileNotFoundError:
        return False
    except OSError:
        return None


@contextmanager
def held(path: Path, *, doing: str, busy: str | None = None) -> Iterator[bool]:
    """Hold a lock file alone.

    Args:
        path: the file; it and its folder are made if they are not there.
        doing: what another process that holds it is said to do, as in ``trains this model``.
        busy: refuse with this text instead of waiting.

    Yields:
        Whether it was waited for.

    Raises:
        InputError: the file cannot be written, or another process holds it and ``busy`` is given.
    """
    waited = False
    while True:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            file = opened(path)
        except FileNotFoundError:
            # The folder was removed just now by who was done with it.
            continue
        except OSError as error:
            raise InputError(f"{path}: {error.strerror}; give a folder that can be written") from error
        with file:
            if locked(file) is False:
                if busy is not None:
                    raise InputError(f"{path.parent}: {busy}")
                print(f"{path.parent}: another process {doing}; waiting for it", file=sys.stderr)
                locked(file, wait=True)
                waited = True
            # Else it was removed while it was waited for, and keeps out nobody.
            if is_at(file, path):
                yield waited
                return
