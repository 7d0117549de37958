"""Models of several benchmarks and folders of images in one comparison, on the prompts and scorers that all have."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from artifacts.errors import InputError
from artifacts.plugins import nearest
from evals.tables.common_ground import Columns, check_scale, common_columns, common_scorers, own_set
from evals.tables.comparison import ComparedModel, Comparison, Statistics
from evals.tables.intervals import Floats
from evals.tables.matrices import ScoreMatrices
from evals.tables.paired import prompts_of
from evals.tables.sources import Source

_Cell = tuple[str, str, str]
"""A variant, a prompt set and a scorer."""
BASE = "all"
"""In the place of a base: all models stand side by side."""


@dataclass(frozen=True)
class Merged:
    """One comparison of all models, and what its reader must know of how they were brought together."""

    comparison: Comparison
    matrices: ScoreMatrices
    generation: Mapping[str, Any] = field(default_factory=dict)
    trained: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


def merge(
    sources: Sequence[Source],
    statistics: Statistics,
    *,
    scorers: Sequence[str] | None = None,
    against: str | None = None,
) -> Merged:
    """Pair the prompts of all sources.

    Folders alone are paired by file and prompt. With a benchmark among them, prompts are paired by their text, and the
    images of equal texts in their order; a folder has a prompt set if it has all of its prompts.

    Args:
        scorers: only these; left out, all, which every source must have.
        against: what all are compared with; left out, the base of the first benchmark, or else the last folder.

    Raises:
        InputError: sources have no prompt set or image in common, other scorers, protocols or fingerprints, or half a
            prompt set; ``against`` is unknown.
    """
    names = common_scorers(sources, scorers)
    for name in names:
        check_scale(name, sources)
    columns, notes = common_columns(sources)
    for name in [n for n in columns if not any(_all_rate(sources, scorer, n) for scorer in names)]:
        del columns[name]
        notes.append(f"Prompt set {name} is left out: not rated everywhere by any of {', '.join(names)}.")
    labels = _labels(sources)
    variants, again = _once(sources, _variants(sources, labels), columns, names)
    models = [m for source, own in zip(sources, variants, strict=True) for m in _models(source, own)]
    rated = _rated(sources, columns, names)
    whole = {name: _whole(sources, columns, name) for name in columns}
    kept: Columns = {name: [at[whole[name]] for at in found] for name, found in columns.items()}
    texts = {name: [sources[0].images[own_set(sources[0], name)][i].prompt for i in kept[name][0]] for name in kept}
    first = next((i for i, source in enumerate(sources) if not source.is_folder), len(sources) - 1)
    reference = _reference(sources[first], variants[first], against, [model.variant for model in models])
    apart = {name: block for name, block in sources[first].comparison.apart.items() if name in columns}
    several = {n: count for n, count in sources[first].comparison.images_per_prompt.items() if n in columns}
    comparison = Comparison(
        benchmark=", ".join(labels),
        root=Path(),
        models=tuple(models),
        prompt_sets=tuple(columns),
        scorers={name: sources[0].comparison.scorers[name] for name in names},
        statistics=statistics,
        lower_is_better=frozenset(n for n in names if any(n in s.comparison.lower_is_better for s in sources)),
        no_judges=frozenset(n for n in names if any(n in s.comparison.no_judges for s in sources)),
        rated=rated,
        apart=apart,
        reference=reference,
        images_per_prompt=several,
    )
    sets = {tuple(name for name in comparison.pooled if name in comparison.sets_of(scorer)) for scorer in names}
    units = {key: prompts_of([texts[name] for name in key]) for key in {*((n,) for n in columns), *sets} - {()}}
    by_variant = {variant: comparison.of_variant(variant) for variant in comparison.variants}
    ordered = {v: tuple(sorted(m, key=lambda one: -1 if one.seed is None else one.seed)) for v, m in by_variant.items()}
    drawn = [source.generation for source in sources if not source.is_folder]
    shared = {key: x for key, x in drawn[0].items() if all(o.get(key) == x for o in drawn)} if drawn else {}
    if any(other != drawn[0] for other in drawn[1:]):
        keys = ", ".join(key for key in dict.fromkeys(key for one in drawn for key in one) if key not in shared)
        notes.append(
            f"The benchmarks drew under different settings ({keys}), so a difference between them is not training's "
            "alone."
        )
    if broken := sum(int((~unbroken).sum()) for unbroken in whole.values()):
        notes.append(f"{broken} images that are broken on a side are left out.")
    values, truncated, categories, images = _gathered(sources, variants, kept, comparison)
    return Merged(
        comparison,
        ScoreMatrices(ordered, units, values, truncated, categories, texts, images=images),
        # Of a folder nobody knows.
        generation=shared if len(drawn) == len(sources) else {},
        trained={own[v]: t for s, own in zip(sources, variants, strict=True) for v, t in s.trained.items() if v in own},
        notes=(*notes, *again),
    )


def _gathered(
    sources: Sequence[Source], variants: Sequence[Mapping[str, str]], kept: Columns, comparison: Comparison
) -> tuple[dict[_Cell, Floats], dict[tuple[str, str], int], dict[str, list[str]], dict[_Cell, Floats]]:
    """Scores, numbers of cut prompts, categories and scores of single images, under the names and in the columns of the
    comparison.
    """
    values: dict[_Cell, Floats] = {}
    images: dict[_Cell, Floats] = {}
    truncated: dict[tuple[str, str], int] = {}
    categories: dict[str, list[str]] = {}
    for number, (source, own) in enumerate(zip(sources, variants, strict=True)):
        for name, found in kept.items():
            at, theirs = found[number], own_set(source, name)
            for scorer in comparison.raters(name):
                truncated[name, scorer] = source.matrices.truncated[theirs, scorer]
                for variant, ours in own.items():
                    values[ours, name, scorer] = source.matrices.values[variant, theirs, scorer][:, at]
                    if name in comparison.images_per_prompt:
                        images[ours, name, scorer] = source.matrices.images[variant, theirs, scorer][:, at]
            if theirs in source.matrices.categories:
                categories.setdefault(name, [source.matrices.categories[theirs][i] for i in at])
    return values, truncated, categories, images


def _labels(sources: Sequence[Source]) -> list[str]:
    """A name for each source, all different: its own, else with the folder before it, else numbered."""
    names = [source.name for source in sources]
    if len(set(names)) < len(names):
        names = [f"{Path(source.path).absolute().parent.name}/{source.name}" for source in sources]
    return [name if name not in names[:i] else f"{name} ({names[:i].count(name) + 1})" for i, name in enumerate(names)]


def _variants(sources: Sequence[Source], labels: Sequence[str]) -> list[dict[str, str]]:
    """Of each source the names of its variants, and what they are called here: told apart by their benchmark."""
    benchmarks = [source for source in sources if not source.is_folder]
    several = len(benchmarks) > 1 or any(
        label in source.comparison.variants for source in benchmarks for label in labels
    )
    return [
        {v: label if source.is_folder else f"{label}:{v}" if several else v for v in source.comparison.variants}
        for source, label in zip(sources, labels, strict=True)
    ]


def _once(
    sources: Sequence[Source], variants: list[dict[str, str]], columns: Columns, scorers: Sequence[str]
) -> tuple[list[dict[str, str]], list[str]]:
    """Leave out untrained models of a benchmark that have every score of one before: they are the same."""
    seen: list[tuple[str, list[Floats]]] = []
    notes, kept = [], []
    for number, (source, own) in enumerate(zip(sources, variants, strict=True)):
        kept.append(dict(own))
        for variant, ours in own.items():
            if source.is_folder or source.comparison.of_variant(variant)[0].trained:
                continue
            scores = [
                source.matrices.values[variant, name, scorer][:, at[number]]
                for name, at in columns.items()
                for scorer in scorers
                if name in source.comparison.sets_of(scorer)
            ]
            same = next((name for name, other in seen if _equal(scores, other)), None)
            if same is None:
                seen.append((ours, scores))
            else:
                del kept[-1][variant]
                notes.append(f"{ours} has every score of {same}, and is shown once.")
    return kept, notes


def _equal(one: Sequence[Floats], other: Sequence[Floats]) -> bool:
    return len(one) == len(other) and all(np.array_equal(a, b) for a, b in zip(one, other, strict=True))


def _models(source: Source, own: Mapping[str, str]) -> Iterator[ComparedModel]:
    for model in source.comparison.models:
        if (variant := own.get(model.variant)) is not None:
            baseline = own.get(model.baseline or "")
            update = {"name": f"{variant}/{model.name}", "base": BASE, "variant": variant, "baseline": baseline}
            yield model.model_copy(update=update)


def _rated(sources: Sequence[Source], columns: Columns, scorers: Sequence[str]) -> dict[str, tuple[str, ...]]:
    """Prompt sets of the scorers that do not rate all of them in every source."""
    found = {}
    for scorer in scorers:
        sets = tuple(name for name in columns if _all_rate(sources, scorer, name))
        if not sets:
            raise InputError(f"scorer '{scorer}' rates no prompt set that all sources have; leave it out by --scorers")
        if len(sets) < len(columns):
            found[scorer] = sets
    return found


def _all_rate(sources: Sequence[Source], scorer: str, name: str) -> bool:
    return all(source.is_folder or name in source.comparison.sets_of(scorer) for source in sources)


def _whole(sources: Sequence[Source], columns: Columns, name: str) -> NDArray[np.bool_]:
    """Which columns of a set have a score everywhere; an image that is broken for one scorer is for all."""
    whole = np.ones(len(columns[name][0]), np.bool_)
    for source, at in zip(sources, columns[name], strict=True):
        if source.is_folder:
            for scores in source.matrices.values.values():
                whole &= ~np.isnan(scores[0, at])
    if not whole.any():
        raise InputError(f"{', '.join(source.path for source in sources)}: no image has a score on all sides")
    return whole


def _reference(first: Source, own: Mapping[str, str], against: str | None, known: Sequence[str]) -> str:
    """The variant that all are compared with."""
    if against is not None:
        if against not in known:
            raise InputError(f"--against {against}: expected one of {', '.join(known)}{nearest(against, list(known))}")
        return against
    untrained = [v for v in first.comparison.variants if not first.comparison.of_variant(v)[0].trained and v in own]
    return own[untrained[0]] if untrained else next(iter(own.values()))
