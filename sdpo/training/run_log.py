"""The log of a run: what it has noted so far, in files beside its states.

``training.jsonl`` and ``drift.jsonl`` become ``training.parquet`` and ``drift.parquet`` of the model: a line a row, a
JSON object with their columns. A row is in the file when it has been added, so a run can be followed while it goes on.
No state holds rows: who takes one up cuts the log back to its step.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path
from typing import Any, Literal

Table = Literal["training", "drift"]
TABLES: tuple[Table, ...] = ("training", "drift")
Row = Mapping[str, Any]
_LONGEST = 1 << 16
"""Bytes in which the last two lines of a file lie."""


def log_file(folder: Path, table: Table) -> Path:
    """File of one table in the folder of a run's states."""
    return folder / f"{table}.jsonl"


def read_rows(folder: Path, table: Table, *, until: int | None = None) -> list[dict[str, Any]]:
    """Rows of one table, without a last line that is not whole: a process may be writing it, or have died with it.

    Args:
        folder: of the run's states.
        table: which.
        until: rows of later steps are left out.
    """
    return [row for _, row in _whole_lines(log_file(folder, table)) if until is None or row["step"] <= until]


def last_row(folder: Path, table: Table) -> dict[str, Any] | None:
    """The last whole row of one table, found from the end of the file."""
    try:
        with log_file(folder, table).open("rb") as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - _LONGEST))
            lines = file.read().splitlines(keepends=True)
    except FileNotFoundError:
        return None
    found = [row for line in lines[-2:] if (row := _row(line)) is not None]
    return found[-1] if found else None


def cut_back(folder: Path, step: int, keeps: Callable[[Table, int], bool]) -> None:
    """Drop the rows of later steps, which a killed process wrote after its last state.

    Args:
        folder: of the run's states.
        step: that the run goes on from; -1 drops all.
        keeps: whether a table has a row of this step in a run that does not end there.
    """
    for table in TABLES:
        path, end = log_file(folder, table), 0
        for line_end, row in _whole_lines(path):
            if row["step"] > step or (row["step"] == step and not keeps(table, step)):
                break
            end = line_end
        if path.exists():
            os.truncate(path, end)
        if step > 0 and table == "drift" and end == 0:
            lost = f"no rows up to step {step}, where the run goes on; its log begins there"
            print(f"warning: {path}: {lost}", file=sys.stderr)


def _whole_lines(path: Path) -> list[tuple[int, dict[str, Any]]]:
    """End in the file and row of each line, up to the first that is not whole."""
    found: list[tuple[int, dict[str, Any]]] = []
    end = 0
    for line in path.read_bytes().splitlines(keepends=True) if path.exists() else []:
        if (row := _row(line)) is None:
            break
        end += len(line)
        found.append((end, row))
    return found


def _row(line: bytes) -> dict[str, Any] | None:
    """A line's row; ``None`` if it is not whole."""
    try:
        row = json.loads(line)
    except ValueError:
        return None
    whole = line.endswith(b"\n") and isinstance(row, dict) and isinstance(row.get("step"), int)
    return row if whole else None


class RunLog(AbstractContextManager["RunLog"]):
    """Appends rows to the files, and hands them to who asked for them.

    Args:
        folder: of the run's states.
        listener: is given the step of each row, and its values as ``training/loss`` or ``drift/margin``.
    """

    def __init__(self, folder: Path, listener: Callable[[int, Row], None] | None = None) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._listener = listener
        self._open = ExitStack()
        self._files = {table: self._open.enter_context(log_file(folder, table).open("ab")) for table in TABLES}

    def add(self, table: Table, row: Row) -> None:
        """Append a row; it has ``step``, from 0 on."""
        self._files[table].write(f"{json.dumps(row)}\n".encode())
        self._files[table].flush()
        if self._listener is not None:
            self._listener(row["step"], {f"{table}/{name}": value for name, value in row.items() if name != "step"})

    def sync(self) -> None:
        """Let the rows outlast the machine: before a state that says nothing of them is on disk."""
        for file in self._files.values():
            os.fsync(file.fileno())

    def __exit__(self, *_: object) -> None:
        self._open.close()
