"""A config as it was read, whatever its shape: blocks of another shape than expected are passed over.

The models report those (:mod:`artifacts.validation`), so that one mistake does not hide another.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

Raw = Mapping[str, Any]


def block(data: Raw, key: str) -> Raw:
    """The block of a key; empty if there is none."""
    found = data.get(key)
    return found if isinstance(found, Mapping) else {}


def blocks(data: Raw, key: str) -> Iterator[tuple[str, Raw]]:
    """The blocks in that of a key, by name."""
    for name, found in block(data, key).items():
        if isinstance(found, Mapping):
            yield name, found


def listed(data: Raw, key: str) -> Iterator[tuple[int, Raw]]:
    """The blocks in the list of a key, by place."""
    found = data.get(key)
    for index, each in enumerate(found if isinstance(found, list) else []):
        if isinstance(each, Mapping):
            yield index, each
