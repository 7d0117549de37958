"""What a job has written: a small file by which it is later seen whether all of it is still there.

The rule of a stage declares this file and no other. It is written last, so that it stands for the whole.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from artifacts.atomic import json_sha256, write_json
from artifacts.contents import Contents, listing


def add_manifest(parser: argparse.ArgumentParser) -> None:
    """Add the option ``--manifest``."""
    parser.add_argument("--manifest", metavar="FILE", help="write down there what the job has written, with digests")


def write_manifest(path: str | Path, written: Iterable[Path]) -> None:
    """Write down what a job has written.

    Args:
        path: of the manifest.
        written: files, which count by content, and folders, which count by names and sizes of their files.
    """
    contents = Contents()
    files: dict[str, list[Any]] = {}
    folders: dict[str, list[Any]] = {}
    for found in written:
        if found.is_dir():
            folders[found.as_posix()] = _folder(found)
        else:
            status = found.stat()
            files[found.as_posix()] = [status.st_size, status.st_mtime_ns, contents.file(found)]
    write_json(path, {"files": files, "folders": folders})


def missing_from(path: str | Path, contents: Contents, wanted: Iterable[str] = ()) -> list[str]:
    """What a job has written and is no longer there as it left it: one line a file or folder.

    Args:
        path: of the manifest.
        contents: what digests are known.
        wanted: files that it must list.
    """
    try:
        manifest = json.loads(Path(path).read_text(encoding="utf-8"))
        files, folders = manifest["files"], manifest["folders"]
    except (ValueError, KeyError, TypeError):
        return [f"{path}: damaged"]
    contents.learn(files)
    lines = [f"{name}: not written yet" for name in wanted if name not in files]
    for name, (size, changed, sha256) in files.items():
        file = Path(name)
        if not file.is_file():
            lines.append(f"{name}: gone")
            continue
        status = file.stat()
        if status.st_size != size or (status.st_mtime_ns != changed and contents.file(file) != sha256):
            lines.append(f"{name}: changed")
    for name, (count, sha256) in folders.items():
        folder = Path(name)
        if not folder.is_dir():
            lines.append(f"{name}: gone")
        elif (now := _folder(folder))[1] != sha256:
            lines.append(f"{name}: " + (f"{now[0]} of {count} files" if now[0] < count else "changed"))
    return lines


def _folder(folder: Path) -> list[Any]:
    found = listing(folder)
    return [len(found), json_sha256(found)]
