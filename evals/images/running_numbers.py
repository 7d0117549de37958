"""Numbers that run, in the names of images and in the ids of prompts: what says which is whose where no name does."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from artifacts.errors import InputError
from evals.prompts.prompt_file import FilePrompt


def running_numbers(folder: Path, names: Sequence[str], stems: Sequence[str]) -> list[int] | None:
    """The number in each name that runs from 0 or 1 by ones in the given order, or ``None``.

    Raises:
        InputError: another number runs too, in another order.
    """
    in_order = next((column for column in _running(stems) if column == sorted(column)), None)
    if in_order is not None and (other := _runs_otherwise(stems)) is not None:
        at = next(i for i, number in enumerate(other) if number - min(other) != i)
        raise InputError(
            f"{folder}: two numbers in the names run, in different orders, so '{names[at]}' may be number "
            f"{in_order[at]} or {other[at]}; give a .csv or .jsonl with the columns file and prompt"
        )
    return in_order


def _runs_otherwise(texts: Sequence[str]) -> list[int] | None:
    """The number in each text that runs from 0 or 1 in another order than the texts, if there is one."""
    return next((column for column in _running(texts) if column != sorted(column)), None)


def _running(texts: Sequence[str]) -> list[list[int]]:
    """Numbers, one in each text, that are those from 0 or 1 on by ones in some order."""
    # Python reads no number of thousands of digits, and none such runs.
    found = [re.findall("[0-9]+", text) for text in texts]
    numbers = [[int(digits) if len(digits) < 1000 else -1 for digits in row] for row in found]
    common = min(map(len, numbers))
    # Counted from the front and from the back, since words between them may hold numbers of their own.
    columns = [[row[place] for row in numbers] for place in (*range(common), *range(-common, 0))]
    return [column for column in columns if sorted(column) in (_run(0, column), _run(1, column))]


def _run(first: int, column: Sequence[int]) -> list[int]:
    return list(range(first, first + len(column)))


def id_numbers(prompts: Sequence[FilePrompt], source: Path) -> list[int] | None:
    """The numbers that the prompts' ids end in, if the ids differ in nothing else; ``None`` leaves it to the rows.

    Raises:
        InputError: the ids hold other numbers, which run in another order than the rows: ``1.png``, ``0.png``, …; or
            an index of pandas says that the rows have been sorted.
    """
    index = [int(prompt.index) for prompt in prompts if prompt.index is not None and prompt.prompt_id is None]
    if len(set(index)) == len(prompts) and index != sorted(index):
        raise InputError(
            f"{source}: the numbers of its first column, an index without a name ({shown(list(map(str, index)))}), are "
            "not in order, so the rows may not be in that of the images; call it prompt_id if it numbers the images, "
            "or remove it"
        )
    ids = [prompt.prompt_id or "" for prompt in prompts]
    # Python reads no number of thousands of digits.
    parts = [re.fullmatch(r"(.*?)([0-9]{1,18})", prompt_id, re.S) for prompt_id in ids]
    if None not in parts and len({part[1] for part in parts if part}) == 1:
        return [int(part[2]) for part in parts if part]
    if (other := _runs_otherwise(ids)) is not None:
        raise InputError(
            f"{source}: numbers in the prompts' ids ({shown(ids)}) run in another order than the rows, so that of "
            f"{prompts[0].where} may be number {other[0]}; name the images in a column file, or have ids that differ "
            "in the number at their end alone"
        )
    return None


def shown(names: Sequence[str]) -> str:
    """The first of some names, for messages."""
    return f"{', '.join(names[:3])}{' …' if len(names) > 3 else ''}"
