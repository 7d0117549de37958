"""From the comparisons of a data set to pairs: what is taken, what is skipped and why, and when it is too much."""

from __future__ import annotations

import sys
from collections import Counter, deque
from collections.abc import Iterator
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from artifacts.device import usable_cores
from artifacts.errors import InputError
from artifacts.image_decoding import BrokenImageError, DecodedImage, decode
from artifacts.prompt_text import control_token_warning, control_tokens
from sdpo.pairs import TIE, Known, Pair
from sdpo.pairs.reading.comparison import Comparison, Comparisons, NamedFile
from sdpo.pairs.reading.options import SourceOptions
from sdpo.pairs.reading.selection import Part, Selection, in_order, select, usable

SHOWN = 5
THREADS = min(8, usable_cores())
"""Images decoded at once; Pillow decodes without the interpreter's lock."""


def pairs_of(source: str, options: SourceOptions, comparisons: Comparisons) -> PairStream:
    """The pairs of a data set: held-out splits first, then those trained on, each in the set's order.

    Images are RGB and of their own size; a few pairs are decoded ahead, in threads. A summary of what was skipped goes
    to stderr, as does each broken pair.

    Args:
        source: name of the source, for messages.
        options: what to take.
        comparisons: reads the comparisons of a split.

    Raises:
        InputError: when it is iterated: more broken pairs than ``max_broken``, or nothing with a winner to train on or
            to hold out.
    """
    return PairStream(source, options, comparisons)


class PairStream(Iterator[Pair]):
    """What :func:`pairs_of` returns."""

    def __init__(self, source: str, options: SourceOptions, comparisons: Comparisons) -> None:
        self._set = source, options, comparisons
        self._pairs = self.after(Known({}, Path()))

    def __next__(self) -> Pair:
        return next(self._pairs)

    def after(self, known: Known) -> Iterator[Pair]:
        """The pairs after those that are known, whose images are not read; they count in the summary.

        Raises:
            InputError: as :func:`pairs_of`, or the known pairs are not those of the set.
        """
        source, options, comparisons = self._set
        tally = _Tally(source, options.max_broken)
        waiting: deque[_Decoding] = deque()
        number = 0
        with ThreadPoolExecutor(THREADS) as threads:
            for part, comparison in _taken(options, comparisons, tally):
                if number >= known.end:
                    waiting.append(_Decoding(comparison, part, number, threads))
                elif number not in known.pairs:
                    tally.broken(comparison, comparison.broken or "could not be opened before the interruption")
                elif comparison.broken:
                    known.refuse()
                else:
                    prompt, _ = tally.take(comparison, part)
                    known.check(number, prompt, part, comparison.stated)
                number += 1
                if len(waiting) > 2 * THREADS:
                    yield from waiting.popleft().pairs(tally)
            while waiting:
                yield from waiting.popleft().pairs(tally)
        if number < known.end:
            known.refuse()
        tally.finish("heldout" if options.heldout_splits or options.heldout_share else None)


def _taken(options: SourceOptions, comparisons: Comparisons, tally: _Tally) -> Iterator[tuple[Part, Comparison]]:
    """The comparisons that are to become pairs, with their parts; the others are counted."""
    selection = select(options, comparisons)
    for split, place, comparison in in_order(comparisons, [*options.heldout_splits, *options.train_splits]):
        part, why = _choice(selection, split, place, comparison)
        if why:
            tally.skipped[why] += 1
        else:
            yield part, comparison


def _choice(selection: Selection, split: str, place: int, comparison: Comparison) -> tuple[Part, str]:
    """The part a comparison belongs to, and why it is skipped; empty if it is taken, or is broken."""
    if comparison.broken:
        return "train", ""
    if comparison.label is None:
        return "train", "without a label"
    if not usable(comparison, selection.options):
        return "train", "tie"
    assert comparison.prompt is not None
    part = selection.part(split, comparison.prompt)
    if part is None:
        return "train", "prompt also held out"
    return part, "" if selection.takes(part, selection.key(comparison, place)) else "beyond the limit"


