"""JSON objects that a program wrote, in files of their own or within others."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from artifacts.errors import InputError
from artifacts.text_lines import parse_json


def read_object(path: Path, *, missing: str, damaged: str) -> dict[str, Any]:
    """A JSON object in a file, behind a byte-order mark if there is one.

    Args:
        missing: what to do where there is no such file.
        damaged: what to do where it holds something else.

    Raises:
        InputError: there is none.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except FileNotFoundError as error:
        raise InputError(f"{path}: no such file; {missing}") from error
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else f"not UTF-8 text: {error.reason}"
        raise InputError(f"{path}: cannot be read ({reason}); {damaged}") from error
    return to_object(text, str(path), damaged=damaged)


def to_object(text: str, where: str, *, damaged: str) -> dict[str, Any]:
    """A JSON object in a text.

    Args:
        where: where the text stands, for messages.
        damaged: what to do where it is something else.

    Raises:
        InputError: it is.
    """
    try:
        value = parse_json(text)
    except ValueError as error:
        raise InputError(f"{where}: not valid JSON ({error}); {damaged}") from error
    if not isinstance(value, dict):
        raise InputError(f"{where}: expected a JSON object, found {type(value).__name__}; {damaged}")
    return value
