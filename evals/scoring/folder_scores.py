"""Scores of a folder of images from any model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from artifacts.device import usable_cores
from artifacts.errors import InputError
from artifacts.progress import progress
from evals.images.matching import PromptedImage
from evals.scorers import judges, lower_is_better, names
from evals.scoring.items import BATCH, NoScoreError, score_items

if TYPE_CHECKING:
    import pandas as pd

    from evals.networks.interface import Scorer
    from evals.scoring.score_cache import ScoreCache

NOTHING_WRITTEN = "nothing was written"


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
    batch_size: int = BATCH,
    workers: int | None = None,
    cache: ScoreCache | None = None,
    skip_broken: bool = False,
    label: str | None = "score",
) -> FolderScores:
    """Score images by :func:`evals.scoring.items.score_items`, in their order.

    Args:
        scorers: scorer by name.
        protocols: protocol by the scorer's name, for the table.
        folder: where the images lie.
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
    import pandas as pd

    threads = usable_cores() if workers is None else workers
    try:
        with progress(total=len(images), label=label, unit="image") as bar:
            found = score_items(
                scorers,
                Path(folder),
                images,
                batch_size=batch_size,
                workers=max(threads, 1),
                cache=cache,
                skip_broken=skip_broken,
                scored=bar.update,
            )
    except NoScoreError as error:
        remedy = "; make the image again, or list it without a score by --skip-broken"
        if error.kind in ("absent", "refused"):
            remedy = "; complete the folder or correct the prompt file" if error.kind == "absent" else ""
        raise InputError(f"{error}{remedy} ({NOTHING_WRITTEN})") from error
    except InputError as error:
        raise InputError(f"{error} ({NOTHING_WRITTEN})") from error
    files, prompts = [image.file for image in images], [image.prompt for image in images]
    tables = [
        pd.DataFrame(
            {"file": files, "prompt": prompts, "scorer": name, "protocol": protocols[name]}
            | found.columns(name, scorer, prompts)
            | {"problem": found.problems, **_direction(name)}
        )
        for name, scorer in scorers.items()
    ]
    return FolderScores(pd.concat(tables, ignore_index=True), found.cached, found.met)


def _direction(name: str) -> dict[str, bool | None]:
    """What low scores of a scorer mean, for whoever does not have it; empty for one that is not installed here."""
    known = name in names()
    return {
        "lower_is_better": lower_is_better(name) if known else None,
        "judges": judges(name) if known else None,
    }
