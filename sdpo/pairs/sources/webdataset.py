"""Pair source ``webdataset``: tar files in which a sample is a run of members ``KEY.FIELD``.

The fields of the shards made from Pick-a-Pic v2: ``original_prompt.txt`` (or ``caption.txt``), ``jpg_0.jpg``,
``jpg_1.jpg``, ``label_0.txt``, ``label_1.txt`` and, if it is there, ``has_label.txt``. Labels are as in
:mod:`sdpo.pairs.sources.pickapic`.
"""

from __future__ import annotations

import tarfile
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any

from pydantic import Field

from artifacts.errors import InputError
from sdpo.pairs import Pair
from sdpo.pairs.reading.comparison import Comparison, ImageFile, Member, label_of_pair, unlabelled
from sdpo.pairs.reading.input_files import data_folder, split_files
from sdpo.pairs.reading.options import HubOptions, files_option, parse
from sdpo.pairs.reading.streaming import pairs_of

PROMPTS = ("original_prompt", "caption")
IMAGES = ("jpg_0", "jpg_1")
TEXTS = (*PROMPTS, "label_0", "label_1", "has_label")
LONGEST_TEXT = 1 << 20


class Options(HubOptions):
    """Options of a copy of Pick-a-Pic v2, or of a set with its fields, in tar files."""

    files: str = files_option("**/*.tar")
    heldout_share: float = Field(
        default=0.002, ge=0, lt=1, description="Share of the prompts that is held out, with all their pairs."
    )


def read(options: Mapping[str, Any], *, base_path: Path) -> Iterator[Pair]:
    """Yield the pairs.

    Args:
        options: of :class:`Options`.
        base_path: not used.

    Raises:
        InputError: wrong options, a damaged tar file, too many broken pairs, or none left.
    """
    chosen = parse("webdataset", Options, options)
    folder = data_folder("webdataset", chosen)
    return pairs_of("webdataset", chosen, partial(_comparisons, chosen, folder))


def _comparisons(options: Options, folder: Path, split: str) -> Iterator[Comparison]:
    for path in split_files("webdataset", folder, options, split):
        name = path.relative_to(folder).as_posix()
        try:
            with tarfile.open(path) as tar:
                for key, members in _samples(tar):
                    yield _comparison(tar, members, f"{path}, sample {key}", f"{name} {key}")
        except (tarfile.TarError, OSError, EOFError) as error:
            raise _damaged(path, error) from error


def _samples(tar: tarfile.TarFile) -> Iterator[tuple[str, dict[str, list[tarfile.TarInfo]]]]:
    """Runs of members with one key, the name up to the first dot behind the last slash; the members by field."""
    last, members = "", dict[str, list[tarfile.TarInfo]]()
    for member in tar:
        # Else the list of all members of the file would be kept.
        tar.members = []  # type: ignore[attr-defined]
        if not member.isreg():
            continue
        place = PurePosixPath(member.name)
        stem, _, extension = place.name.partition(".")
        key = (place.parent / stem).as_posix()
        if members and key != last:
            yield last, members
            members = {}
        last = key
        members.setdefault(extension.partition(".")[0], []).append(member)
    if members:
        yield last, members


def _comparison(
    tar: tarfile.TarFile, fields: Mapping[str, list[tarfile.TarInfo]], place: str, identity: str
) -> Comparison:
    members = {field: found[0] for field, found in fields.items()}
    texts = {field: _text(tar, members[field]) for field in TEXTS if field in members}
    label, fault = label_of_pair(texts.get("label_0"), texts.get("label_1"))
    if unlabelled(texts.get("has_label")):
        label, fault = None, ""
    files: list[ImageFile] = []
    for image in IMAGES:
        if image in members:
            mark = f"{members[image].size} {members[image].mtime}"
            files.append(Member(partial(_content, tar, members[image]), mark))
        else:
            files.append(Member(bytes, "nothing"))
            fault = fault or f"no {image}"
    twice = [field for field, found in fields.items() if len(found) > 1 and field in (*TEXTS, *IMAGES)]
    fault = f"{twice[0]} is there {len(fields[twice[0]])} times" if twice else fault
    prompt = next((texts[field] for field in PROMPTS if field in texts), None)
    return Comparison(place, identity, prompt, (files[0], files[1]), label, fault)


def _text(tar: tarfile.TarFile, member: tarfile.TarInfo) -> str:
    if member.size > LONGEST_TEXT:
        raise InputError(f"{tar.name!s}: {member.name} has {member.size} bytes, expected a short text; fetch it again")
    # Bytes that are no UTF-8 stay halves of characters, which no prompt may have.
    return _content(tar, member).decode("utf-8-sig", errors="surrogateescape").strip()


def _content(tar: tarfile.TarFile, member: tarfile.TarInfo) -> bytes:
    file = tar.extractfile(member)
    assert file is not None
    try:
        return file.read()
    except (tarfile.TarError, OSError, EOFError) as error:
        raise _damaged(str(tar.name), error) from error


def _damaged(path: Path | str, error: Exception) -> InputError:
    return InputError(f"{path}: not a whole tar file ({' '.join(str(error).split())}); fetch it again")
