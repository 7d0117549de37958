"""Prompt source ``text_file``: prompts of one's own, in any of the formats of :mod:`evals.prompts.prompt_file`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from artifacts.errors import InputError
from artifacts.plugins import nearest
from evals.prompts import Prompt
from evals.prompts.prompt_file import read_prompt_file

DEFAULTS: dict[str, Any] = {"path": None, "prompt_column": None}


def read(options: Mapping[str, Any]) -> list[Prompt]:
    """The prompts with their categories, where rows have one, in the order of the file.

    Args:
        options: ``path`` of the file; ``prompt_column``, the key or column of the prompt, left out: ``prompt``.

    Raises:
        InputError: no ``path``, another option, or the file cannot be read as its suffix says.
    """
    for name, value in options.items():
        if name not in DEFAULTS:
            raise InputError(
                f"prompt source 'text_file': unknown option '{name}': expected one of {', '.join(DEFAULTS)}"
                f"{nearest(name, list(DEFAULTS))}"
            )
        if not (isinstance(value, str) and value) and (name == "path" or value is not None):
            raise InputError(f"prompt source 'text_file': {name} is {value!r}, expected a text")
    if "path" not in options:
        raise InputError("prompt source 'text_file': path is missing; expected a file of prompts")
    path = options["path"]
    prompts = []
    for prompt in read_prompt_file(path, prompt_column=options.get("prompt_column")):
        category = "" if prompt.category is None else prompt.category
        if not isinstance(category, str):
            raise InputError(f"{path}: {prompt.where}: category is {category!r}, expected text")
        prompts.append(Prompt(prompt.text, category))
    return prompts
