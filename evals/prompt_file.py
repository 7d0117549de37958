"""Prompts of a folder of images, read from the file formats people have: one prompt an image, in order.

| suffix | content |
| --- | --- |
| ``.txt`` | one prompt a line |
| ``.json`` | a list of strings, or of objects |
| ``.jsonl`` | one string or object a line |
| ``.csv``, ``.tsv`` | a header and one row a prompt |
| ``.parquet`` | our contract ``prompts`` |

Objects and rows have the prompt under ``prompt``, and may name their image (:data:`FILE_COLUMNS`) and their
``prompt_id``; other keys are ignored.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from artifacts.errors import InputError
from artifacts.plugins import nearest

PROMPT_COLUMN = "prompt"
ID_COLUMN = "prompt_id"
# ``file_name`` is what folders of images in Hugging Face's layout call it.
FILE_COLUMNS = ("file", "file_name", "filename", "image", "image_path", "path")


@dataclass(frozen=True)
class FilePrompt:
    """One prompt of a file.

    Attributes:
        where: where it stands in the file, for messages, e.g. ``line 3``.
        file: the image that the row names; ``None`` where the file has no such column.
        prompt_id: as the row says; ``None`` where the file has no such column.
    """

    text: str
    where: str
    file: str | None = None
    prompt_id: str | None = None


def is_text(value: str) -> bool:
    """Whether a string is Unicode text: JSON's escapes, and names of files, may hold halves of characters."""
    try:
        value.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


def read_prompt_file(
    path: str | Path, *, prompt_column: str | None = None, file_column: str | None = None
) -> list[FilePrompt]:
    """Read the prompts in the order of the file.

    Args:
        prompt_column: key or column of the prompt; left out, ``prompt``.
        file_column: key or column of the image's name; left out, the one of :data:`FILE_COLUMNS` that is there.

    Raises:
        InputError: the file cannot be read, has another format than its suffix says, holds no prompts, a prompt is
            empty or no text, or only some rows name an image.
    """
    path = Path(path)
    if path.is_dir():
        raise InputError(f"{path}: is a folder; give a file of prompts ({', '.join(_READERS)})")
    if path.suffix.lower() not in _READERS:
        raise InputError(f"{path}: unknown suffix '{path.suffix}': expected one of {', '.join(_READERS)}")
    rows = list(_READERS[path.suffix.lower()](path))
    if not rows:
        raise InputError(f"{path}: holds no prompts; give one prompt an image")
    column = prompt_column or PROMPT_COLUMN
    named = _file_column([row for _, row in rows if isinstance(row, Mapping)], path, file_column)
    prompts = [_prompt(path, where, row, column, named) for where, row in rows]
    for what, values in (("image", [p.file for p in prompts]), (ID_COLUMN, [p.prompt_id for p in prompts])):
        without = [p.where for p, value in zip(prompts, values, strict=True) if value is None]
        if without and len(without) < len(prompts):
            raise InputError(f"{path}: {without[0]}: names no {what}, other rows do; name it in all rows or in none")
    return prompts


def _prompt(path: Path, where: str, row: Any, column: str, file_column: str | None) -> FilePrompt:
    file = prompt_id = None
    text = row
    if isinstance(row, Mapping):
        if column not in row:
            known = [str(key) for key in row]
            raise InputError(
                f"{path}: {where}: no '{column}' (found {', '.join(known) or 'nothing'}){nearest(column, known)}; "
                "name the prompt's column with --prompt-column"
            )
        text, prompt_id = row[column], row.get(ID_COLUMN)
        file = row.get(file_column) if file_column is not None else None
    if not isinstance(text, str):
        found = "nothing" if text is None else type(text).__name__
        raise InputError(f"{path}: {where}: the prompt is {found}, expected text")
    if not text.strip():
        raise InputError(
            f"{path}: {where}: the prompt is empty; give one prompt an image, or remove the row and its image"
        )
    if file is not None and (not isinstance(file, str) or not file.strip()):
        raise InputError(f"{path}: {where}: '{file_column}' is {file!r}, expected the name of an image file")
    for what, value in (("the prompt", text), (f"'{file_column}'", file), (f"'{ID_COLUMN}'", prompt_id)):
        if isinstance(value, str) and not is_text(value):
            raise InputError(f"{path}: {where}: {what} is {value!a}, which is not Unicode text; correct the file")
    return FilePrompt(text, where, file, None if prompt_id is None else str(prompt_id))


