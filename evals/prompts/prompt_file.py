"""Prompts in the file formats people have, for prompt sets and for folders of images: one prompt a row, in order.

| suffix | content |
| --- | --- |
| ``.txt`` | one prompt a line; white space around it is dropped |
| ``.json`` | a list of strings, or of objects |
| ``.jsonl`` | one string or object a line |
| ``.csv``, ``.tsv`` | a header and one row a prompt |
| ``.parquet`` | our contract ``prompts`` |

Objects and rows have the prompt under ``prompt``, and may name their image (:data:`FILE_COLUMNS`), their number or id
(:data:`ID_COLUMNS`) and their ``category``, in capital letters or small; other keys are ignored.
:mod:`artifacts.text_lines` says what a line and a cell are.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from artifacts import text_lines
from artifacts.errors import InputError
from artifacts.plugins import nearest
from artifacts.prompt_text import fault, is_text

PROMPT_COLUMN = "prompt"
CATEGORY_COLUMN = "category"
# The first that is there counts.
ID_COLUMNS = ("prompt_id", "id", "index", "idx")
# What pandas calls an index that it has written, and one that it has read and written again.
_INDEX = ("", "Unnamed: 0")
# ``file_name`` is what folders of images in Hugging Face's layout call it.
FILE_COLUMNS = ("file", "file_name", "filename", "image", "image_path", "path")


@dataclass(frozen=True)
class FilePrompt:
    """One prompt of a file.

    Attributes:
        where: where it stands in the file, for messages, e.g. ``line 3``.
        file: the image that the row names; ``None`` where the file has no such column.
        prompt_id: as the row says; ``None`` where the file has no such column.
        category: as the row says; ``None`` where it says nothing.
        index: the whole number in a first column without a name, as pandas writes it: what the row was called before
            others were sorted or left out.
    """

    text: str
    where: str
    file: str | None = None
    prompt_id: str | None = None
    category: Any = None
    index: str | None = None


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
        raise InputError(f"{path}: holds no prompts; give one a line, row or entry")
    columns = list(dict.fromkeys(str(key) for _, row in rows if isinstance(row, Mapping) for key in row))
    known = _known(columns, path)
    names = _Columns(
        prompt_column or known.get(PROMPT_COLUMN, PROMPT_COLUMN),
        _file_column(columns, known, path, file_column),
        next((known[name] for name in ID_COLUMNS if name in known), None),
        known.get(CATEGORY_COLUMN),
        next((name for name in columns[:1] if name in _INDEX), None),
    )
    prompts = [_prompt(path, where, row, names) for where, row in rows]
    for what, values in (("image", [p.file for p in prompts]), (names.id, [p.prompt_id for p in prompts])):
        without = [p.where for p, value in zip(prompts, values, strict=True) if value is None]
        if without and len(without) < len(prompts):
            raise InputError(f"{path}: {without[0]}: names no {what}, other rows do; name it in all rows or in none")
    return prompts


@dataclass(frozen=True)
class _Columns:
    """Names of the columns that are read; ``None`` where there is none."""

    prompt: str
    file: str | None
    id: str | None
    category: str | None
    index: str | None


def _prompt(path: Path, where: str, row: Any, columns: _Columns) -> FilePrompt:
    cells: Mapping[str, Any] = row if isinstance(row, Mapping) else {columns.prompt: row}
    if columns.prompt not in cells:
        known = [str(key) for key in cells]
        raise InputError(
            f"{path}: {where}: no '{columns.prompt}' (found {', '.join(known) or 'nothing'})"
            f"{nearest(columns.prompt, known)}; name the prompt's column with --prompt-column, or prompt_column in a "
            "config"
        )
    text = cells[columns.prompt]
    wrong = fault(text)
    # Where a text was read with its byte-order mark and then written as JSON or as a cell.
    if not wrong and text.startswith(text_lines.MARK):
        wrong = f"{text!a}, which begins with a byte-order mark"
    if wrong:
        raise InputError(
            f"{path}: {where}: the prompt is {wrong}; correct it, or remove the row and its image if it has one"
        )
    file = None if columns.file is None else cells.get(columns.file)
    number = None if columns.id is None else cells.get(columns.id)
    if file is not None and (not isinstance(file, str) or not file.strip() or "\0" in file):
        raise InputError(f"{path}: {where}: '{columns.file}' is {file!r}, expected the name of an image file")
    if number is not None and (isinstance(number, bool) or not isinstance(number, str | int) or number == ""):
        raise InputError(f"{path}: {where}: '{columns.id}' is {number!r}, expected a whole number or a text")
    for name, value in ((columns.file, file), (columns.id, number)):
        if isinstance(value, str) and not is_text(value):
            raise InputError(f"{path}: {where}: '{name}' is {value!a}, which is not Unicode text; correct the file")
    category = None if columns.category is None else cells.get(columns.category)
    index = None if columns.index is None else cells.get(columns.index)
    index = index if isinstance(index, str) and re.fullmatch("[0-9]{1,18}", index) else None
    return FilePrompt(text, where, file, None if number is None else str(number), category, index)


def _known(found: list[str], path: Path) -> dict[str, str]:
    """The columns that have a meaning here, whatever the case of their letters, as they are spelled.

    Passed over for a capital letter, a column of ids would leave the images to the order of the rows.
    """
    known: dict[str, str] = {}
    for column in found:
        name = column.casefold()
        if name not in (PROMPT_COLUMN, CATEGORY_COLUMN, *ID_COLUMNS, *FILE_COLUMNS):
            continue
        if (other := known.setdefault(name, column)) != column:
            raise InputError(f"{path}: columns '{other}' and '{column}' differ in capital letters only; rename one")
    return known


def _file_column(found: list[str], known: Mapping[str, str], path: Path, wanted: str | None) -> str | None:
    """The column that names the images, or ``None``."""
    if wanted is not None:
        if wanted not in found:
            raise InputError(
                f"{path}: no column '{wanted}' (found {', '.join(found) or 'none'}){nearest(wanted, found)}; "
                "give the column of the image names with --file-column"
            )
        return wanted
    named = [known[name] for name in FILE_COLUMNS if name in known]
    if len(named) > 1:
        raise InputError(f"{path}: columns {', '.join(named)} may all name the image; choose one with --file-column")
    return named[0] if named else None


def _read_txt(path: Path) -> Iterator[tuple[str, Any]]:
    blank: list[int] = []
    for number, line in text_lines.lines(path):
        if number == 1 and (other := _other_format(line)):
            raise InputError(f"{path}: line 1 is no prompt but looks like {other}")
        if not line.strip():
            blank.append(number)
            continue
        # Blank lines at the end are no prompts; elsewhere an image may belong to one.
        yield from ((f"line {empty}", "") for empty in blank)
        blank.clear()
        yield f"line {number}", line.strip()


def _other_format(line: str) -> str:
    """What a file is whose first line is this one, if it is no list of prompts."""
    cells = [cell.strip().strip('"').lower() for cell in re.split("[,;\t]", line)]
    if PROMPT_COLUMN in cells and not any(re.search(r"\s", cell) for cell in cells):
        return "the header of a table; name the file .csv, or .tsv if tabs separate its cells"
    try:
        value = text_lines.json_decoder().decode(line.strip())
    except (ValueError, RecursionError):
        value = None
    if isinstance(value, dict | list) or line.strip() in ("[", "{"):
        return "JSON; name the file .json, or .jsonl if each line is an entry"
    return ""


def _read_json(path: Path) -> Iterator[tuple[str, Any]]:
    content = text_lines.read_json(path)
    if not isinstance(content, list):
        raise InputError(
            f"{path}: expected a list of prompts, found {type(content).__name__}; give a list of strings, or of "
            'objects such as {"file": "0.png", "prompt": "a red cat"}'
        )
    return ((f"entry {number}", row) for number, row in enumerate(content, start=1))


def _read_jsonl(path: Path) -> Iterator[tuple[str, Any]]:
    return ((f"line {number}", row) for number, row in text_lines.json_lines(path))


def _read_table(delimiter: str) -> Callable[[Path], Iterator[tuple[str, Any]]]:
    return lambda path: ((f"row {number}", row) for number, row in text_lines.table(path, delimiter))


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
