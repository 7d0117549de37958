"""What several sources have in common: scorers on one scale, and prompts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np

from artifacts.errors import InputError
from artifacts.plugins import nearest
from evals.tables.intervals import Integers
from evals.tables.sources import FOLDER, Source, numbered

Columns = dict[str, list[Integers]]
"""Prompt set to the columns of each source, so that the same column is the same prompt."""


def common_scorers(sources: Sequence[Source], wanted: Sequence[str] | None) -> list[str]:
    """Scorers that all sources have.

    Args:
        wanted: only these; left out, all, which must be the same in every source.

    Raises:
        InputError: a source lacks a scorer.
    """
    first = sources[0]
    for source in sources:
        names = list(source.comparison.scorers)
        if wanted is not None and (unknown := [name for name in wanted if name not in names]):
            known = f"only of {', '.join(names)}{nearest(unknown[0], names)}"
            raise InputError(f"{source.path}: has no scores of '{unknown[0]}', {known}")
    if wanted is not None:
        return list(dict.fromkeys(wanted))
    common = [n for n in first.comparison.scorers if all(n in source.comparison.scorers for source in sources)]
    for source in sources[1:]:
        for here, there in ((source, first), (first, source)):
            if only := [name for name in there.comparison.scorers if name not in here.comparison.scorers]:
                remedy = (
                    f"name the common ones: --scorers {','.join(common)}"
                    if common
                    else "score all with the same scorers"
                )
                raise InputError(f"{here.path}: has no scores of '{only[0]}', {there.path} has; {remedy}")
    return common


def check_scale(scorer: str, sources: Sequence[Source]) -> None:
    """Scores by another protocol, other weights or other preprocessing are on another scale.

    Raises:
        InputError: protocols or fingerprints of two sources differ.
    """
    first = sources[0]
    for source in sources[1:]:
        for what, one, other in (
            ("protocol", first.comparison.scorers[scorer], source.comparison.scorers[scorer]),
            ("fingerprint", first.matrices.fingerprints[scorer], source.matrices.fingerprints[scorer]),
        ):
            if one != other:
                raise InputError(
                    f"{source.path}: scorer '{scorer}' has {what} '{other[:12]}', {first.path} has '{one[:12]}': these "
                    "are different scales; score both with the same weights, protocol and dtype"
                )


def common_columns(sources: Sequence[Source]) -> tuple[Columns, list[str]]:
    """Where each source has the prompts that all have, and notes on prompt sets that are left out.

    Raises:
        InputError: nothing is common, or a source has half of a prompt set.
    """
    return _same_images(sources) if all(source.is_folder for source in sources) else _common_sets(sources)


def _same_images(sources: Sequence[Source]) -> tuple[Columns, list[str]]:
    """Folders alone: the same files, made from the same prompts."""
    first = sources[0]
    columns = [np.arange(len(first.images[FOLDER]))]
    for source in sources[1:]:
        for here, there in ((first, source), (source, first)):
            known = set(there.images[FOLDER])
            if missing := [image for image in here.images[FOLDER] if image not in known]:
                file, prompt = missing[0]
                another = any(image.file == file for image in known)
                what = f"'{file}' with another prompt" if another else f"no image '{file}'"
                raise InputError(
                    f"{there.path}: has {what}; {here.path} has it with '{prompt[:60]}' ({len(missing)} images do not "
                    "pair); score images of the same names made from the same prompts"
                )
        at = {image: column for column, image in enumerate(source.images[FOLDER])}
        columns.append(np.array([at[image] for image in first.images[FOLDER]]))
    return {FOLDER: columns}, []


def _common_sets(sources: Sequence[Source]) -> tuple[Columns, list[str]]:
    """Prompt sets of the first benchmark that all others have, and what is left out."""
    first = next(source for source in sources if not source.is_folder)
    columns: Columns = {}
    notes = []
    for name in first.comparison.prompt_sets:
        wanted = numbered(first.images[name])
        if (count := first.comparison.images_of(name)) > 1 and any(source.is_folder for source in sources):
            notes.append(
                f"Prompt set {name} is left out: {first.path} has {count} images a prompt, and a folder's files do not "
                "say which prompt of the set each is of."
            )
            continue
        found = [_columns(source, name, wanted, first) for source in sources]
        if without := [source.path for source, at in zip(sources, found, strict=True) if at is None]:
            notes.append(f"Prompt set {name} is left out: {', '.join(without)} does not have it, or drew it otherwise.")
        elif surplus := [(s.path, text) for s in sources if s.is_folder for text in _surplus(s, wanted)]:
            path, text = surplus[0]
            notes.append(
                f"Prompt set {name} is left out: {path} has more images of '{text[:60]}' than {first.path}, and a "
                "folder's files do not say which prompt of the set each is of."
            )
        else:
            columns[name] = [at for at in found if at is not None]
    for source in sources:
        own = () if source.is_folder else source.comparison.prompt_sets
        if more := [name for name in own if name not in first.comparison.prompt_sets]:
            notes.append(f"Prompt set {', '.join(more)} is left out: {first.path} does not have it.")
    if not columns:
        raise InputError(
            f"{', '.join(source.path for source in sources)}: have no prompt set in common; draw and score the same "
            f"prompts. {notes[0]}"
        )
    return columns, notes


def _columns(source: Source, name: str, wanted: Sequence[tuple[str, int]], first: Source) -> Integers | None:
    """Where a source has the prompts of a set; ``None`` where it has none of them, or drew them otherwise."""
    if not source.is_folder and (
        name not in source.images or source.comparison.apart.get(name) != first.comparison.apart.get(name)
    ):
        return None
    if not source.is_folder and source.comparison.images_of(name) != first.comparison.images_of(name):
        raise InputError(
            f"{source.path}: has {source.comparison.images_of(name)} images a prompt of '{name}', {first.path} has "
            f"{first.comparison.images_of(name)}; draw as many on both sides"
        )
    own = numbered(source.images[own_set(source, name)])
    at = {key: column for column, key in enumerate(own)}
    missing = [text for text, number in wanted if (text, number) not in at]
    if source.is_folder and len(missing) == len(wanted):
        return None
    more = [] if source.is_folder else [text for text, number in own if (text, number) not in set(wanted)]
    for here, there, texts in ((source, first, missing), (first, source, more)):
        if texts:
            raise InputError(
                f"{here.path}: lacks {len(texts)} prompts of '{name}' that {there.path} has, e.g. '{texts[0][:60]}'; "
                "draw and score the same prompts"
            )
    return np.array([at[key] for key in wanted])


def _surplus(folder: Source, wanted: Sequence[tuple[str, int]]) -> list[str]:
    """Texts of a set, once for each image of them that a folder has beyond those of the set."""
    counts = Counter(text for text, _ in wanted)
    return [text for text, number in numbered(folder.images[FOLDER]) if 0 < counts[text] <= number]


def own_set(source: Source, name: str) -> str:
    """What a source calls a prompt set."""
    return FOLDER if source.is_folder else name
