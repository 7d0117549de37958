"""One comparison as a data set states it, before its images are opened."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from artifacts import prompt_text
from artifacts.file_names import FileNames
from sdpo.pairs import LABELS, stated


class ImageFile(Protocol):
    """An image that has not been read yet: a :class:`pathlib.Path` or :class:`NamedFile`, or a :class:`Member`."""

    def read_bytes(self) -> bytes:
        """Content of the file."""


def mark_of(path: Path) -> str:
    """Size and time of change of a file.

    Raises:
        OSError: it is not there.
    """
    stat = path.stat()
    return f"{stat.st_size} {stat.st_mtime_ns}"


@dataclass(frozen=True)
class NamedFile:
    """An image by the name that a data set gives it, which is looked for when it is read."""

    files: FileNames
    name: str

    def read_bytes(self) -> bytes:
        """Content of the file."""
        if not prompt_text.is_text(self.name) or "\0" in self.name:
            raise OSError(f"{self.name!a} is no file's name")
        return self.files.find(self.name).read_bytes()

    @property
    def mark(self) -> str:
        """Size and time of change of the file, by which it is known without being read; empty if it is not there."""
        if not prompt_text.is_text(self.name) or "\0" in self.name:
            return ""
        with suppress(OSError):
            return mark_of(self.files.find(self.name))
        return ""

    def __str__(self) -> str:
        return str(self.files.folder / self.name).encode(errors="backslashreplace").decode()


@dataclass(frozen=True)
class Member:
    """An image inside a larger file, which has to be read before the next comparison is asked for.

    Attributes:
        read: returns the bytes.
        mark: what would change with them, in the larger file's list or of that file itself (:func:`mark_of`).
    """

    read: Callable[[], bytes]
    mark: str

    def read_bytes(self) -> bytes:
        """Content of the member."""
        return self.read()


@dataclass(frozen=True)
class Comparison:
    """Two images of one prompt and which was preferred, as one row says it.

    Attributes:
        place: file and row, for messages.
        identity: what tells this comparison from all others wherever its file lies.
        prompt: None if the row has none.
        images: the two images, unread.
        label: 1: the first was preferred; 0: the second; 0.5: neither; None: the set says that nobody was asked.
        fault: what is wrong with the row, or empty.
    """

    place: str
    identity: str
    prompt: str | None
    images: tuple[ImageFile, ImageFile]
    label: float | None
    fault: str = ""

    @property
    def broken(self) -> str:
        """What is wrong with the row or with its prompt, or empty."""
        if self.fault or self.prompt is None:
            return self.fault or "no prompt"
        wrong = prompt_text.fault(self.prompt)
        return f"the prompt is {wrong}" if wrong else ""

    @property
    def stated(self) -> str:
        """As :attr:`sdpo.pairs.Pair.stated`, of one that has a label."""
        assert self.label is not None
        return stated(self.label, self.identity, *(getattr(file, "mark", "") for file in self.images))


Comparisons = Callable[[str], Iterator[Comparison]]
"""Reads the comparisons of a split, in a fixed order."""


def label_of_pair(first: Any, second: Any) -> tuple[float | None, str]:
    """Label from one number an image, 1 and 0, 0 and 1, or ½ and ½, and the fault if it is none of these."""
    try:
        numbers = (float(first), float(second))
    except (TypeError, ValueError):
        return None, f"labels are {first!r} and {second!r}"
    if any(map(math.isnan, numbers)) or numbers[0] not in LABELS or sum(numbers) != 1:
        return None, f"labels are {numbers[0]:g} and {numbers[1]:g}, expected 1 and 0, 0 and 1 or 0.5 and 0.5"
    return numbers[0], ""


def unlabelled(has_label: Any) -> bool:
    """Whether a row says that nobody was asked, as copies of one set spell it: false, 0, ``False`` …"""
    return str(has_label).strip().lower() in ("false", "0", "0.0")


def prompt_of(value: Any) -> str | None:
    """A prompt, if it is a text."""
    return value if isinstance(value, str) else None
