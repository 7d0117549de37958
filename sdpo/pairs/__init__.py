"""Preference pairs: sources that read them, and the cache that training reads.

A pair source is one module with a function ``read(options, *, base_path) -> Iterator[Pair]``. It may have ``DEFAULTS``,
its options and their defaults, or ``Options``, a pydantic model of them; either way a wrong option is found when the
config is checked. :mod:`sdpo.pairs.reading.streaming` does what the sources of published data sets have in common.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

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
    """

    prompt: str
    images: tuple[Image, Image]
    label: float
    split: str
    met: tuple[tuple[str, ...], tuple[str, ...]] = ((), ())

    def __post_init__(self) -> None:
        if self.label not in LABELS:
            raise InputError(f"pair of prompt {self.prompt!r}: label is {self.label}, expected one of 0, 0.5, 1")
        if self.split not in SPLITS:
            raise InputError(f"pair of prompt {self.prompt!r}: split is {self.split!r}, expected train or heldout")


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
