"""Result files of judges, each as answers about images: GenEval's, DPG-Bench's, and tables of one's own.

| format | file | score |
| --- | --- | --- |
| ``geneval`` | ``results.jsonl`` of GenEval's ``evaluate_images.py`` | 1 if the image is correct, else 0 |
| ``dpg`` | the ``.txt`` of DPG-Bench's ``compute_dpg_bench.py`` | share of the image's questions, 0 to 1 |
| ``table`` | ``.csv``, ``.tsv`` or ``.jsonl`` with the image or the prompt, and a number | as it stands |
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from artifacts import text_lines
from artifacts.errors import InputError
from artifacts.plugins import nearest
from evals.prompts.prompt_file import FILE_COLUMNS, PROMPT_COLUMN

SCORE_COLUMNS = ("score", "correct", "value")
"""The one that is there holds the scores of a table, unless one is named."""
IMAGE_COLUMN = "image_number"
_Row = tuple[str, Mapping[str, Any]]
"""Where a row is, and its cells."""
_SUMMARY = "Model: "
# The file rounds nothing: the mean is that of the same numbers.
_SLACK = 1e-9


@dataclass(frozen=True)
class Answer:
    """What a judge says of one image.

    Attributes:
        where: in the file, for messages.
        file: the image as the judge calls it; ``None`` if it goes by its prompt.
        item: what the set's publisher calls the prompt, or the number of its row.
        image: which of the prompt's images, from 0, where the file says it.
        prompt: as the judge was told; ``None`` where the file does not say.
    """

    where: str
    score: float
    file: str | None = None
    item: str | None = None
    image: int | None = None
    prompt: str | None = None


@dataclass(frozen=True)
class Results:
    """What a result file says.

    Attributes:
        path: the file.
        column: of its scores; two columns of one judge are two scales.
        answers: in the order of the file.
    """

    path: Path
    column: str
    answers: list[Answer]


def read(path: str | Path, form: str, *, score_column: str | None = None) -> Results:
    """What a judge has written.

    Args:
        form: one of :data:`FORMATS`.
        score_column: of a ``table``; left out, the one of :data:`SCORE_COLUMNS` that is there.

    Raises:
        InputError: the file cannot be read, is of another format, may hold scores in two columns, or holds no finite
            number where a score must be.
    """
    path = Path(path)
    if score_column is not None and form != "table":
        raise InputError(f"--score-column {score_column}: goes with --format table; {form} has its own")
    if form == "table":
        rows = _rows(path)
        columns = list(dict.fromkeys(column for _, row in rows for column in row))
        column = _score_column(path, columns, score_column)
        answers = list(_table(path, rows, columns, column))
    else:
        reader, column = _READERS[form]
        answers = list(reader(path))
    if not answers:
        raise InputError(f"{path}: holds no results; expected those of format {form}")
    return Results(path, column, answers)


def _geneval(path: Path) -> Iterator[Answer]:
    for number, row in text_lines.json_lines(path):
        where = f"line {number}"
        found = row if isinstance(row, dict) else {}
        file, correct, prompt = (found.get(key) for key in ("filename", "correct", "prompt"))
        if not isinstance(file, str) or not isinstance(correct, bool) or not isinstance(prompt, str):
            raise InputError(
                f"{path}: {where}: filename is {file!r}, correct {correct!r} and prompt {prompt!r}, expected two texts "
                "with true or false; give the results.jsonl of evaluate_images.py"
            )
        yield Answer(where, float(correct), file=file, prompt=prompt)


def _dpg(path: Path) -> Iterator[Answer]:
    for number, line in text_lines.lines(path):
        if line.startswith(_SUMMARY):
            return
        if not line.strip():
            continue
        where = f"line {number}"
        # Names may hold commas: numbers are read from the end.
        found = re.fullmatch(r"(.+?)((?:, [0-9.e+-]+){2,})", line.strip())
        values = [] if found is None else [_number(text) for text in found[2].split(", ")[1:]]
        *scores, mean = values or [math.nan]
        if found is None or not all(0 <= score <= 1 for score in scores):
            raise InputError(
                f"{path}: {where}: {line.strip()[:80]!r} is not an image, its scores from 0 to 1 and their mean; give "
                "the .txt of compute_dpg_bench.py"
            )
        if abs(math.fsum(scores) / len(scores) - mean) > _SLACK:
            raise InputError(f"{path}: {where}: the mean is {mean}, but that of its {len(scores)} scores is another")
        for image, score in enumerate(scores):
            yield Answer(where, score, item=PurePosixPath(found[1].replace("\\", "/")).name.split(".")[0], image=image)


def _rows(path: Path) -> list[_Row]:
    rows: list[_Row] = []
    if path.suffix.lower() == ".jsonl":
        for number, row in text_lines.json_lines(path):
            if not isinstance(row, dict):
                raise InputError(f"{path}: line {number}: is {type(row).__name__}, expected an object")
            rows.append((f"line {number}", row))
    elif path.suffix.lower() in (".csv", ".tsv"):
        delimiter = "\t" if path.suffix.lower() == ".tsv" else ","
        rows += [(f"row {number}", row) for number, row in text_lines.table(path, delimiter)]
    else:
        raise InputError(f"{path}: unknown suffix '{path.suffix}': expected one of .csv, .tsv, .jsonl")
    return rows


def _score_column(path: Path, columns: list[str], named: str | None) -> str:
    found = [name for name in SCORE_COLUMNS if name in columns]
    if named is None and len(found) > 1:
        raise InputError(
            f"{path}: has the columns {', '.join(found)}, expected one of scores; name it with --score-column"
        )
    wanted = named or next(iter(found), SCORE_COLUMNS[0])
    if wanted not in columns:
        raise InputError(
            f"{path}: no column '{wanted}' (found {', '.join(columns) or 'none'}){nearest(wanted, columns)}; name that "
            "of the scores with --score-column"
        )
    return wanted


def _table(path: Path, rows: Sequence[_Row], columns: Sequence[str], wanted: str) -> Iterator[Answer]:
    file = next((name for name in FILE_COLUMNS if name in columns), None)
    if file is None and PROMPT_COLUMN not in columns:
        raise InputError(
            f"{path}: no column of the image ({', '.join(FILE_COLUMNS)}) and none of the prompt ({PROMPT_COLUMN}); "
            f"found {', '.join(columns)}"
        )
    for where, row in rows:
        image = None
        if (given := row.get(IMAGE_COLUMN)) is not None:
            if not str(given).isdecimal():
                raise InputError(f"{path}: {where}: {IMAGE_COLUMN} is {given!r}, expected a whole number from 0")
            image = int(given)
        score = _number(row.get(wanted))
        if not math.isfinite(score):
            raise InputError(f"{path}: {where}: {wanted} is {row.get(wanted)!r}, expected a finite number")
        if file is not None and not (isinstance(row.get(file), str) and row[file]):
            raise InputError(f"{path}: {where}: {file} is {row.get(file)!r}, expected the name of an image")
        prompt = row.get(PROMPT_COLUMN)
        if not isinstance(prompt, str) and (file is None or prompt is not None):
            raise InputError(f"{path}: {where}: {PROMPT_COLUMN} is {prompt!r}, expected a text")
        yield Answer(where, score, file=None if file is None else str(row[file]), image=image, prompt=prompt)


def _number(value: Any) -> float:
    """A number as JSON or a cell holds it; not a number if it is none."""
    if isinstance(value, str) and value.strip().lower() in ("true", "false"):
        return float(value.strip().lower() == "true")
    try:
        return float(value)
    except (TypeError, ValueError):
        return math.nan


_READERS = {"geneval": (_geneval, "correct"), "dpg": (_dpg, "score")}
FORMATS = (*_READERS, "table")
"""Formats of result files."""
