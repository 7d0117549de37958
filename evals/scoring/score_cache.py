"""Scores that are never computed twice: by fingerprint of the scorer, digest of the image and prompt.

One SQLite file in write-ahead mode. Any number of processes of one machine may read and write it at the same time; the
same key always stands for the same number, so whoever writes it first wins and nothing is lost. Write-ahead mode needs
shared memory, so the file must not lie on a network file system that several machines write to.

A score on another device, or in another batch size, differs by rounding only and counts as the same.
"""

from __future__ import annotations

import hashlib
import sqlite3
import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

from artifacts.errors import InputError
from artifacts.file_names import user_path

FILE_NAME = "scores.sqlite"
# Raised when rows of older files would mean something else.
VERSION = 1
_WAIT_SECONDS = 120.0
_DAY = 86_400
_TABLE = """
CREATE TABLE IF NOT EXISTS scores (
    fingerprint TEXT NOT NULL,
    image_sha256 TEXT NOT NULL,
    prompt_sha256 TEXT NOT NULL,
    score REAL NOT NULL,
    used_day INTEGER NOT NULL,
    PRIMARY KEY (fingerprint, image_sha256, prompt_sha256)
) WITHOUT ROWID, STRICT
"""


@dataclass(frozen=True)
class Size:
    """Scores in a cache, scorers (fingerprints) they are of, and bytes of the file."""

    scores: int
    fingerprints: int
    bytes: int


def prompt_sha256(prompt: str) -> str:
    """Hex SHA-256 of a prompt's UTF-8 text."""
    return hashlib.sha256(prompt.encode("utf-8", "surrogatepass")).hexdigest()


class ScoreCache:
    """A cache in a folder; a context manager. One object may be used by several threads.

    Args:
        folder: made if it does not exist.

    Raises:
        InputError: the folder cannot be written, or its file is no cache of this version.
    """

    def __init__(self, folder: str | Path) -> None:
        self.path = user_path(folder) / FILE_NAME
        self._lock = threading.Lock()
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._connection = sqlite3.connect(
                self.path, timeout=_WAIT_SECONDS, check_same_thread=False, isolation_level=None
            )
        except (OSError, sqlite3.OperationalError) as error:
            raise InputError(
                f"{folder}: cannot keep a cache there ({error}); give a folder that can be written"
            ) from error
        try:
            with self._told():
                self._open()
        except BaseException:
            self._connection.close()
            raise

    def _open(self) -> None:
        run = self._connection.execute
        self._write_ahead()
        # A power cut may lose the last scores, never damage the file: they are computed again.
        run("PRAGMA synchronous = NORMAL")
        with self._transaction():
            version = run("PRAGMA user_version").fetchone()[0]
            if version not in (0, VERSION):
                raise InputError(
                    f"{self.path}: cache of version {version}, this release has {VERSION}; delete the file"
                )
            run(_TABLE)
            run(f"PRAGMA user_version = {VERSION}")

    def _write_ahead(self) -> None:
        """Switch to write-ahead mode; SQLite does not wait by itself if another process is doing so, or closing."""
        end = time.monotonic() + _WAIT_SECONDS
        while True:
            try:
                self._connection.execute("PRAGMA journal_mode = WAL")
                return
            except sqlite3.OperationalError as error:
                if error.sqlite_errorcode != sqlite3.SQLITE_BUSY or time.monotonic() > end:
                    raise
            time.sleep(0.02)

    def get(self, fingerprint: str, image_sha256: str, prompt: str) -> float | None:
        """The stored score, or ``None``."""
        with self._told():
            row = self._connection.execute(
                "SELECT score FROM scores WHERE fingerprint = ? AND image_sha256 = ? AND prompt_sha256 = ?",
                (fingerprint, image_sha256, prompt_sha256(prompt)),
            ).fetchone()
        return None if row is None else float(row[0])

    def put(self, rows: Iterable[tuple[str, str, str, float]]) -> None:
        """Store rows of fingerprint, image digest, prompt and score; what is there already stays."""
        today = _today()
        with self._told(), self._transaction():
            self._connection.executemany(
                "INSERT OR IGNORE INTO scores VALUES (?, ?, ?, ?, ?)",
                [(f, image, prompt_sha256(prompt), float(score), today) for f, image, prompt, score in rows],
            )

    def touch(self, keys: Iterable[tuple[str, str, str]]) -> None:
        """Note that scores (fingerprint, image digest, prompt) were used today, for :meth:`prune`."""
        today = _today()
        with self._told(), self._transaction():
            self._connection.executemany(
                "UPDATE scores SET used_day = ? "
                "WHERE fingerprint = ? AND image_sha256 = ? AND prompt_sha256 = ? AND used_day < ?",
                [(today, fingerprint, image, prompt_sha256(prompt), today) for fingerprint, image, prompt in keys],
            )

    def prune(self, *, unused_days: int | None = None, fingerprints: Sequence[str] = ()) -> int:
        """Remove scores and give the space back.

        Args:
            unused_days: those that were not used for so many days; 0 takes all but today's.
            fingerprints: those of these scorers.

        Returns:
            How many were removed.
        """
        removed = 0
        with self._told():
            with self._transaction():
                if unused_days is not None:
                    removed += self._connection.execute(
                        "DELETE FROM scores WHERE used_day < ?", (_today() - unused_days,)
                    ).rowcount
                for fingerprint in fingerprints:
                    removed += self._connection.execute(
                        "DELETE FROM scores WHERE fingerprint = ?", (fingerprint,)
                    ).rowcount
            self._connection.execute("VACUUM")
            self._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        return removed

    def size(self) -> Size:
        """How much is stored."""
        with self._told():
            scores, fingerprints = self._connection.execute(
                "SELECT COUNT(*), COUNT(DISTINCT fingerprint) FROM scores"
            ).fetchone()
        return Size(scores, fingerprints, self.path.stat().st_size)

    def close(self) -> None:
        """Close the file."""
        self._connection.close()

    def __enter__(self) -> ScoreCache:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        # IMMEDIATE takes the write lock at once, so that waiting for another writer cannot end in a deadlock.
        self._connection.execute("BEGIN IMMEDIATE")
        try:
            yield
        except BaseException:
            self._connection.execute("ROLLBACK")
            raise
        self._connection.execute("COMMIT")

    @contextmanager
    def _told(self) -> Iterator[None]:
        """One thread at a time; what SQLite says becomes one line with the file."""
        with self._lock:
            try:
                yield
            except sqlite3.OperationalError as error:
                raise InputError(f"{self.path}: {error}; see that the disk has space and no other job hangs") from error
            except sqlite3.DatabaseError as error:
                raise InputError(f"{self.path}: not a readable cache ({error}); delete the file") from error


def _today() -> int:
    """Days since the epoch."""
    return int(time.time()) // _DAY
