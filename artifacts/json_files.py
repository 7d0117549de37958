"""Reading JSON files that a program wrote."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from artifacts.errors import InputError


def read_object(path: Path, *, missing: str, damaged: str) -> dict[str, Any]:
    """A JSON object.

    Args:
        missing: what to do where there is no such file.
        damaged: what to do where it holds something else.

    Raises:
        InputError: there is none.
    """
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise InputError(f"{path}: no such file; {missing}") from error
    # Text that is no UTF-8 is a ValueError too.
    except ValueError as error:
        raise InputError(f"{path}: not valid JSON ({error}); {damaged}") from error
    if not isinstance(value, dict):
        raise InputError(f"{path}: expected a JSON object, found {type(value).__name__}; {damaged}")
    return value
