"""How the images of a prompt set are numbered and cut into batches: the first of every prompt, then the second, …

So the numbers below P are those of a set with one image a prompt, and a set of K images a prompt begins with the same
set of K - 1. No batch has two numbers of image, so that each holds the same prompts however many images there are, and
an image is the same to the last bit.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass


def file_name(row: int, image: int = 0) -> str:
    """File of an image of one row of the prompt set: ``00007.png``, ``00007_1.png``, ``00007_2.png``, …"""
    return f"{row:05d}.png" if image == 0 else f"{row:05d}_{image}.png"


@dataclass(frozen=True)
class Numbering:
    """Images of P prompts, K of each: image k of row r, both from 0, is number kP + r.

    Attributes:
        prompts: P.
        images: K.
    """

    prompts: int
    images: int = 1

    @property
    def total(self) -> int:
        """All images."""
        return self.prompts * self.images

    def place(self, number: int) -> tuple[int, int]:
        """Row of the prompt set, and which of its images."""
        image, row = divmod(number, self.prompts)
        return row, image

    def file(self, number: int) -> str:
        """Name of the image's file."""
        return file_name(*self.place(number))

    def share(self, batch_size: int, shard: Sequence[int]) -> range:
        """Numbers that one of several jobs draws or scores: whole batches, as one job would have made them.

        Args:
            batch_size: images drawn or scored at once.
            shard: the job's number, from 0, and the number of jobs.
        """
        index, count = shard
        batches = self.images * self._batches(batch_size)
        first, last = (self._start(batches * edge // count, batch_size) for edge in (index, index + 1))
        return range(first, last)

    def batches(self, numbers: range, batch_size: int) -> Iterator[range]:
        """The batches of a share, in order."""
        start = numbers.start
        while start < numbers.stop:
            _, image = self.place(start)
            stop = min(start + batch_size, (image + 1) * self.prompts, numbers.stop)
            yield range(start, stop)
            start = stop

    def _batches(self, batch_size: int) -> int:
        """Batches of the images of one number."""
        return -(-self.prompts // batch_size)

    def _start(self, batch: int, batch_size: int) -> int:
        """First number of a batch."""
        image, within = divmod(batch, self._batches(batch_size))
        return image * self.prompts + min(self.prompts, within * batch_size)
