"""Pair source ``imagerewarddb``: the metadata and images of ImageRewardDB.

``metadata-<split>.parquet``, or the JSON file beside the images, has one row an image: ``image_path``, ``prompt_id``,
``prompt`` and ``rank``, 1 the best. Each two images of a prompt make a pair; equal ranks are a tie, which the set's own
pairs leave out. Images are read from the published zip files or from unpacked folders.
"""

from __future__ import annotations

import lzma
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

from artifacts.errors import InputError
from artifacts.file_names import FileNames
from artifacts.image_decoding import BrokenImageError
from artifacts.text_lines import twice
from sdpo.pairs import Pair
from sdpo.pairs.reading.comparison import Comparison, ImageFile, Member, NamedFile, mark_of, prompt_of
from sdpo.pairs.reading.input_files import data_folder, split_files
from sdpo.pairs.reading.json_array import read_objects
from sdpo.pairs.reading.options import HubOptions, files_option, heldout_limit_option, heldout_splits_option, parse
from sdpo.pairs.reading.ranking import pairs_of_ranking
from sdpo.pairs.reading.streaming import pairs_of

COLUMNS = ("image_path", "prompt_id", "prompt", "rank")
ARCHIVES = "images/{split}/*.zip"


class Options(HubOptions):
    """Options of ImageRewardDB."""

    files: str = files_option("**/metadata-{split}.parquet")
    heldout_splits: list[str] = heldout_splits_option(["validation"])
    heldout_limit: int | None = heldout_limit_option(1024)


def read(options: Mapping[str, Any], *, base_path: Path) -> Iterator[Pair]:
    """Yield the pairs.

    Args:
        options: of :class:`Options`.
        base_path: not used.

    Raises:
        InputError: wrong options, metadata that are missing or damaged, too many broken pairs, or none left.
    """
    chosen = parse("imagerewarddb", Options, options)
    folder = data_folder("imagerewarddb", chosen, more_files=[ARCHIVES])
    return pairs_of("imagerewarddb", chosen, partial(_comparisons, chosen, folder))


def _comparisons(options: Options, folder: Path, split: str) -> Iterator[Comparison]:
    # One row an image, 62 600 at most: small enough to be grouped in memory.
    groups: dict[tuple[Path, str], list[Mapping[str, Any]]] = {}
    for path in split_files("imagerewarddb", folder, options, split):
        for number, row in enumerate(_rows(path), start=1):
            # Rows without one would be a ranking across prompts.
            if not isinstance(prompt_id := row.get("prompt_id"), str | int) or prompt_id == "":
                raise InputError(f"{path}, row {number}: prompt_id is {prompt_id!r}, expected a text; fetch it again")
            groups.setdefault((path, str(prompt_id)), []).append(row)
    with ExitStack() as stack:
        image = partial(_image, FileNames(folder), _Archives(stack))
        for (path, prompt_id), rows in groups.items():
            names, ranks = [row.get("image_path") for row in rows], [row.get("rank") for row in rows]
            place, prompts = f"{path}, prompt {prompt_id}", [prompt_of(row.get("prompt")) for row in rows]
            if other := [prompt for prompt in prompts if prompt != prompts[0]]:
                raise InputError(f"{place}: has images of {prompts[0]!r} and of {other[0]!r}; fetch it again")
            yield from pairs_of_ranking(place, prompts[0], names, ranks, image)


def _rows(path: Path) -> Iterator[Mapping[str, Any]]:
    if path.suffix == ".json":
        yield from read_objects(path)
        return
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(path) as file:
            if (double := twice(file.schema_arrow.names)) is not None:
                raise InputError(f"{path}: two columns are named '{double}'; fetch it again")
            if missing := [column for column in COLUMNS if column not in file.schema_arrow.names]:
                raise InputError(f"{path}: no column '{missing[0]}'; expected {', '.join(COLUMNS)}")
            for batch in file.iter_batches(columns=list(COLUMNS)):
                yield from batch.to_pylist()
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: not a whole parquet file ({str(error).splitlines()[0]}); fetch it again") from error


class _Archives:
    """Zip files, each opened once."""

    def __init__(self, stack: ExitStack) -> None:
        self._stack = stack
        self._opened: dict[Path, zipfile.ZipFile] = {}

    def read(self, path: Path, name: str) -> bytes:
        """Content of a member, which lies at the top or in a folder of the archive's name."""
        try:
            if path not in self._opened:
                self._opened[path] = self._stack.enter_context(zipfile.ZipFile(path))
        except (zipfile.BadZipFile, OSError) as error:
            raise InputError(f"{path}: not a whole zip file ({error}); fetch it again") from error
        for member in (name, f"{path.stem}/{name}"):
            try:
                return self._opened[path].read(member)
            except KeyError:
                continue
            # The last is of members that are encrypted, or packed by a method that is not known.
            except (zipfile.BadZipFile, zlib.error, lzma.LZMAError, OSError, EOFError, RuntimeError) as error:
                raise BrokenImageError(f"{path}: {member}: {error}") from error
        raise BrokenImageError(f"{path} has no {name}")


def _image(files: FileNames, archives: _Archives, name: str) -> ImageFile:
    """The image ``images/train/train_1/x.webp``: that file, or ``x.webp`` in ``images/train/train_1.zip``."""
    file = files.folder / name
    archive = file.parent.with_suffix(".zip")
    return (
        Member(partial(archives.read, archive, file.name), mark_of(archive))
        if archive.is_file() and not file.is_file()
        else NamedFile(files, name)
    )
