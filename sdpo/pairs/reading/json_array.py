"""A JSON file that holds one long array, read element by element.

The annotation files of HPDv2 and HPDv3 are arrays of about a million objects; as Python objects they would take
gigabytes.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TextIO

from artifacts.errors import InputError
from artifacts.text_lines import json_decoder, json_fault, open_text

PIECE = 1 << 20
_BLANK = " \t\r\n"


def read_objects(path: Path) -> Iterator[dict[str, Any]]:
    """Yield the objects of an array.

    Raises:
        InputError: the file cannot be read, is not a whole JSON array, or an element is not an object.
    """
    number = 0
    try:
        with open_text(path) as file:
            for number, element in enumerate(_elements(file), start=1):
                if not isinstance(element, dict):
                    raise InputError(f"{path}, element {number}: expected an object, got {type(element).__name__}")
                yield element
    except InputError:
        raise
    except (ValueError, RecursionError) as error:
        raise InputError(
            f"{path}: not a whole JSON array ({json_fault(error)} after element {number}); fetch the file again"
        ) from error


def _elements(file: TextIO) -> Iterator[Any]:
    text = _Text(file)
    if text.mark() != "[":
        raise json.JSONDecodeError("no array", "", 0)
    text.position += 1
    ended = text.mark() == "]"
    while not ended:
        yield text.element()
        if text.mark() not in (",", "]"):
            raise json.JSONDecodeError("neither comma nor bracket", "", 0)
        ended = text.mark() == "]"
        text.position += not ended
    text.position += 1
    if text.mark():
        raise json.JSONDecodeError("more text", "", 0)


class _Text:
    """A text from a position on, read in pieces."""

    def __init__(self, file: TextIO) -> None:
        self.position = 0
        self._file, self._text, self._more = file, "", True
        self._decoder = json_decoder()

    def mark(self) -> str:
        """The next character that is not blank, to which this goes; empty at the end."""
        while True:
            while self.position < len(self._text):
                if (character := self._text[self.position]) not in _BLANK:
                    return character
                self.position += 1
            if not self._more:
                return ""
            self._read()

    def element(self) -> Any:
        """The value that begins here, which this goes behind."""
        self.mark()
        while True:
            try:
                element, end = self._decoder.raw_decode(self._text, self.position)
            except json.JSONDecodeError:
                if not self._more:
                    raise
            else:
                # A number at the end of what was read may go on in the next piece.
                if end < len(self._text) or not self._more:
                    self.position = end
                    return element
            self._read()

    def _read(self) -> None:
        # Twice as much each time, so that one huge element does not take quadratic time.
        piece = self._file.read(max(PIECE, len(self._text) - self.position))
        self._more = bool(piece)
        self._text, self.position = self._text[self.position :] + piece, 0
