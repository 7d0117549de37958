"""Which comparisons of a data set are trained on and which are held out.

The choice is a hash of what a comparison is, so it is the same on every computer, does not depend on how the set is
sharded, and a smaller limit takes a part of what a larger one takes.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator, Sequence, Set
from dataclasses import dataclass, field, replace
from hashlib import blake2b
from typing import Literal

from artifacts.prompt_text import same
from sdpo.pairs import TIE
from sdpo.pairs.reading.comparison import Comparison, Comparisons
from sdpo.pairs.reading.options import SourceOptions

Part = Literal["train", "heldout"]
Key = tuple[int, int]
"""Hash of a comparison and its place in reading order, by which two of one hash differ."""


@dataclass(frozen=True)
class Selection:
    """What :func:`select` chose.

    Attributes:
        heldout_prompts: hashes of the prompts of the held-out splits, as far as they have been read.
        last: of each part that has more pairs with a winner than its limit, the greatest key that is taken.
    """

    options: SourceOptions
    heldout_prompts: Set[int]
    last: dict[Part, Key]

    def part(self, split: str, prompt: str) -> Part | None:
        """The part that a comparison belongs to; None: neither, since its prompt is in a held-out split too."""
        if split in self.options.heldout_splits:
            return "heldout"
        digest = _digest(self.options.seed, "prompt", same(prompt))
        if digest in self.heldout_prompts:
            return None
        return "heldout" if digest < self.options.heldout_share * 2**64 else "train"

    def takes(self, part: Part, key: Key) -> bool:
        """Whether a comparison of this part is among those within the limit."""
        return part not in self.last or key <= self.last[part]

    def key(self, comparison: Comparison, place: int) -> Key:
        """The key of a comparison."""
        return _digest(self.options.seed, "pair", comparison.identity), place


def select(options: SourceOptions, comparisons: Comparisons) -> Selection:
    """Decide what is taken; reads the set once, without its images, if limits or held-out splits ask for that."""
    limits: dict[Part, int | None] = {"train": options.limit, "heldout": options.heldout_limit}
    smallest = {part: _Smallest(limit) for part, limit in limits.items() if limit is not None}
    prompts: set[int] = set()
    selection = Selection(options, prompts, {})
    # The held-out splits come first, so that all their prompts are known when the others are looked at.
    splits = list(options.heldout_splits)
    if "train" in smallest or ("heldout" in smallest and options.heldout_share > 0):
        splits += options.train_splits
    for split, place, comparison in in_order(comparisons, splits):
        if not usable(comparison, options):
            continue
        assert comparison.prompt is not None
        if split in options.heldout_splits:
            prompts.add(_digest(options.seed, "prompt", same(comparison.prompt)))
        part = selection.part(split, comparison.prompt)
        # Ties are not trained on, so they take nobody's place: they come along up to the last key.
        if part in smallest and comparison.label != TIE:
            smallest[part].add(selection.key(comparison, place))
    return replace(selection, last={part: chosen.last() for part, chosen in smallest.items() if chosen.full})


def in_order(comparisons: Comparisons, splits: Sequence[str]) -> Iterator[tuple[str, int, Comparison]]:
    """Split, place and content of all comparisons of some splits."""
    place = 0
    for split in splits:
        for comparison in comparisons(split):
            yield split, place, comparison
            place += 1


def usable(comparison: Comparison, options: SourceOptions) -> bool:
    """Whether a comparison can become a pair, as far as can be told without its images."""
    if comparison.broken or comparison.label is None:
        return False
    return comparison.label != TIE or options.ties == "keep"


@dataclass
class _Smallest:
    """The smallest keys of a stream."""

    limit: int
    heap: list[Key] = field(default_factory=list)

    def add(self, key: Key) -> None:
        # A heap of negated keys has the greatest first.
        negated = (-key[0], -key[1])
        if len(self.heap) < self.limit:
            heapq.heappush(self.heap, negated)
        else:
            heapq.heappushpop(self.heap, negated)

    @property
    def full(self) -> bool:
        return len(self.heap) == self.limit

    def last(self) -> Key:
        return -self.heap[0][0], -self.heap[0][1]


def _digest(seed: int, kind: str, text: str) -> int:
    """A number in [0, 2**64)."""
    return int.from_bytes(
        blake2b(f"{seed}\0{kind}\0{text}".encode(errors="surrogatepass"), digest_size=8).digest(), "big"
    )
