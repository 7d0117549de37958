"""A quick fingerprint of weights, by which cached work of an earlier run is recognised.

Digests of gigabytes would cost more than some of the work they save. A file above a megabyte counts by its size and
the time of its last change, as Snakemake does it; smaller ones count by content. Provenance records real digests.
"""

from __future__ import annotations

from pathlib import Path

from artifacts.atomic import file_sha256, json_sha256

READ_UP_TO = 1 << 20
"""Bytes up to which a file counts by content."""


def fingerprint(*paths: Path) -> str:
    """Hex digest of files, and of all files in folders; of a missing one that it is missing."""
    return json_sha256([_entries(path) for path in paths])


def _entries(path: Path) -> list[list[str | int]]:
    files = sorted(p for p in path.rglob("*") if p.is_file()) if path.is_dir() else [path]
    return [_entry(file, file.relative_to(path).as_posix()) for file in files]


def _entry(file: Path, name: str) -> list[str | int]:
    try:
        status = file.stat()
    except FileNotFoundError:
        return [name, "missing"]
    if status.st_size <= READ_UP_TO:
        return [name, status.st_size, file_sha256(file)]
    return [name, status.st_size, status.st_mtime_ns]