class _Decoding:
    """A comparison whose images have been read and are being decoded."""

    def __init__(self, comparison: Comparison, part: Part, number: int, threads: Executor) -> None:
        self.comparison, self.part, self.number = comparison, part, number
        self.fault = comparison.broken
        # Before they are read: a file that is replaced meanwhile is then another one.
        self.stated = "" if self.fault else comparison.stated
        self._images: list[Future[DecodedImage]] = []
        for number, file in enumerate([] if self.fault else comparison.images):
            try:
                self._images.append(threads.submit(decode, file.read_bytes()))
            except (BrokenImageError, OSError) as error:
                self.fault = self._unreadable(number, error)
                break

    def pairs(self, tally: _Tally) -> Iterator[Pair]:
        """The pair, or none if it is broken."""
        opened = []
        for number, image in enumerate([] if self.fault else self._images):
            try:
                opened.append(image.result())
            except BrokenImageError as error:
                self.fault = self._unreadable(number, error)
                break
        if self.fault:
            tally.broken(self.comparison, self.fault)
            return
        prompt, label = tally.take(self.comparison, self.part)
        first, second = opened
        for one in opened:
            # Else two files with the same picture and another comment would not be the same image.
            one.image.info = {}
        images, met = (first.image, second.image), (first.met, second.met)
        yield Pair(prompt, images, label, self.part, met, self.number, self.stated)

    def _unreadable(self, number: int, error: Exception) -> str:
        file = self.comparison.images[number]
        name = f" {file}" if isinstance(file, NamedFile | Path) else ""
        return f"image {number}{name} cannot be opened: {error}"


@dataclass
class _Tally:
    """What became of the rows."""

    source: str
    max_broken: int
    taken: Counter[str] = field(default_factory=Counter)
    winners: Counter[str] = field(default_factory=Counter)
    skipped: Counter[str] = field(default_factory=Counter)
    faults: list[str] = field(default_factory=list)
    controls: list[str] = field(default_factory=list)

    @property
    def rows(self) -> int:
        return self.taken.total() + self.skipped.total() + len(self.faults)

    def take(self, comparison: Comparison, part: Part) -> tuple[str, float]:
        """Count a pair; its prompt and label."""
        prompt, label = comparison.prompt, comparison.label
        assert prompt is not None
        assert label is not None
        self.taken[part] += 1
        self.winners[part] += label != TIE
        if control_tokens(prompt):
            self.controls.append(prompt)
        return prompt, label

    def broken(self, comparison: Comparison, fault: str) -> None:
        self.faults.append(f"{comparison.place}: {fault}")
        if len(self.faults) > self.max_broken:
            whole = "" if self.taken else "not one pair was whole so far; are these the right files and columns? "
            raise InputError(
                f"pair source '{self.source}': {len(self.faults)} broken pairs of {self.rows}, more than max_broken = "
                f"{self.max_broken}: {'; '.join(self.faults[:SHOWN])}{'; …' * (len(self.faults) > SHOWN)}; {whole}"
                "correct them or raise max_broken"
            )
        print(f"warning: pair source '{self.source}': {self.faults[-1]}; skipped", file=sys.stderr)

    def summary(self) -> str:
        skipped = [f"{number} × {what}" for what, number in sorted(self.skipped.items())]
        if self.faults:
            skipped.append(f"{len(self.faults)} × broken")
        ties = self.taken.total() - self.winners.total()
        return (
            f"{self.rows} rows, {self.winners['train']} pairs to train on, {self.winners['heldout']} held out"
            f"{f', {ties} ties kept' if ties else ''}{'; skipped: ' if skipped else ''}{', '.join(skipped)}"
        )

    def finish(self, held_out: Part | None) -> None:
        """Say what became of the rows.

        Args:
            held_out: the part that has to have pairs besides the one to train on, if any.

        Raises:
            InputError: a part has no pair with a winner.
        """
        print(f"pair source '{self.source}': {self.summary()}", file=sys.stderr)
        if warning := control_token_warning(self.controls, self.taken.total()):
            print(f"warning: pair source '{self.source}': {warning}", file=sys.stderr)
        for part, what in (("train", "to train on"), (held_out, "to hold out")):
            if part is not None and not self.winners[part]:
                raise InputError(
                    f"pair source '{self.source}': no pair with a winner {what}: {self.summary()}; check path, files, "
                    "the splits, heldout_share and the limits"
                )
