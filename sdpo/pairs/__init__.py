"""Preference pairs: sources that read them, and the cache that training reads.

A pair source is one module with a function ``read(options, *, base_path) -> Iterator[Pair]``. It may have ``DEFAULTS``,
its options and their defaults, or ``Options``, a pydantic model of them; either way a wrong option is found when the
config is checked. :mod:`sdpo.pairs.reading.streaming` does what the sources of published data sets have in common.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, Protocol, runtime_checkable

from artifacts.errors import InputError
from artifacts.file_names import user_options
from artifacts.plugins import Call, Registry

if TYPE_CHECKING:
    from PIL.Image import Image

REGISTRY = Registry(
    kind="pair source",
    package="sdpo.pairs.sources",
    shared=("sdpo.pairs.reading",),
    group="sdpo.pair_sources",
    calls={"read": Call(("options",), ("base_path",))},
)
LABELS = (0.0, 0.5, 1.0)
SPLITS = ("train", "heldout")


@dataclass(frozen=True)
class Pair:
    """Two images of one prompt and who won.

    Attributes:
        label: 1: the first image won; 0: the second; 0.5: a tie. As Pick-a-Pic's ``label_0``.
        split: ``train``, or ``heldout`` for the drift measurement.
        met: what decoding met in each image, names of :data:`artifacts.image_decoding.MET`; for who has decoded them.
        number: from 0, of what the source takes, with those that turn out to be broken; ``None``: none is ever broken.
    """

    prompt: str
    images: tuple[Image, Image]
    label: float
    split: str
    met: tuple[tuple[str, ...], tuple[str, ...]] = ((), ())
    number: int | None = None

    def __post_init__(self) -> None:
        if self.label not in LABELS:
            raise InputError(f"pair of prompt {self.prompt!r}: label is {self.label}, expected one of 0, 0.5, 1")
        if self.split not in SPLITS:
            raise InputError(f"pair of prompt {self.prompt!r}: split is {self.split!r}, expected train or heldout")


@dataclass(frozen=True)
class Known:
    """Pairs that have been cached before an interruption, and need not be read again.

    Attributes:
        pairs: prompt, label of the preferred image and split, by :attr:`Pair.number`. What has a smaller number than
            the last of them and is not there was broken.
        folder: where they lie, for messages.
    """

    pairs: Mapping[int, tuple[str, float, str]]
    folder: Path

    @cached_property
    def end(self) -> int:
        """The first number after them."""
        return max(self.pairs, default=-1) + 1

    def check(self, number: int, prompt: str, label: float, split: str) -> None:
        """Raise InputError if a pair that is known is now another."""
        if self.pairs[number] != (prompt, max(label, 1 - label), split):
            self.refuse()

    def refuse(self) -> NoReturn:
        """Raise InputError: the source has changed."""
        raise InputError(
            f"{self.folder}: the source no longer gives the pairs that were cached before the interruption; delete "
            f"{self.folder.parent} and run it again"
        )


@runtime_checkable
class GoesOn(Protocol):
    """What a source's ``read`` may return, if it can pass over pairs without opening their images."""

    def after(self, known: Known) -> Iterator[Pair]:
        """The pairs after those that are known, with their numbers; these are compared and not opened."""
        ...


def rest(pairs: Iterator[Pair], known: Known) -> Iterator[Pair]:
    """Pairs of a source, with their numbers, without those that are known.

    Raises:
        InputError: the source does not give the known ones any more.
    """
    if isinstance(pairs, GoesOn):
        yield from pairs.after(known)
        return
    number = 0
    for number, pair in enumerate(pairs, start=1):
        if number <= known.end:
            known.check(number - 1, pair.prompt, pair.label, pair.split)
        else:
            yield replace(pair, number=number - 1)
    if number < known.end:
        known.refuse()


def names() -> list[str]:
    """Known pair sources."""
    return REGISTRY.names()


def read(source: str, options: Mapping[str, Any], *, base_path: Path) -> Iterator[Pair]:
    """Read the pairs of a source.

    Args:
        source: name of the source.
        options: the source's own options from the config; paths in them may begin with ``~/``.
        base_path: the base, for sources that sample from it.
    """
    pairs: Iterator[Pair] = REGISTRY.load(source).read(user_options(options), base_path=base_path)
    return pairs
