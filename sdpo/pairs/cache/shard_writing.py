"""The shards of a cache under construction: each with a list of what is in it, written whole or not at all.

They lie in a folder beside the cache whose name is the digest of everything that shapes it. No rule declares it, so an
interrupted build goes on at the shard, and a changed one starts anew.
"""

from __future__ import annotations

import errno
import json
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from artifacts.atomic import file_sha256, replaced_file, write_json
from artifacts.errors import InputError

if TYPE_CHECKING:
    from sdpo.pairs.cache.encoding import Tensors

READY = "ready"
"""Subfolder in which a complete cache is put together."""
NONE = -1
"""Number of an image that is not in the cache."""
NO_SPACE = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


@dataclass(frozen=True)
class Row:
    """A pair: prompt, winner and loser by number; ``label`` is 1, or 0.5 of a tie; ``number`` is the source's own.

    ``stated`` is :func:`sdpo.pairs.stated`, whatever noise then made of the label.

    Images of ties have no number (-1), nor have those of a pair whose winner and loser are the same picture.
    """

    prompt: int
    winner: int
    loser: int
    label: float
    split: str
    number: int
    stated: str = ""


@dataclass(frozen=True)
class Shard:
    """A shard that has been written.

    Attributes:
        file: its name.
        sha256, size: of the file.
        rows: its pairs.
        images: digests of the images that no shard before it has.
        prompts: prompts that no shard before it has.
        met: how many of its images met what in decoding, by names of :data:`artifacts.image_decoding.MET`.
    """

    file: str
    sha256: str
    size: int
    rows: list[Row]
    images: list[str]
    prompts: list[str]
    met: dict[str, int]


def state_folder(out: Path, digest: str) -> Path:
    """Where the shards of ``out`` lie until all are there."""
    return out.parent / f".{out.name}.building" / digest[:16]


def written(folder: Path) -> list[Shard]:
    """The shards that are there, up to the first that is missing or damaged."""
    _put_back(folder)
    found: list[Shard] = []
    while (about := folder / f"{name(len(found))}.json").is_file():
        try:
            fields = json.loads(about.read_text(encoding="utf-8"))
            shard = Shard(**{**fields, "rows": [Row(**row) for row in fields["rows"]]})
            if (folder / shard.file).stat().st_size != shard.size:
                break
        except (OSError, ValueError, TypeError, KeyError):
            break
        found.append(shard)
    return found


def name(number: int) -> str:
    """Name of a shard's file without its suffix."""
    return f"shard-{number:05d}"


def write(
    folder: Path,
    number: int,
    tensors: Tensors,
    rows: list[Row],
    images: list[str],
    prompts: list[str],
    met: dict[str, int],
) -> Shard:
    """Write a shard, then what is in it."""
    from safetensors.torch import save_file

    file = f"{name(number)}.safetensors"
    with space_needed(folder):
        with replaced_file(folder / file) as temporary:
            save_file({key: tensor.contiguous() for key, tensor in tensors.items()}, temporary)
        path = folder / file
        shard = Shard(file, file_sha256(path), path.stat().st_size, rows, images, prompts, met)
        write_json(folder / f"{name(number)}.json", asdict(shard))
    return shard


def size_of_images(folder: Path, shards: list[Shard]) -> tuple[int, int] | None:
    """Width and height in pixels of the images of finished shards, as they were encoded; None if none has any."""
    from safetensors import safe_open

    for shard in shards:
        if shard.images:
            with safe_open(folder / shard.file, framework="pt") as file:
                height, width = file.get_slice("sizes")[0, 4:6].tolist()
            return int(width), int(height)
    return None


def take(state: Path, shards: list[Shard], into: Path) -> None:
    """Put the shards into another folder of the same file system, without copying them: they stay, too, if they can."""
    for shard in shards:
        target = into / shard.file
        try:
            os.link(state / shard.file, target)
        except OSError:
            # Not every file system has hard links, or has them across folders.
            os.replace(state / shard.file, target)


def _put_back(state: Path) -> None:
    """Undo what :func:`take` did to a cache that was not completed."""
    for file in (state / READY).glob("shard-*.safetensors"):
        if not (state / file.name).exists():
            os.replace(file, state / file.name)
    shutil.rmtree(state / READY, ignore_errors=True)


@contextmanager
def tidied(state: Path) -> Iterator[None]:
    """On an error, leave nothing behind but whole shards, and no folder without any."""
    try:
        yield
    except BaseException:
        _put_back(state)
        if not any(state.glob("shard-*.json")):
            shutil.rmtree(state.parent, ignore_errors=True)
        raise


@contextmanager
def space_needed(folder: Path) -> Iterator[None]:
    """Say in one line that the disk is full, whichever library found it out."""
    from safetensors import SafetensorError

    try:
        yield
    except (OSError, SafetensorError) as error:
        code = getattr(error, "errno", None)
        if code is None and (found := re.search(r"os error (\d+)", str(error))):
            code = int(found[1])
        if code not in NO_SPACE:
            raise
        free = shutil.disk_usage(folder).free if folder.is_dir() else 0
        raise InputError(
            f"{folder}: no space left for the pair cache ({os.strerror(code)}; {free / 1e9:.1f} GB free); make room or "
            "set encoding.dtype to float16, and run it again: finished shards are kept and taken up"
        ) from error
