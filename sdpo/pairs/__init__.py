"""Preference pairs: sources that read them, and the cache that training reads.

A pair source is one module with a function ``read(options, *, base_path) -> Iterator[Pair]``. It may have ``DEFAULTS``,
its options and their defaults, or ``Options``, a pydantic model of them; either way a wrong option is found when the
config is checked. :mod:`sdpo.pairs.reading.streaming` does what the sources of published data sets have in common.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, Protocol, runtime_checkable

from artifacts.atomic import json_sha256
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
    optional={"DEFAULTS": dict, "Options": type},
    calls={"read": Call(("options",), ("base_path",))},
)
LABELS = (0.0, 0.5, 1.0)
TIE = 0.5
SPLITS = ("train", "heldout")


@dataclass(frozen=True)
class Pair:
    """Two images of one prompt and who won.

    Attributes:
        label: 1: the first image won; 0: the second; 0.5: a tie. As Pick-a-Pic's ``label_0``.
        split: ``train``, or ``heldout`` for the drift measurement.
        met: what decoding met in each image, names of :data:`artifacts.image_decoding.MET`; for who has decoded them.
        number: from 0, of what the source takes, with those that turn out to be broken; ``None``: none is ever broken.
        stated: :func:`stated` by a source that knows its pairs without their images; empty: the images have to say it.

    Raises:
        ValueError: prompt, images, label or split are none. Its source, which knows the row, adds which; of one that
            does not, the line of its code is named.
    """

    prompt: str
    images: tuple[Image, Image]
    label: float
    split: str
    met: tuple[tuple[str, ...], tuple[str, ...]] = ((), ())
    number: int | None = None
    stated: str = ""

    def __post_init__(self) -> None:
        from PIL.Image import Image

        if not isinstance(self.prompt, str):
            raise ValueError(f"pair of prompt {self.prompt!r}: expected a text for the prompt")
        if len(self.images) != 2 or not all(isinstance(image, Image) for image in self.images):
            kinds = ", ".join(type(image).__name__ for image in self.images)
            raise ValueError(f"pair of prompt {self.prompt!r}: images are {kinds}; expected two images of Pillow")
        if isinstance(self.label, str) or self.label not in LABELS:
            raise ValueError(f"pair of prompt {self.prompt!r}: label is {self.label!r}, expected one of 0, 0.5, 1")
        if self.split not in SPLITS:
            raise ValueError(f"pair of prompt {self.prompt!r}: split is {self.split!r}, expected train or heldout")


def stated(label: float, *about: str) -> str:
    """Digest of what a source says of a pair, by which a source that was corrected meanwhile is noticed.

    Args:
        label: the source's own, by which of its two images came first.
        about: what tells the pair and the state of its images: an identity with sizes and times of files, or digests.
    """
    # Of surrogates, which a name may have, JSON in UTF-8 knows nothing.
    return json_sha256([float(label), *map(ascii, about)])[:16]


@dataclass(frozen=True)
class Known:
    """Pairs that have been cached before an interruption, and need not be read again.

    Attributes:
        pairs: prompt, split and :func:`stated`, by :attr:`Pair.number`. What has a smaller number than the last of them
            and is not there was broken.
        folder: where they lie, for messages.
    """

    pairs: Mapping[int, tuple[str, str, str]]
    folder: Path

    @cached_property
    def end(self) -> int:
        """The first number after them."""
        return max(self.pairs, default=-1) + 1

    def check(self, number: int, prompt: str, split: str, said: str) -> None:
        """Raise InputError if a pair that is known is now another, ``said`` by :func:`stated`."""
        if self.pairs[number] != (prompt, split, said):
            self.refuse()

    def refuse(self) -> NoReturn:
        """Raise InputError: the source has changed."""
        raise InputError(
            f"{self.folder}: the source no longer gives the pairs that were cached before the interruption (labels, "
            f"images, prompts and splits are compared, of files their sizes and times); delete "
            f"{self.folder.parent} and run it again"
        )


@runtime_checkable
class GoesOn(Protocol):
    """What a source's ``read`` may return, if it can pass over pairs without opening their images."""

    def after(self, known: Known) -> Iterator[Pair]:
        """The pairs after those that are known, with their numbers; these are compared and not opened."""
        ...


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
