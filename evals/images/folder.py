"""Folders of generated images: PNG files, their manifest and provenance; complete or absent.

A manifest lists images by their numbers (:mod:`evals.images.numbering`).

While a folder is being drawn its images lie in another one, which no rule declares and whose name holds the digest of
everything that shapes them. So a killed job goes on at the image, whatever the number of jobs that share the work.
They stay there, as links, until their job has finished all its folders: a job that fails starts with the first one
again.
"""

from __future__ import annotations

import hashlib
import io
import os
import secrets
import shutil
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from artifacts import locks
from artifacts.atomic import replaced_directory, write_json
from artifacts.contracts import CONTRACTS, read_table, write_table
from artifacts.errors import InputError
from artifacts.image_decoding import BrokenImageError, decode
from evals.images.numbering import Numbering, file_name
from evals.images.shares import joined

if TYPE_CHECKING:
    import pandas as pd
    from PIL.Image import Image
    from PIL.PngImagePlugin import PngInfo

MANIFEST = "manifest.parquet"
PROVENANCE = "provenance.json"
LOCK = "rows.lock"
EVERY = range(0)
"""All rows of the lock: an empty range locks to the end of the file and past it."""
# The last chunk of every PNG, by which Pillow does not notice a missing end.
_PNG_END = b"\x00\x00\x00\x00IEND\xaeB`\x82"


def png(image: Image) -> bytes:
    """An image as the bytes of its file; texts in its ``info`` go into it."""
    buffer = io.BytesIO()
    image.save(buffer, format="PNG", pnginfo=_texts(image))
    return buffer.getvalue()


@dataclass(frozen=True)
class UnfinishedImages:
    """Images that have been drawn of a folder, which may be shared by several jobs; they go by their numbers.

    Attributes:
        folder: where they lie.
        numbering: what their numbers are.
    """

    folder: Path
    numbering: Numbering

    @contextmanager
    def owned(self, rows: range) -> Iterator[None]:
        """Hold some images alone, however others share them out: who has one of them already is waited for.

        Numbers are locked as bytes of one file, so shares of different sizes meet. Such locks belong to the process: it
        must not own images of one folder twice at a time.
        """
        while rows:
            try:
                self.folder.mkdir(parents=True, exist_ok=True)
                lock = locks.opened(self.folder / LOCK)
            except (FileNotFoundError, FileExistsError):
                # Removed just now by who was done with it, unless something else lies there.
                if self.folder.is_file() or self.folder.is_symlink():
                    raise
                continue
            with lock:
                if locks.locked(lock, rows=rows) is False:
                    print(f"{self.folder}: another process draws these images; waiting for it", file=sys.stderr)
                    locks.locked(lock, wait=True, rows=rows)
                # Else the file was removed while it was waited for, and its lock keeps out nobody.
                if locks.is_at(lock, self.folder / LOCK):
                    yield
                    return
        yield

    def missing(self, rows: Sequence[int]) -> list[int]:
        """Numbers without an image; a damaged one is removed, with a warning."""
        return [row for row in rows if not self._whole(row)]

    def add(self, row: int, image: Image) -> None:
        """Keep the image of one number."""
        # Not synced: a file that a power failure cuts off is found by :meth:`missing`.
        name = self.numbering.file(row)
        temporary = self.folder / f".{name}.{secrets.token_hex(4)}.partial"
        temporary.write_bytes(png(image))
        os.replace(temporary, self.folder / name)

    def finish(
        self, target: Path, prompt_ids: Sequence[str], seeds: Sequence[int], rows: Sequence[int], provenance: Any
    ) -> None:
        """Make the complete folder of some images; they stay here too, until :meth:`forget`.

        Args:
            target: where they go.
            prompt_ids: of each image.
            seeds: of the start noise of each.
            rows: their numbers, in the order of the manifest.
            provenance: content of ``provenance.json``.
        """
        with replaced_directory(target) as temporary:
            listed = []
            for number, prompt_id, seed in zip(rows, prompt_ids, seeds, strict=True):
                name = self.numbering.file(number)
                linked(self.folder / name, temporary / name)
                digest = hashlib.sha256((temporary / name).read_bytes()).hexdigest()
                listed.append((prompt_id, self.numbering.place(number)[1], name, seed, digest))
            _write_manifest(temporary, listed)
            write_json(temporary / PROVENANCE, provenance)

    def forget(self, rows: range) -> None:
        """Remove some images, and the folder if it has no others and nobody is at work there."""
        with self.owned(rows):
            for row in rows:
                (self.folder / self.numbering.file(row)).unlink(missing_ok=True)
        with suppress(FileNotFoundError), (self.folder / LOCK).open("ab") as lock:
            alone = locks.locked(lock, rows=EVERY) and locks.is_at(lock, self.folder / LOCK)
            if alone and not any(self.folder.glob("*.png")):
                # Who comes now waits for the lock and then makes folder and file anew.
                for left in self.folder.glob(".*.partial"):
                    left.unlink()
                (self.folder / LOCK).unlink()
                with suppress(OSError):
                    self.folder.rmdir()
                    self.folder.parent.rmdir()

    def _whole(self, row: int) -> bool:
        path = self.folder / self.numbering.file(row)
        if not path.exists():
            return False
        content = path.read_bytes()
        try:
            decode(content)
            if not content.endswith(_PNG_END):
                raise BrokenImageError("the end of the file is missing")
        except BrokenImageError as error:
            print(f"warning: {path}: {error}; drawing it again", file=sys.stderr)
            path.unlink()
            return False
        return True


