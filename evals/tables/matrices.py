"""Score files of a benchmark as matrices of seeds by prompts, paired by ``prompt_id`` and nothing else."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from artifacts import layout
from artifacts.contracts import read_table
from artifacts.errors import InputError
from evals.tables.intervals import Floats, Prompts
from evals.tables.paired import prompts_of

if TYPE_CHECKING:
    import pandas as pd

    from evals.tables.comparison import ComparedModel, Comparison


@dataclass(frozen=True)
class ScoreMatrices:
    """Scores of every variant.

    Attributes:
        models: variant to its models, one a seed, in increasing order of the seed.
        units: prompt sets that are taken together to what their prompts, side by side, are as units of chance.
        values: (variant, prompt set, scorer) to scores ``(seeds, prompts)``, columns in the prompt set's order, each
            the mean over the prompt's images; without the prompt sets that a scorer does not rate.
        truncated: (prompt set, scorer) to the number of prompts of which the scorer saw only the beginning.
        categories: prompt set to the category of each of its prompts, empty for those without.
        texts: prompt set to its prompts.
        fingerprints: scorer to the fingerprint of all its scores.
        images: as ``values``, of single images ``(seeds, prompts, images)``; of sets with several images a prompt only.
    """

    models: dict[str, tuple[ComparedModel, ...]]
    units: dict[tuple[str, ...], Prompts]
    values: dict[tuple[str, str, str], Floats]
    truncated: dict[tuple[str, str], int]
    categories: dict[str, list[str]] = field(default_factory=dict)
    texts: dict[str, list[str]] = field(default_factory=dict)
    fingerprints: dict[str, str] = field(default_factory=dict)
    images: dict[tuple[str, str, str], Floats] = field(default_factory=dict)

    def meet(self, a: str, b: str) -> bool:
        """Whether two variants have a seed in common, or one has none."""
        seeds_a, seeds_b = ({model.seed for model in self.models[variant]} for variant in (a, b))
        return None in seeds_a | seeds_b or bool(seeds_a & seeds_b)

    def paired(self, a: str, b: str, prompt_set: str, scorer: str) -> tuple[Floats, Floats]:
        """Scores of two variants with the same seed in each row; a variant without seeds meets every seed.

        Seeds that only one of the two has are left out.

        Raises:
            InputError: the variants have no seed in common.
        """
        return self._paired(a, b, self.values[a, prompt_set, scorer], self.values[b, prompt_set, scorer])

    def paired_images(self, a: str, b: str, prompt_set: str, scorer: str) -> tuple[Floats, Floats]:
        """As :meth:`paired`, of single images ``(seeds, prompts, images)``, on both sides from the same start noise."""
        if (a, prompt_set, scorer) not in self.images:
            first, second = self.paired(a, b, prompt_set, scorer)
            return first[..., None], second[..., None]
        return self._paired(a, b, self.images[a, prompt_set, scorer], self.images[b, prompt_set, scorer])

    def _paired(self, a: str, b: str, left: Floats, right: Floats) -> tuple[Floats, Floats]:
        seeds_a = [model.seed for model in self.models[a]]
        seeds_b = [model.seed for model in self.models[b]]
        if seeds_a != [None] and seeds_b != [None]:
            common = [seed for seed in seeds_a if seed in seeds_b]
            if not common:
                raise InputError(
                    f"variants '{a}' (seeds {_listed(seeds_a)}) and '{b}' (seeds {_listed(seeds_b)}) have no seed "
                    "in common; train both with the same seeds"
                )
            left = left[[seeds_a.index(seed) for seed in common]]
            right = right[[seeds_b.index(seed) for seed in common]]
        first, second = np.broadcast_arrays(left, right)
        return first, second


def _listed(seeds: list[int | None]) -> str:
    return ", ".join(str(seed) for seed in seeds)


def read_matrices(comparison: Comparison) -> ScoreMatrices:
    """Read every score file of the comparison.

    Raises:
        InputError: a file is missing or malformed; its prompt ids are not exactly the prompt set's, or it has not as
            many images of each as the comparison says; a score is not finite; the files of one scorer were made by
            different scorers (fingerprints); the scorers of one model saw different images; a variant has two models of
            one seed.
    """
    models = _models_by_variant(comparison)
    prompt_ids: dict[str, list[str]] = {}
    texts: dict[str, list[str]] = {}
    categories: dict[str, list[str]] = {}
    for prompt_set in comparison.prompt_sets:
        path = layout.prompts(comparison.root, prompt_set)
        table = read_table(path, "prompts")
        prompt_ids[prompt_set], texts[prompt_set] = _unique_ids(path, table), _column(table, "prompt")
        categories[prompt_set] = _column(table, "category")
    fingerprints: dict[str, tuple[str, Path]] = {}
    values: dict[tuple[str, str, str], Floats] = {}
    truncated: dict[tuple[str, str], int] = {}
    several: dict[tuple[str, str, str], Floats] = {}
    for variant, members in models.items():
        for prompt_set, ids in prompt_ids.items():
            prompts, count = layout.prompts(comparison.root, prompt_set), comparison.images_of(prompt_set)
            images: dict[str, tuple[list[str], Path]] = {}
            for scorer in comparison.raters(prompt_set):
                rows = []
                for model in members:
                    path = layout.scores(comparison.root, scorer, model.name, prompt_set)
                    frame = _by_image(read_table(path, "scores"), path, ids, prompts, count)
                    _check_protocol(frame, path, scorer, comparison.scorers[scorer])
                    _check_fingerprint(frame, path, scorer, fingerprints)
                    digests = _column(frame, "image_sha256")
                    _check_images(digests, path, ids * count, images.setdefault(model.name, (digests, path)))
                    rows.append(_finite_scores(frame, path).reshape(count, len(ids)).T)
                    truncated[prompt_set, scorer] = int(frame["truncated"].iloc[: len(ids)].sum())
                values[variant, prompt_set, scorer] = np.stack(rows).mean(axis=-1)
                if count > 1:
                    several[variant, prompt_set, scorer] = np.stack(rows)
    pooled = {tuple(s for s in comparison.pooled if s in comparison.sets_of(name)) for name in comparison.scorers}
    together = {*((name,) for name in texts), *pooled} - {()}
    units = {sets: prompts_of([texts[name] for name in sets]) for sets in together}
    found = {scorer: fingerprint for scorer, (fingerprint, _) in fingerprints.items()}
    return ScoreMatrices(models, units, values, truncated, categories, texts, found, several)


def _models_by_variant(comparison: Comparison) -> dict[str, tuple[ComparedModel, ...]]:
    grouped = {}
    for variant in comparison.variants:
        members = sorted(comparison.of_variant(variant), key=lambda model: -1 if model.seed is None else model.seed)
        for first, second in pairwise(members):
            if first.seed == second.seed or first.seed is None:
                raise InputError(
                    f"variant '{variant}' has two models for one seed, '{first.name}' and '{second.name}'; "
                    "give each of them a variant name of its own"
                )
        grouped[variant] = tuple(members)
    return grouped


def _column(frame: pd.DataFrame, name: str) -> list[Any]:
    values: list[Any] = frame[name].tolist()
    return values


def _unique_ids(path: Path, frame: pd.DataFrame) -> list[str]:
    ids = _column(frame, "prompt_id")
    if not ids:
        raise InputError(f"{path}: the prompt set is empty; give it at least one prompt")
    if repeated := _first_repeated(ids):
        raise InputError(f"{path}: prompt_id '{repeated}' occurs twice; ids must be unique")
    return ids


def _first_repeated(ids: list[str]) -> str | None:
    seen: set[str] = set()
    for name in ids:
        if name in seen:
            return name
        seen.add(name)
    return None


def _by_image(frame: pd.DataFrame, path: Path, ids: list[str], prompts: Path, count: int) -> pd.DataFrame:
    """The first image of every prompt in the order of the prompt set, then the second, …; exactly ``count`` of each."""
    if len(more := frame[~frame["image"].between(0, count - 1)]):
        raise InputError(
            f"{path}: has image {more['image'].iloc[0]} of prompt_id '{more['prompt_id'].iloc[0]}', expected "
            f"{count} of each prompt, numbered from 0; delete the score file and run snakemake again"
        )
    import pandas as pd

    parts = []
    for image in range(count):
        own = frame[frame["image"] == image]
        if image and not len(own):
            raise InputError(
                f"{path}: has {image} of {count} images of each prompt; delete the score file and run snakemake again"
            )
        parts.append(_in_order(own, path, ids, prompts))
    return pd.concat(parts, ignore_index=True)


def _in_order(frame: pd.DataFrame, path: Path, ids: list[str], prompts: Path) -> pd.DataFrame:
    """Rows in the order of the prompt set; refuses anything but the same set of ids."""
    found = _column(frame, "prompt_id")
    if found == ids:
        return frame
    remedy = "delete the score file and run snakemake again"
    if repeated := _first_repeated(found):
        raise InputError(f"{path}: prompt_id '{repeated}' occurs twice, in {prompts} once; {remedy}")
    present, wanted = set(found), set(ids)
    if missing := next((name for name in ids if name not in present), None):
        raise InputError(f"{path}: prompt_id '{missing}' of {prompts} is missing; {remedy}")
    if unknown := next((name for name in found if name not in wanted), None):
        raise InputError(f"{path}: prompt_id '{unknown}' is not in {prompts}; {remedy}")
    position = {name: row for row, name in enumerate(found)}
    return frame.iloc[[position[name] for name in ids]]


def _finite_scores(frame: pd.DataFrame, path: Path) -> Floats:
    scores = frame["score"].to_numpy(dtype=np.float64)
    wrong = np.flatnonzero(~np.isfinite(scores))
    if wrong.size:
        raise InputError(
            f"{path}: score of prompt_id '{frame['prompt_id'].iloc[int(wrong[0])]}' is {scores[wrong[0]]}, expected a "
            "finite number; look at its image, delete the score file and run snakemake again"
        )
    return scores


def _check_protocol(frame: pd.DataFrame, path: Path, scorer: str, expected: str) -> None:
    """The table names the config's protocol, which must be the one that was run."""
    if wrong := next((found for found in _column(frame, "protocol") if found != expected), None):
        raise InputError(
            f"{path}: scorer '{scorer}' was run by protocol '{wrong}', the config says '{expected}'; "
            "delete the file and run snakemake again"
        )


def _check_fingerprint(frame: pd.DataFrame, path: Path, scorer: str, seen: dict[str, tuple[str, Path]]) -> None:
    """All scores of one scorer must come from the same weights, protocol and preprocessing."""
    found = _column(frame, "fingerprint")
    expected, first = seen.setdefault(scorer, (found[0], path))
    wrong = next((row for row, fingerprint in enumerate(found) if fingerprint != expected), None)
    if wrong is not None:
        raise InputError(
            f"{path}: prompt_id '{frame['prompt_id'].iloc[wrong]}' has fingerprint {found[wrong][:12]}, but {first} "
            f"has {expected[:12]}: scorer '{scorer}' changed; delete the older file and run snakemake again"
        )


def _check_images(found: list[str], path: Path, ids: list[str], first: tuple[list[str], Path]) -> None:
    """All scorers of one model must have seen the same images."""
    expected, other = first
    if found != expected:
        wrong = next(name for name, x, y in zip(ids, found, expected, strict=True) if x != y)
        raise InputError(
            f"{path}: prompt_id '{wrong}' was scored on another image than in {other}; "
            "delete the older file and run snakemake again"
        )
