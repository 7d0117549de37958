"""Scores of images with prompts, a benchmark's or any folder's: each file is read and decoded once for all scorers.

Reading, digests, decoding and resizing run in threads beside the models. Two batches of images are held at a time, of
each image only what the scorers see of it; with the number of images only the columns of the result grow.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from artifacts.errors import InputError
from artifacts.image_decoding import BrokenImageError, decode, inspect
from evals.images.matching import PromptedImage
from evals.images.read_ahead import read_ahead
from evals.networks.interface import RefusedImageError, truncated
from evals.scoring.seen_images import SeenBatch, SeenImage, look

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from evals.networks.interface import Scorer
    from evals.scoring.score_cache import ScoreCache

BATCH = 64
"""Images scored at a time; 40 MB of normalised pixels at 224 x 224."""

Kind = Literal["absent", "unreadable", "changed", "broken", "refused"]


class NoScoreError(InputError):
    """An image that has no score; the message is its path and the reason, and whoever knows the image adds a remedy.

    Args:
        path: the image.
        kind: ``absent``; ``unreadable``; ``changed``, its digest is not the one it has to have; ``broken``, no image
            that can be decoded; ``refused`` by a scorer.
        reason: what is wrong with it.
    """

    def __init__(self, path: Path, kind: Kind, reason: str) -> None:
        super().__init__(f"{path}: {reason}")
        self.path, self.kind, self.reason = path, kind, reason


@dataclass(frozen=True)
class ItemScores:
    """What is known of N images, in their order.

    Attributes:
        scores: of each scorer (N,); NaN of an image that has a problem.
        digests: SHA-256 of the files; ``None`` where one cannot be read.
        problems: why an image has no score.
        cached: how many scores were taken from the cache.
        met: how many images met what in decoding, by names of :data:`artifacts.image_decoding.MET`.
    """

    scores: Mapping[str, NDArray[np.float64]]
    digests: Sequence[str | None]
    problems: Sequence[str | None]
    cached: int
    met: Mapping[str, int]

    def columns(self, name: str, scorer: Scorer, prompts: Sequence[str]) -> dict[str, Any]:
        """Columns that every table of one scorer's scores has; ``prompts`` are those of the images."""
        return {
            "score": self.scores[name],
            "truncated": truncated(scorer, prompts),
            "image_sha256": self.digests,
            "fingerprint": str(scorer.fingerprint),
        }


def score_items(
    scorers: Mapping[str, Scorer],
    folder: Path,
    items: Sequence[PromptedImage],
    *,
    batch_size: int = BATCH,
    workers: int = 1,
    cache: ScoreCache | None = None,
    skip_broken: bool = False,
    scored: Callable[[int], object] = int,
) -> ItemScores:
    """Score images, in their order. Scorers that see the same squares share them.

    Args:
        scorers: scorer by name.
        folder: where the images lie.
        items: the images; one that has a digest must be the file that has it.
        batch_size: images held and scored at a time; the next so many are read meanwhile.
        workers: threads that read and decode.
        cache: where scores are looked up and kept. Of images that have a digest they are taken in whole batches: with
            part of a batch missing all of it is scored again, so that the same images meet in a batch, and their
            scores are the same to the last bit.
        skip_broken: leave images without a score, with their problem, rather than stop at the first.
        scored: told the number of images after each batch.

    Raises:
        NoScoreError: an image is missing, unreadable, broken or not the one it has to be, or a scorer cannot take it.
        InputError: a scorer gave something else than one finite number an image.
    """
    import numpy as np

    # First of all, so that a missing one is not found after an hour of scoring.
    for item in () if skip_broken else items:
        if (what := _absent(folder / item.file)) is not None:
            raise NoScoreError(folder / item.file, "absent", what)
    run = _Run(scorers, folder, items, cache)
    run.look_up(batch_size)
    scores = {name: np.full(len(items), np.nan) for name in scorers}
    # Columns: a dictionary an image would be larger than all that it holds.
    digests: list[str | None] = []
    problems: list[str | None] = []
    cached = 0
    met: Counter[str] = Counter()
    for batch in read_ahead(run.read, range(len(items)), size=batch_size, workers=workers):
        for one in batch:
            if one.problem is not None and not skip_broken:
                raise one.problem
        met.update(name for one in batch if one.seen is not None for name in one.seen.met)
        cached += sum(len(one.scores) for one in batch)
        run.score(batch)
        for name, column in scores.items():
            column[len(digests) : len(digests) + len(batch)] = [one.scores.get(name, np.nan) for one in batch]
        digests += [one.sha256 for one in batch]
        problems += [None if one.problem is None else one.problem.reason for one in batch]
        scored(len(batch))
    return ItemScores(scores, digests, problems, cached, met)


