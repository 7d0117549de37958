"""Pair source ``pickapic``: parquet files with the columns of Pick-a-Pic v2.

``caption``, ``jpg_0`` and ``jpg_1`` (the bytes of the files), ``label_0`` and ``label_1``: 1 and 0 for a winner, ½ and
½ for a tie; ``has_label`` is false where there is no label. Images are read in batches of rows, and not at all where no
pair is taken.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from artifacts.errors import InputError
from artifacts.text_lines import twice
from sdpo.pairs import Pair
from sdpo.pairs.reading.comparison import Comparison, Member, label_of_pair, mark_of, prompt_of, unlabelled
from sdpo.pairs.reading.input_files import data_folder, split_files
from sdpo.pairs.reading.options import HubOptions, files_option, heldout_splits_option, parse
from sdpo.pairs.reading.streaming import pairs_of

if TYPE_CHECKING:
    import pyarrow as pa
    import pyarrow.parquet as pq

IMAGES = ("jpg_0", "jpg_1")
NEEDED = ("caption", "label_0", "label_1")
IDENTITY = ("ranking_id", "image_0_uid", "image_1_uid", "caption")
BATCH_ROWS = 32


class Options(HubOptions):
    """Options of a copy of Pick-a-Pic v2, or of a set with its columns, in parquet files."""

    files: str = files_option("**/{split}-*.parquet")
    heldout_splits: list[str] = heldout_splits_option(["validation_unique"])


def read(options: Mapping[str, Any], *, base_path: Path) -> Iterator[Pair]:
    """Yield the pairs.

    Args:
        options: of :class:`Options`.
        base_path: not used.

    Raises:
        InputError: wrong options, files or columns that are missing, columns that hold no images, too many broken
            pairs, or none left.
    """
    chosen = parse("pickapic", Options, options)
    folder = data_folder("pickapic", chosen)
    return pairs_of("pickapic", chosen, partial(_comparisons, chosen, folder))


def _comparisons(options: Options, folder: Path, split: str) -> Iterator[Comparison]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    for path in split_files("pickapic", folder, options, split):
        try:
            with pq.ParquetFile(path) as file:
                yield from _rows(file, path, path.relative_to(folder).as_posix())
        # Arrow checks the text of a column only when it is asked for.
        except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
            raise _damaged(path, error) from error


def _rows(file: pq.ParquetFile, path: Path, name: str) -> Iterator[Comparison]:
    schema = file.schema_arrow
    _check(schema, path)
    columns = [c for c in dict.fromkeys((*NEEDED, "has_label", *IDENTITY)) if c in schema.names]
    number, mark = 0, mark_of(path)
    for group in range(file.num_row_groups):
        images = _GroupImages(file, group, path)
        for index, row in enumerate(file.read_row_group(group, columns=columns).to_pylist()):
            number += 1
            label, fault = label_of_pair(row["label_0"], row["label_1"])
            if unlabelled(row.get("has_label")):
                label, fault = None, ""
            identity = [row.get(column) for column in IDENTITY]
            yield Comparison(
                place=f"{path}, row {number}",
                # Rows of copies without these columns are known by their place.
                identity=json.dumps(identity if any(identity[:3]) else [name, number, row["caption"]], default=repr),
                prompt=prompt_of(row["caption"]),
                images=(Member(partial(images.cell, index, 0), mark), Member(partial(images.cell, index, 1), mark)),
                label=label,
                fault=fault,
            )


class _GroupImages:
    """Images of one row group, read in batches, forwards only, from the first one that is asked for."""

    def __init__(self, file: pq.ParquetFile, group: int, path: Path) -> None:
        self._batches: Iterator[pa.RecordBatch] | None = None
        self._file, self._group, self._path = file, group, path
        self._batch: pa.RecordBatch | None = None
        self._start = 0

    def cell(self, index: int, image: int) -> bytes:
        """Bytes of an image; empty where the row has none."""
        import pyarrow as pa

        if self._batches is None:
            self._batches = self._file.iter_batches(
                batch_size=BATCH_ROWS, row_groups=[self._group], columns=list(IMAGES)
            )
        while self._batch is None or index >= self._start + self._batch.num_rows:
            self._start += 0 if self._batch is None else self._batch.num_rows
            try:
                self._batch = next(self._batches)
            except (pa.ArrowException, OSError) as error:
                raise _damaged(self._path, error) from error
        value = self._batch.column(self._batch.schema.get_field_index(IMAGES[image]))[index - self._start].as_py()
        # The hub's own image columns are pairs of bytes and a path.
        value = value["bytes"] if isinstance(value, dict) else value
        return bytes(value or b"")


def _damaged(path: Path, error: Exception) -> InputError:
    return InputError(f"{path}: not a whole parquet file ({str(error).splitlines()[0]}); fetch it again")


def _check(schema: pa.Schema, path: Path) -> None:
    """Refuse a file whose columns are not those of the set."""
    import pyarrow as pa

    if (double := twice(schema.names)) is not None:
        raise InputError(f"{path}: two columns are named '{double}'; take another copy of the data set")
    for column in (*NEEDED, *IMAGES):
        if column not in schema.names:
            without = "; this may be a copy without images" if column in IMAGES else ""
            raise InputError(
                f"{path}: no column '{column}'{without}; expected the columns of Pick-a-Pic v2: "
                f"{', '.join((*NEEDED, *IMAGES))}"
            )
    for column in IMAGES:
        kind = schema.field(column).type
        if pa.types.is_struct(kind) and (place := kind.get_field_index("bytes")) >= 0:
            kind = kind.field(place).type
        if not (pa.types.is_binary(kind) or pa.types.is_large_binary(kind)):
            raise InputError(
                f"{path}: column '{column}' holds {kind}, expected the bytes of image files; take a copy of the data "
                "set that has the images in it"
            )
