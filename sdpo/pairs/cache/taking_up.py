"""Going on after an interruption: what a source gives now is compared with the pairs that are in the cache."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from sdpo.pairs import TIE, GoesOn, Known, Pair, stated
from sdpo.pairs.cache.images import decoded_sha256


def rest(pairs: Iterator[Pair], known: Known) -> Iterator[Pair]:
    """Pairs of a source, with their numbers, without those that are known.

    Raises:
        InputError: the source does not give the known ones any more.
        TypeError: it gives something else than pairs.
    """
    if isinstance(pairs, GoesOn):
        yield from pairs.after(known)
        return
    number = 0
    for number, pair in enumerate(pairs, start=1):
        if not isinstance(pair, Pair):
            raise TypeError(f"pair {number - 1}, from 0, is {pair!r:.200}, expected sdpo.pairs.Pair")
        if number <= known.end:
            known.check(number - 1, pair.prompt, pair.split, _stated_by_images(pair))
        else:
            yield replace(pair, number=number - 1)
    if number < known.end:
        known.refuse()


def _stated_by_images(pair: Pair) -> str:
    """As the cache has it of a pair whose images have to say it; empty if one cannot be decoded any more."""
    if pair.stated or pair.label == TIE:
        return pair.stated or stated(pair.label)
    try:
        return stated(pair.label, *map(decoded_sha256, pair.images))
    # Pillow reports a damaged file in all of these ways.
    except (OSError, SyntaxError, ValueError):
        return ""