@dataclass
class _Read:
    """One image on its way: what is known of it, and what the scorers that still need it see."""

    item: PromptedImage
    sha256: str | None = None
    problem: NoScoreError | None = None
    scores: dict[str, float] = field(default_factory=dict)
    seen: SeenImage | None = None


@dataclass(frozen=True)
class _Run:
    """What all images of a call share; ``known`` are scores of the items that have a digest, by their place."""

    scorers: Mapping[str, Scorer]
    folder: Path
    items: Sequence[PromptedImage]
    cache: ScoreCache | None
    known: dict[int, dict[str, float]] = field(default_factory=dict)

    def look_up(self, batch_size: int) -> None:
        """Note the scores of which the cache has a whole batch."""
        for start in range(0, len(self.items), batch_size):
            batch = [(item, item.sha256) for item in self.items[start : start + batch_size]]
            found = [self._cached(item, sha256) for item, sha256 in batch if sha256 is not None]
            if len(found) == len(batch):
                whole = [name for name in self.scorers if all(name in scores for scores in found)]
                self.known.update({start + i: {n: scores[n] for n in whole} for i, scores in enumerate(found)})

    def _cached(self, item: PromptedImage, sha256: str) -> dict[str, float]:
        """Scores of an image that the cache has."""
        if self.cache is None:
            return {}
        found = {name: self.cache.get(s.fingerprint, sha256, item.prompt) for name, s in self.scorers.items()}
        return {name: score for name, score in found.items() if score is not None}

    def read(self, index: int) -> _Read:
        """Read one image and make what the scorers see, but for those whose score is known."""
        item = self.items[index]
        read, path = _Read(item), self.folder / item.file

        def no_score(kind: Kind, reason: str) -> _Read:
            read.problem = NoScoreError(path, kind, reason)
            return read

        if (absent := _absent(path)) is not None:
            return no_score("absent", absent)
        try:
            content = path.read_bytes()
        except OSError as error:
            return no_score("unreadable", f"cannot be read ({error.strerror})")
        read.sha256 = hashlib.sha256(content).hexdigest()
        if item.sha256 not in (None, read.sha256):
            return no_score("changed", "truncated or changed, its sha256 is another one")
        known = self.known[index] if index in self.known else self._cached(item, read.sha256)
        read.scores.update(known)
        needed = {name: scorer for name, scorer in self.scorers.items() if name not in known}
        try:
            if needed:
                decoded = decode(content)
                read.seen = look(decoded.image, needed, decoded.met)
            else:
                read.seen = SeenImage(met=inspect(content))
        except BrokenImageError as error:
            return no_score("broken", str(error))
        except RefusedImageError as error:
            return no_score("refused", error.reason)
        except InputError:
            raise
        # A mode without a way to RGB, an image too large for this machine.
        except (MemoryError, ValueError, OSError) as error:
            return no_score("broken", f"cannot be brought to a scorer's size ({str(error) or type(error).__name__})")
        return read

    def score(self, batch: Sequence[_Read]) -> None:
        """Fill in the scores that are missing."""
        import numpy as np

        used, new = [], []
        seen = SeenBatch([read.seen for read in batch])
        for name, scorer in self.scorers.items():
            known = [read for read in batch if name in read.scores]
            used += [(scorer.fingerprint, str(read.sha256), read.item.prompt) for read in known]
            todo = {i: read for i, read in enumerate(batch) if read.problem is None and name not in read.scores}
            if not todo:
                continue
            try:
                values = seen.score(name, scorer, {i: read.item.prompt for i, read in todo.items()})
            except RefusedImageError as error:
                path = self.folder / batch[error.place].item.file
                raise NoScoreError(path, "refused", error.reason) from error
            if len(bad := np.flatnonzero(~np.isfinite(values))):
                raise InputError(
                    f"scorer '{name}': the score of {list(todo.values())[bad[0]].item.called} is {values[bad[0]]}; "
                    "use dtype 'float32' or check the weights"
                )
            for read, value in zip(todo.values(), values, strict=True):
                read.scores[name] = float(value)
                new.append((scorer.fingerprint, str(read.sha256), read.item.prompt, float(value)))
        if self.cache is not None:
            self.cache.put(new)
            self.cache.touch(used)


def _absent(path: Path) -> str | None:
    """Why there is no file to read."""
    if path.is_file():
        return None
    if path.is_dir():
        return "is a folder, not an image"
    return "is a link to a file that is not there" if path.is_symlink() else "no such image"