def write_images(
    folder: Path, prompts: pd.DataFrame, images: Sequence[Image], seeds: Sequence[int], provenance: dict[str, Any]
) -> None:
    """Write a folder of images that are in memory.

    Args:
        folder: where they go.
        prompts: contract ``prompts``, one row an image.
        images: in the order of the prompts.
        seeds: of the start noise of each image.
        provenance: content of ``provenance.json``.
    """
    with replaced_directory(folder) as temporary:
        listed = []
        for row, (prompt_id, image, seed) in enumerate(zip(prompts["prompt_id"], images, seeds, strict=True)):
            content = png(image)
            (temporary / file_name(row)).write_bytes(content)
            listed.append((prompt_id, 0, file_name(row), seed, hashlib.sha256(content).hexdigest()))
        _write_manifest(temporary, listed)
        write_json(temporary / PROVENANCE, provenance)


def read_manifest(folder: Path) -> pd.DataFrame:
    """Contract ``manifest`` of a folder of images; every file it lists is named as one beside it, and once.

    Raises:
        InputError: it is missing or malformed, or lists a file elsewhere, or one file twice.
    """
    path, remedy = folder / MANIFEST, CONTRACTS["manifest"].remedy
    manifest = read_table(path, "manifest")
    for name in manifest["file"]:
        if Path(name).name != name or name == ".." or "\0" in name:
            raise InputError(f"{path}: {name!r} is not the name of a file beside it; {remedy}")
    if len(repeated := manifest["file"][manifest["file"].duplicated()]):
        raise InputError(f"{path}: '{repeated.iloc[0]}' stands there twice; {remedy}")
    return manifest


def collect(folder: Path, shards: Sequence[Path], prompts: pd.DataFrame, images: int = 1) -> None:
    """Put together the images that several jobs have drawn, as if one had drawn them all.

    Args:
        folder: where they go.
        shards: folders of the jobs' images.
        prompts: contract ``prompts``, which says what must be there and in what order.
        images: of each prompt.

    Raises:
        InputError: a share is missing, the shares together are not the prompt set, or they were not drawn by the same
            settings from the same weights.
    """
    import json

    manifests = [read_manifest(shard) for shard in shards]
    whole = joined(manifests, list(prompts["prompt_id"]), images, where=shards[0].parent, what="images")
    jobs = [json.loads((shard / PROVENANCE).read_text(encoding="utf-8")) for shard in shards]
    for shard, job in zip(shards, jobs, strict=True):
        for what in ("spec", "inputs", "commits"):
            if job.get(what) != jobs[0].get(what):
                raise InputError(
                    f"{shard}: was drawn by other settings or from other weights than {shards[0].name} "
                    f"(`{what}` in their {PROVENANCE}); delete {shard.parent} and run snakemake again"
                )
    with replaced_directory(folder) as temporary:
        for shard, manifest in zip(shards, manifests, strict=True):
            for name in manifest["file"]:
                linked(shard / name, temporary / name)
        write_table(temporary / MANIFEST, whole, "manifest")
        seconds = sum(float(job["wall_seconds"]) for job in jobs)
        write_json(temporary / PROVENANCE, {**jobs[0], "wall_seconds": round(seconds, 3), "jobs": len(jobs)})


def linked(source: Path, target: Path) -> None:
    """The same file under another name; a copy where the file system has no links."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)


def _write_manifest(folder: Path, rows: Sequence[tuple[Any, ...]]) -> None:
    import pandas as pd

    table = pd.DataFrame(rows, columns=["prompt_id", "image", "file", "seed", "sha256"])
    write_table(folder / MANIFEST, table, "manifest")


def _texts(image: Image) -> PngInfo:
    from PIL.PngImagePlugin import PngInfo

    texts = PngInfo()
    for key, value in image.info.items():
        if isinstance(key, str) and isinstance(value, str):
            texts.add_text(key, value)
    return texts
