"""The checksum manifest of a data set: SHA-256 of every file of a folder, in the format of ``sha256sum``.

``sha256sum -c FILE``, run in the folder, checks the same.
"""

from __future__ import annotations

import re
from pathlib import Path, PurePosixPath

from artifacts.atomic import file_sha256, write_text, writing
from artifacts.errors import InputError
from artifacts.file_names import check_distinct, normal
from artifacts.progress import progress
from artifacts.prompt_text import is_text
from artifacts.text_lines import lines

_LINE = re.compile(r"([0-9a-f]{64}) [ *](.+)")
SHOWN = 5


def write_manifest(folder: Path, out: Path) -> int:
    """Write the manifest of a folder and return the number of files.

    Hidden files and folders are left out, and the manifest itself.

    Raises:
        InputError: no such folder, no file in it, a name that a line cannot hold, or ``out`` cannot be written.
    """
    names = [name for name in _names(folder) if (folder / name).resolve() != out.resolve()]
    if not names:
        raise InputError(f"{folder}: no files; give the folder that holds the data set")
    listed = [
        f"{file_sha256(folder / name)}  {name}\n"
        for name in progress(names, label=f"checksums of {folder}", unit="file")
    ]
    with writing(f"--out {out}"):
        write_text(out, "".join(listed))
    return len(names)


def verify(folder: Path, manifest: Path) -> int:
    """Compare a folder with its manifest and return the number of files.

    Raises:
        InputError: the manifest cannot be read, or a file is missing, changed, or not listed.
    """
    listed = read_manifest(manifest)
    # By Unicode form NFC: a copy on another system may have the names in another form.
    found = {normal(name): name for name in _names(folder) if (folder / name).resolve() != manifest.resolve()}
    faults = [f"{name} is missing" for name in listed if name not in found]
    faults += [f"{name} is not listed" for name in sorted(found.keys() - listed.keys())]
    # Hashing takes minutes; that a file is missing can be said at once.
    if not faults:
        for name in progress(sorted(listed), label=f"checksums of {folder}", unit="file"):
            if file_sha256(folder / found[name]) != listed[name]:
                faults.append(f"{name} is damaged or another version")
    if faults:
        more = f" and {len(faults) - SHOWN} more" if len(faults) > SHOWN else ""
        raise InputError(
            f"{folder} is not what {manifest} lists: {', '.join(faults[:SHOWN])}{more}; fetch these files again, or, "
            "if the folder is as it should be, write the manifest again by "
            f"`sdpo pairs manifest {folder} --out {manifest}`"
        )
    return len(listed)


def read_manifest(path: Path) -> dict[str, str]:
    """Digests by name, in Unicode form NFC.

    Raises:
        InputError: the file cannot be read, or a line is not one of a manifest.
    """
    if not path.is_file():
        raise InputError(f"{path}: no such file; give a manifest, as `sdpo pairs manifest` writes it")
    listed: dict[str, str] = {}
    for number, line in lines(path):
        match = _LINE.fullmatch(line)
        if match is None:
            raise InputError(f"{path}, line {number}: expected a SHA-256, two spaces and a name; write the file again")
        name = normal(PurePosixPath(match[2]).as_posix())
        if listed.setdefault(name, match[1]) != match[1]:
            raise InputError(f"{path}, line {number}: {name} is listed twice, with two digests; write the file again")
    if not listed:
        raise InputError(f"{path}: lists no file; write it again by `sdpo pairs manifest`")
    return listed


def _names(folder: Path) -> list[str]:
    if not folder.is_dir():
        raise InputError(f"{folder}: no such folder; give the one that holds the data set")
    names: list[str] = []
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder)
        if any(part.startswith(".") for part in name.parts) or not path.is_file():
            continue
        text = name.as_posix()
        if not is_text(text) or any(mark in text for mark in "\n\r\\"):
            raise InputError(f"{folder}: {text!a}: a manifest cannot hold this name; rename the file")
        names.append(text)
    check_distinct(folder, names)
    return names
