"""A config to begin with."""

from __future__ import annotations

import re
from importlib.resources import files
from pathlib import Path

from artifacts.atomic import write_text, writing
from artifacts.errors import InputError
from artifacts.validation import NAME_PATTERN


def write_config(path: Path) -> None:
    """Write a config that runs as it stands, every block explained; the benchmark has the name of the file.

    Raises:
        InputError: the file is there, its folder is not or takes no file, or its name cannot be a benchmark's.
    """
    if path.exists():
        raise InputError(f"{path}: is there already; expected the name of a new file")
    if not path.parent.is_dir():
        raise InputError(f"{path}: no folder {path.parent}")
    if path.suffix not in (".yaml", ".yml") or not re.fullmatch(NAME_PATTERN, path.stem):
        raise InputError(f"{path}: expected a name that a benchmark can have ({NAME_PATTERN}) and the ending .yaml")
    template = files("pipeline").joinpath("new_config.yaml").read_text(encoding="utf-8")
    with writing(str(path)):
        write_text(path, template.replace("NAME", path.stem))
