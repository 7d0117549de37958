"""Wrong labels on purpose: how much of what a method gains is left when annotators err.

Whatever the source, since pairs are flipped behind it. Whether one is depends on its number and the seed alone: on
neither its content nor its neighbours, so that an interrupted build goes on with the same ones, and the pairs that a
smaller share flips are among those of a larger one.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from hashlib import blake2b
from typing import TYPE_CHECKING, Any

from pydantic import Field

from sdpo.pairs import TIE

if TYPE_CHECKING:
    from sdpo.pairs import Pair


def flipped_option() -> Any:
    """The key ``flipped`` of a pair set."""
    return Field(
        default=0.0,
        ge=0,
        le=0.5,
        description="Share in [0, 0.5] of the training pairs whose label is turned round, drawn pair by pair. Held-out "
        "pairs and ties stay as they are.",
    )


def flip_seed_option() -> Any:
    """The key ``flip_seed`` of a pair set."""
    return Field(default=0, ge=0, lt=2**32, description="Of that draw.")


@dataclass(frozen=True)
class LabelNoise:
    """Which labels are turned round.

    Attributes:
        share: probability of each training pair that has a winner, in [0, 0.5].
        seed: of the draw.
    """

    share: float
    seed: int = 0

    def flips(self, number: int) -> bool:
        """Whether the draw of a pair, by its number in the source, says so; its split and label are not asked."""
        digest = blake2b(f"{self.seed} {number}".encode(), digest_size=8).digest()
        return int.from_bytes(digest) < self.share * 2**64

    def applied(self, pairs: Iterator[Pair]) -> Iterator[Pair]:
        """The pairs, which have numbers, with labels turned round."""
        for pair in pairs:
            assert pair.number is not None
            turned = pair.split == "train" and pair.label != TIE and self.flips(pair.number)
            yield replace(pair, label=1 - pair.label) if turned else pair
