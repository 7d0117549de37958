"""What a reader must know is not there: seeds, differences of scores, score files, images."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

from artifacts import layout
from evals.images.folder import MANIFEST, read_manifest

if TYPE_CHECKING:
    from evals.report.score_files import ScoreFiles
    from evals.tables.comparison import Comparison


def gaps(comparison: Comparison, scores: ScoreFiles) -> tuple[str, ...]:
    """A sentence each; none of them is in a mean: the tables are of whole score files only.

    Raises:
        InputError: a manifest of images is malformed.
    """
    return (*_seeds(comparison), *_constant(comparison, scores), *scores.gaps, *_images(comparison))


def _seeds(comparison: Comparison) -> Iterator[str]:
    seeds = {v: {m.seed for m in comparison.of_variant(v) if m.seed is not None} for v in comparison.variants}
    every: set[int] = set().union(*seeds.values())
    for variant, found in seeds.items():
        if len(found) == 1:
            yield f"{variant}: one training seed; its intervals are over prompts and say nothing of training again"
        elif found and (missing := sorted(every - found)):
            yield f"{variant}: without training seed {', '.join(map(str, missing))}, which others have"


def _constant(comparison: Comparison, scores: ScoreFiles) -> Iterator[str]:
    for scorer in comparison.scorers:
        for name in comparison.sets_of(scorer):
            found = {m.name: scores.values.get((m.name, name, scorer)) for m in comparison.models}
            same = [model for model, values in found.items() if values is not None and _one_value(values)]
            if same and len(same) == len(comparison.models):
                yield f"{scorer} on {name}: one score for all images of each model, so that prompts make no difference"
            elif same:
                yield f"{scorer} on {name}: one score for all images of {', '.join(same)}"


def _one_value(values: np.ndarray) -> bool:
    return len(values) > 1 and bool(np.ptp(values) == 0)


def _images(comparison: Comparison) -> Iterator[str]:
    for model in comparison.models:
        for name in comparison.prompt_sets:
            folder = layout.images(comparison.root, model.name, name)
            if not (folder / MANIFEST).is_file():
                yield f"{folder / MANIFEST}: gone, so that the images of {model.name} on {name} are not shown"
                continue
            there = set(os.listdir(folder))
            files = read_manifest(folder)["file"].tolist()
            if missing := [file for file in files if file not in there]:
                yield f"{folder / missing[0]}: gone{f', and {len(missing) - 1} more there' if missing[1:] else ''}"
