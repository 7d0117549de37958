"""Job descriptions on the command line: one JSON object that says all a stage needs to know."""

from __future__ import annotations

import argparse
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any

from artifacts.errors import InputError
from artifacts.text_lines import parse_json


def add_spec(parser: argparse.ArgumentParser, *, required: bool = True) -> None:
    """Add the option ``--spec``."""
    parser.add_argument(
        "--spec",
        required=required,
        metavar="JSON",
        help="job: inline JSON, a JSON file, or - for stdin; `sdpo-bench spec CONFIG --stage STAGE` lists those of a "
        "config, and with --job NAME prints one",
    )


def add_version(parser: argparse.ArgumentParser) -> None:
    """Add the option ``--version``."""
    parser.add_argument("--version", action="version", version=f"%(prog)s {version('sdpo-bench')}")


def read_spec(text: str, option: str = "--spec") -> dict[str, Any]:
    """Read a job description, or what else an option gives as a JSON object.

    Args:
        text: inline JSON (starts with ``{``), a path, or ``-``.
        option: the option, for messages.

    Raises:
        InputError: not JSON, not an object, or the file does not exist.
    """
    origin = option
    try:
        if text == "-":
            origin, text = "standard input", sys.stdin.read()
        elif not text.lstrip().startswith("{"):
            origin, text = text, Path(text).read_text(encoding="utf-8")
    except OSError as error:
        raise InputError(f"{option}: {text}: {error.strerror}; give inline JSON or a readable file") from error
    except UnicodeDecodeError as error:
        raise InputError(f"{option}: {text}: not UTF-8 text ({error.reason}); give a JSON file") from error
    try:
        spec = parse_json(text)
    except ValueError as error:
        raise InputError(f"{origin}: not JSON ({error})") from error
    if not isinstance(spec, dict):
        raise InputError(f"{origin}: expected a JSON object, got {type(spec).__name__}")
    return spec