def _file_column(rows: list[Mapping[str, Any]], path: Path, wanted: str | None) -> str | None:
    """The column that names the images, or ``None``."""
    found = dict.fromkeys(str(key) for row in rows for key in row)
    if wanted is not None:
        if wanted not in found:
            raise InputError(
                f"{path}: no column '{wanted}' (found {', '.join(found) or 'none'}){nearest(wanted, list(found))}; "
                "give the column of the image names with --file-column"
            )
        return wanted
    named = [name for name in FILE_COLUMNS if name in found]
    if len(named) > 1:
        raise InputError(f"{path}: columns {', '.join(named)} may all name the image; choose one with --file-column")
    return named[0] if named else None


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise InputError(f"{path}: {error.strerror}; give a readable file of prompts") from error
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: not UTF-8 text ({error.reason} at byte {error.start}); save it as UTF-8") from error


def _lines(path: Path) -> Iterator[tuple[str, str]]:
    """Lines with their number; blank lines are passed on, but for those at the end.

    Split at line feeds only: a prompt may hold other characters at which Python splits lines.
    """
    for number, line in enumerate(_text(path).rstrip().split("\n"), start=1):
        yield f"line {number}", line.strip()


def _read_txt(path: Path) -> Iterator[tuple[str, Any]]:
    if _text(path).strip():
        yield from _lines(path)


def _read_json(path: Path) -> Iterator[tuple[str, Any]]:
    try:
        content = json.loads(_text(path))
    except json.JSONDecodeError as error:
        raise InputError(f"{path}: not JSON (line {error.lineno}: {error.msg}); correct the file") from error
    if not isinstance(content, list):
        raise InputError(
            f"{path}: expected a list of prompts, found {type(content).__name__}; give a list of strings, or of "
            'objects such as {"file": "0.png", "prompt": "a red cat"}'
        )
    for number, row in enumerate(content, start=1):
        yield f"entry {number}", row


def _read_jsonl(path: Path) -> Iterator[tuple[str, Any]]:
    if not _text(path).strip():
        return
    for where, line in _lines(path):
        try:
            yield where, json.loads(line)
        except json.JSONDecodeError as error:
            raise InputError(
                f"{path}: {where}: not JSON ({error.msg}); expected one string or object a line"
            ) from error


def _read_table(delimiter: str) -> Callable[[Path], Iterator[tuple[str, Any]]]:
    def read(path: Path) -> Iterator[tuple[str, Any]]:
        reader = csv.DictReader(io.StringIO(_text(path), newline=""), delimiter=delimiter, strict=True)
        try:
            for number, row in enumerate(reader, start=1):
                if None in row or None in row.values():
                    cells = len(reader.fieldnames or ())
                    raise InputError(
                        f"{path}: row {number} has not the {cells} cells of the header; quote cells that hold the "
                        "delimiter"
                    )
                yield f"row {number}", row
        except csv.Error as error:
            raise InputError(f"{path}: line {reader.line_num}: not a table ({error}); correct the file") from error

    return read


def _read_parquet(path: Path) -> Iterator[tuple[str, Any]]:
    from artifacts.contracts import read_table

    try:
        table = read_table(path, "prompts")
    except InputError as error:
        raise InputError(f"{error}; prompts of your own are read from .csv, .jsonl, .json or .txt") from error
    for number, row in enumerate(table.to_dict("records"), start=1):
        yield f"row {number}", row


_READERS: dict[str, Callable[[Path], Iterator[tuple[str, Any]]]] = {
    ".txt": _read_txt,
    ".json": _read_json,
    ".jsonl": _read_jsonl,
    ".csv": _read_table(","),
    ".tsv": _read_table("\t"),
    ".parquet": _read_parquet,
}
