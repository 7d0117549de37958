"""Pictures that show nothing, and pictures that are shown again: counted for every model, whatever scorers ran.

- ``flat``: no channel varies by more than :data:`evals.scorers.blank.TOLERANCE` of 255;
- ``black``: of these, those whose channels are at most that everywhere;
- ``repeated``: the file is, byte for byte, that of another image of the same model and set, of another text or of the
  same prompt. Prompts of equal text may share a picture: from one start noise they have to.

Scorers rate such images like any other, and all of them are in every mean.
"""

from __future__ import annotations

import csv
import io
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import astuple, dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING

from artifacts import layout
from artifacts.image_decoding import BrokenImageError, decode
from artifacts.prompt_text import same
from evals.images.folder import MANIFEST, read_manifest
from evals.networks.preprocessing import rgb
from evals.scorers.blank import TOLERANCE, is_blank

if TYPE_CHECKING:
    import pandas as pd

    from evals.report.score_files import ScoreFiles
    from evals.tables.comparison import Comparison

# A flat picture takes less than a byte a pixel: only files below are decoded.
_HEADER = 1000


@dataclass(frozen=True)
class DegenerateRow:
    """Images of one model on one prompt set: how many are there, and how many of them are what; a row of the CSV."""

    model: str
    prompt_set: str
    images: int
    flat: int
    black: int
    repeated: int
    unreadable: int

    def sentence(self) -> str:
        """What a reader must know; empty if nothing."""
        listed = [
            f"{self.flat} flat{f' ({self.black} of them black)' if self.black else ''}" if self.flat else "",
            f"{self.repeated} shown for another prompt, or twice for theirs" if self.repeated else "",
            f"{self.unreadable} not readable" if self.unreadable else "",
        ]
        found = "; ".join(text for text in listed if text)
        return (
            f"{self.model} on {self.prompt_set}: of {self.images} images {found}; all are in the means" if found else ""
        )


def degenerate_rows(comparison: Comparison, scores: ScoreFiles) -> list[DegenerateRow]:
    """A row a model and prompt set whose images are there, in table order.

    Raises:
        InputError: a manifest of images is malformed.
    """
    rows = []
    for model in comparison.models:
        for name, prompts in scores.prompts.items():
            folder = layout.images(comparison.root, model.name, name)
            if not (folder / MANIFEST).is_file():
                continue
            manifest = read_manifest(folder)
            manifest = manifest[[(folder / file).is_file() for file in manifest["file"]]]
            kinds = [_kind(folder / file) for file in manifest["file"]]
            rows.append(
                DegenerateRow(
                    model=model.name,
                    prompt_set=name,
                    images=len(manifest),
                    flat=sum(kind in ("flat", "black") for kind in kinds),
                    black=kinds.count("black"),
                    repeated=_repeated(manifest, dict(zip(prompts["prompt_id"], prompts["prompt"], strict=True))),
                    unreadable=kinds.count("unreadable"),
                )
            )
    return rows


def sentences(rows: Sequence[DegenerateRow]) -> Iterator[str]:
    """What the page says of them."""
    return (text for row in rows if (text := row.sentence()))


def to_csv(rows: Sequence[DegenerateRow]) -> str:
    """All rows, those without a find too."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([field.name for field in fields(DegenerateRow)])
    writer.writerows(astuple(row) for row in rows)
    return text.getvalue()


def _kind(path: Path) -> str:
    """``black``, ``flat``, ``unreadable``, or empty."""
    from PIL import Image

    try:
        with Image.open(path) as header:
            pixels = header.width * header.height
        if path.stat().st_size > pixels + _HEADER:
            return ""
        image = decode(path.read_bytes()).image
    except (OSError, BrokenImageError):
        return "unreadable"
    if not is_blank(image):
        return ""
    return "black" if max(high for _, high in rgb(image).getextrema()) <= TOLERANCE else "flat"  # type: ignore[misc]


def _repeated(manifest: pd.DataFrame, texts: dict[str, str]) -> int:
    """Images whose file is another's, too."""
    shown: dict[str, list[tuple[str, str]]] = defaultdict(list)
    for prompt_id, digest in zip(manifest["prompt_id"], manifest["sha256"], strict=True):
        shown[digest].append((prompt_id, same(texts.get(prompt_id, prompt_id))))
    return sum(
        any(other_text != text or other_id == prompt_id for j, (other_id, other_text) in enumerate(of_one) if j != i)
        for of_one in shown.values()
        if len(of_one) > 1
        for i, (prompt_id, text) in enumerate(of_one)
    )
