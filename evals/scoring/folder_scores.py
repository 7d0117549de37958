"""Scores of a folder of images from any model: each file is read and decoded once for all scorers.

Reading, digests, decoding and resizing run in threads beside the models. Two batches of images are held at a time, of
each image only what the scorers see of it; with the folder's size only the table grows.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from artifacts.device import usable_cores
from artifacts.errors import InputError
from artifacts.image_decoding import BrokenImageError, decode, inspect
from artifacts.progress import progress
from evals.images.matching import PromptedImage
from evals.images.read_ahead import read_ahead
from evals.networks.interface import RefusedImageError, truncated
from evals.scoring.seen_images import SeenBatch, SeenImage, look

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    from numpy.typing import NDArray

    from evals.networks.interface import Scorer
    from evals.scoring.score_cache import ScoreCache

NOTHING_WRITTEN = "nothing was written"


@dataclass
class _Read:
    """One image on its way: what is known of it, and what the scorers that still need it see."""

    item: PromptedImage
    sha256: str | None = None
    problem: str | None = None
    scores: dict[str, float] = field(default_factory=dict)
    seen: SeenImage | None = None


@dataclass(frozen=True)
class FolderScores:
    """The table (contract ``folder_scores``), and scores taken from the cache.

    Attributes:
        met: how many images met what in decoding, by names of :data:`artifacts.image_decoding.MET`.
    """

    table: pd.DataFrame
    cached: int
    met: Mapping[str, int]


def score_folder(
    scorers: Mapping[str, Scorer],
    protocols: Mapping[str, str],
    folder: str | Path,
    images: Sequence[PromptedImage],
    *,
    batch_size: int = 64,
    workers: int | None = None,
    cache: ScoreCache | None = None,
    skip_broken: bool = False,
    label: str | None = "score",
) -> FolderScores:
    """Score images, in their order.

    Args:
        scorers: scorer by name.
        protocols: protocol by the scorer's name, for the table.
        images: files below ``folder`` and their prompts.
        batch_size: images held and scored at a time.
        workers: threads that read and decode; left out, one a core that this process may use.
        cache: where scores are looked up and kept.
        skip_broken: list images that are broken or missing with their ``problem`` and without a score, rather than
            stop at the first.
        label: name of the progress bar; ``None`` shows none.

    Raises:
        InputError: an image is missing, unreadable or broken, a scorer cannot take it, or a score is not a finite
            number.
    """
    import numpy as np
    import pandas as pd

    folder = Path(folder)
    if not skip_broken:
        _check_files(folder, images)
    threads = usable_cores() if workers is None else workers
    # Columns: a dictionary a row would be larger than all that it holds.
    scores = {name: np.full(len(images), np.nan) for name in scorers}
    digests: list[str | None] = []
    problems: list[str | None] = []
    cached = 0
    met: Counter[str] = Counter()
    read = partial(_read, scorers, folder, cache)
    with progress(total=len(images), label=label, unit="image") as bar:
        for batch in read_ahead(read, images, size=batch_size, workers=max(threads, 1)):
            for one in batch:
                if one.problem is not None and not skip_broken:
                    raise InputError(
                        f"{folder / one.item.file}: {one.problem}; make the image again, or list it without a score "
                        f"by --skip-broken ({NOTHING_WRITTEN})"
                    )
            met.update(name for one in batch if one.seen is not None for name in one.seen.met)
            cached += sum(len(one.scores) for one in batch)
            try:
                _score_batch(scorers, batch, cache)
            except RefusedImageError as error:
                file = folder / batch[error.place].item.file
                raise InputError(f"{file}: {error.reason} ({NOTHING_WRITTEN})") from error
            part = slice(len(digests), len(digests) + len(batch))
            for name, column in scores.items():
                column[part] = [one.scores.get(name, np.nan) for one in batch]
            digests += [one.sha256 for one in batch]
            problems += [one.problem for one in batch]
            bar.update(len(batch))
    files, prompts = [item.file for item in images], [item.prompt for item in images]

    def of_each(values: Iterable[str]) -> NDArray[np.object_]:
        """One value a scorer, repeated for each image."""
        return np.repeat(np.array(list(values), dtype=object), len(images))

    table = {
        "file": files * len(scorers),
        "prompt": prompts * len(scorers),
        "scorer": of_each(scorers),
        "protocol": of_each(protocols[name] for name in scorers),
        "score": np.concatenate([scores[name] for name in scorers]),
        "truncated": np.concatenate([truncated(scorer, prompts) for scorer in scorers.values()]),
        "image_sha256": digests * len(scorers),
        "fingerprint": of_each(str(scorer.fingerprint) for scorer in scorers.values()),
        "problem": problems * len(scorers),
    }
    return FolderScores(pd.DataFrame(table), cached, met)


def _check_files(folder: Path, images: Sequence[PromptedImage]) -> None:
    """Look for all files first, so that a missing one is not found after an hour of scoring."""
    for item in images:
        path = folder / item.file
        if (what := _absent(path)) is not None:
            raise InputError(f"{path}: {what}; complete the folder or correct the prompt file ({NOTHING_WRITTEN})")


def _absent(path: Path) -> str | None:
    """Why there is no file to read."""
    if path.is_file():
        return None
    if path.is_dir():
        return "is a folder, not an image"
    return "is a link to a file that is not there" if path.is_symlink() else "no such image"


def _read(scorers: Mapping[str, Scorer], folder: Path, cache: ScoreCache | None, item: PromptedImage) -> _Read:
    """Read one image and make what the scorers see, but for those whose score is known."""
    read, path = _Read(item), folder / item.file
    if (absent := _absent(path)) is not None:
        read.problem = absent
        return read
    try:
        content = path.read_bytes()
    except OSError as error:
        read.problem = f"cannot be read ({error.strerror})"
        return read
    read.sha256 = hashlib.sha256(content).hexdigest()
    if cache is not None:
        for name, scorer in scorers.items():
            if (known := cache.get(scorer.fingerprint, read.sha256, item.prompt)) is not None:
                read.scores[name] = known
    needed = {name: scorer for name, scorer in scorers.items() if name not in read.scores}
    try:
        if needed:
            decoded = decode(content)
            read.seen = look(decoded.image, needed, decoded.met)
        else:
            read.seen = SeenImage(met=inspect(content))
    except BrokenImageError as error:
        read.problem = str(error)
    # A mode without a way to RGB, an image too large for this machine.
    except (MemoryError, ValueError, OSError) as error:
        read.problem = f"cannot be brought to a scorer's size ({str(error) or type(error).__name__})"
    return read


def _score_batch(scorers: Mapping[str, Scorer], batch: Sequence[_Read], cache: ScoreCache | None) -> None:
    """Fill in the scores that are missing."""
    import numpy as np

    used, new = [], []
    seen = SeenBatch([read.seen for read in batch])
    for name, scorer in scorers.items():
        known = [read for read in batch if name in read.scores]
        used += [(scorer.fingerprint, str(read.sha256), read.item.prompt) for read in known]
        todo = {i: read for i, read in enumerate(batch) if read.problem is None and name not in read.scores}
        if not todo:
            continue
        values = seen.score(name, scorer, {i: read.item.prompt for i, read in todo.items()})
        if len(bad := np.flatnonzero(~np.isfinite(values))):
            raise InputError(
                f"scorer '{name}': the score of {list(todo.values())[bad[0]].item.file} is {values[bad[0]]}; use dtype "
                f"'float32' or check the weights ({NOTHING_WRITTEN})"
            )
        for read, value in zip(todo.values(), values, strict=True):
            read.scores[name] = float(value)
            new.append((scorer.fingerprint, str(read.sha256), read.item.prompt, float(value)))
    if cache is not None:
        cache.put(new)
        cache.touch(used)
