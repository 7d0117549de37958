"""Text files that people and other programs wrote: one rule of encoding, line ends, JSON and tables for all readers.

- UTF-8, with or without a byte-order mark. UTF-16, UTF-32 and other bytes are named and refused.
- ``\\n`` and ``\\r\\n`` end a line, and nothing else does: what else Python's ``splitlines`` splits at may stand inside
  a text. A carriage return alone is refused, since it may be an old line end.
- JSON objects name each key once, and tables each column.
"""

from __future__ import annotations

import codecs
import csv
import io
import json
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TextIO

from artifacts.errors import InputError

OTHER_MARKS = {
    codecs.BOM_UTF32_LE: "UTF-32",
    codecs.BOM_UTF32_BE: "UTF-32",
    codecs.BOM_UTF16_LE: "UTF-16",
    codecs.BOM_UTF16_BE: "UTF-16",
}
"""Byte-order marks that are refused; UTF-32's begins as UTF-16's does, so it comes first."""

MARK = "\ufeff"


@contextmanager
def open_text(path: str | Path) -> Iterator[TextIO]:
    """Open a text behind its byte-order mark; lines end at line feeds, and nothing is translated.

    Raises:
        InputError: the file cannot be read, or is not UTF-8; also while it is read.
    """
    path = Path(path)
    try:
        with path.open("rb") as file:
            start = file.peek(4)[:4]
            for mark, encoding in OTHER_MARKS.items():
                if start.startswith(mark):
                    raise InputError(f"{path}: is {encoding} text; save it as UTF-8")
            if start.startswith(codecs.BOM_UTF8):
                file.read(len(codecs.BOM_UTF8))
            with io.TextIOWrapper(file, encoding="utf-8", newline="\n") as text:
                yield text
    except OSError as error:
        raise InputError(f"{path}: {error.strerror or error}; give a UTF-8 text file") from error
    except UnicodeDecodeError as error:
        raise _undecodable(path, error) from error


def _undecodable(path: Path, error: UnicodeDecodeError) -> InputError:
    """Where the bytes are that are no UTF-8: the error's own place counts from the last piece that was read."""
    before = 0
    with path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            try:
                line.decode()
            except UnicodeDecodeError as found:
                what = "UTF-16 without a byte-order mark? " if b"\0" in line else ""
                return InputError(
                    f"{path}: not UTF-8 text ({what}{found.reason} in line {number}, at byte {before + found.start}); "
                    "give a UTF-8 text file"
                )
            before += len(line)
    return InputError(f"{path}: not UTF-8 text ({error.reason}); give a UTF-8 text file")


def read_text(path: str | Path) -> str:
    """The whole text, without its byte-order mark.

    Raises:
        InputError: as :func:`open_text`.
    """
    with open_text(path) as file:
        return file.read()


def lines(path: str | Path) -> Iterator[tuple[int, str]]:
    """Number, from 1, and content of each line, without its end.

    Raises:
        InputError: as :func:`open_text`; a line holds a NUL or a carriage return, or begins with a byte-order mark.
    """
    with open_text(path) as file:
        for number, line in enumerate(file, start=1):
            if line.endswith("\n"):
                line = line[:-1].removesuffix("\r")
            _check(Path(path), number, line)
            yield number, line


def _check(path: Path, number: int, line: str) -> None:
    if "\0" in line:
        raise InputError(f"{path}: line {number} holds a NUL: no text, or UTF-16 without its mark; save it as UTF-8")
    if "\r" in line:
        raise InputError(
            f"{path}: line {number} holds a carriage return without a line feed; save the file with the line ends of "
            "Unix or Windows"
        )
    if line.startswith(MARK):
        raise InputError(
            f"{path}: line {number} begins with a byte-order mark, as where files were joined; remove the mark"
        )


def json_decoder() -> json.JSONDecoder:
    """Python's, but for keys that an object names twice: it would keep the last one's value."""
    return json.JSONDecoder(object_pairs_hook=_object)


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError(f"an object names the key {twice([key for key, _ in pairs])!r} twice")
    return found


def twice(names: list[str]) -> str | None:
    """The first name that is there more than once."""
    return next((name for name, count in Counter(names).items() if count > 1), None)


def json_fault(error: ValueError | RecursionError) -> str:
    """What a decoder of :func:`json_decoder` found, in a few words."""
    if isinstance(error, json.JSONDecodeError):
        return error.msg
    return "brackets nested too deeply" if isinstance(error, RecursionError) else str(error).split(";")[0]


def parse_json(text: str) -> Any:
    """The value in a text.

    Raises:
        ValueError: it is no JSON; the message is the line and the reason in a few words.
    """
    try:
        return json_decoder().decode(text)
    except (ValueError, RecursionError) as error:
        where = f"line {error.lineno}: " if isinstance(error, json.JSONDecodeError) else ""
        raise ValueError(f"{where}{json_fault(error)}") from error


def read_json(path: str | Path) -> Any:
    """The value in a JSON file.

    Raises:
        InputError: as :func:`open_text`, or it is no JSON.
    """
    text = read_text(path)
    try:
        return parse_json(text)
    except ValueError as error:
        more = "; several values, one a line, are .jsonl" if str(error).endswith("Extra data") else ""
        raise InputError(f"{path}: not JSON ({error}); correct the file{more}") from error


def json_lines(path: str | Path) -> Iterator[tuple[int, Any]]:
    """Line number and value of each line of a JSON Lines file; blank lines are passed over.

    Raises:
        InputError: as :func:`lines`, or a line is no JSON.
    """
    decoder = json_decoder()
    for number, line in lines(path):
        if not line.strip():
            continue
        try:
            yield number, decoder.decode(line)
        except (ValueError, RecursionError) as error:
            raise InputError(
                f"{path}: line {number}: not JSON ({json_fault(error)}); expected one string or object a line"
            ) from error


def table(path: str | Path, delimiter: str = ",") -> Iterator[tuple[int, dict[str, str]]]:
    """Number, from 1, and cells by column of each row below the header; a line end inside a cell is ``\\n``.

    Blank lines at the end are passed over.

    Raises:
        InputError: as :func:`lines`, a column is named twice or with white space around its name, or a row has not the
            header's number of cells.
    """
    reader = csv.reader((f"{line}\n" for _, line in lines(path)), delimiter=delimiter, strict=True)
    try:
        header = next(reader, None)
        if header is None:
            return
        if not header:
            raise InputError(f"{path}: the first line is blank; expected the names of the columns there")
        if spaced := [name for name in header if name != name.strip()]:
            raise InputError(f"{path}: the column {spaced[0]!r} has white space around its name; remove it")
        if (double := twice([name for name in header if name])) is not None:
            raise InputError(f"{path}: two columns are named '{double}'; name each column once")
        blank = 0
        for number, cells in enumerate(reader, start=1):
            # What csv makes of an empty line, which of a table with one column is an empty cell.
            if not cells:
                blank = blank or number
                continue
            if blank or len(cells) != len(header):
                raise InputError(
                    f"{path}: row {blank or number} has not the {len(header)} cells of the header; quote cells that "
                    "hold the delimiter, and remove blank lines"
                )
            yield number, dict(zip(header, cells, strict=True))
    except csv.Error as error:
        raise InputError(f"{path}: line {reader.line_num}: not a table ({error}); correct the file") from error
