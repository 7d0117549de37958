"""What ``evals compare`` is given, score files of folders and benchmarks, each as models with their scores."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from artifacts import layout
from artifacts.errors import InputError
from artifacts.file_names import normal
from artifacts.prompt_text import same
from evals.judges.imported import judges_of
from evals.scorers import judges, lower_is_better, names
from evals.scoring.folder_score_files import read_scores
from evals.tables.comparison import ComparedModel, Comparison, Statistics
from evals.tables.intervals import Floats, Prompts
from evals.tables.matrices import ScoreMatrices, read_matrices
from evals.tables.paired import prompts_of

if TYPE_CHECKING:
    import pandas as pd

FOLDER = "folder"
"""Prompt set of the images in a folder."""


class Image(NamedTuple):
    """What an image is known by: its file in a folder, empty in a benchmark, and its prompt."""

    file: str
    prompt: str


@dataclass(frozen=True)
class Source:
    """One file or benchmark.

    Attributes:
        path: as it was given, for messages.
        name: what its models are called by.
        comparison: its models, prompt sets and scorers.
        matrices: their scores; of a folder, not a number where an image is broken.
        images: prompt set to its images, in the order of the matrices' columns.
        generation, trained: how images were drawn and variants trained, where that is known.
        is_folder: whether it is one model's images in a folder, drawn by nobody knows whom.
    """

    path: str
    name: str
    comparison: Comparison
    matrices: ScoreMatrices
    images: Mapping[str, Sequence[Image]]
    generation: Mapping[str, Any] = field(default_factory=dict)
    trained: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    is_folder: bool = False


def read(path: str | Path) -> Source:
    """A file of ``evals score --images``, or the folder of a benchmark.

    Raises:
        InputError: it is neither, or its scores are damaged.
    """
    if not Path(path).is_dir():
        if own := _benchmark_of(Path(path)):
            raise InputError(f"{path}: is one of the score files of a benchmark; give its folder, {own}")
        return of_table(read_scores(path), str(path), Statistics())
    if not (Path(path) / "tables").is_dir():
        raise InputError(f"{path}: holds no tables; expected a file of `evals score --images` or results/<benchmark>")
    from evals.tables.write import made_with

    made = made_with(path)
    comparison = with_judges(made.comparison)
    matrices = read_matrices(comparison)
    images = {name: [Image("", text) for text in texts] for name, texts in matrices.texts.items()}
    return Source(str(path), comparison.benchmark, comparison, matrices, images, made.generation, made.trained)


def with_judges(comparison: Comparison) -> Comparison:
    """With the judges whose scores were imported, each on the prompt sets that all models have scores of.

    Raises:
        InputError: some models have a judge's scores on a prompt set and others have not.
    """
    scorers, rated, lower = dict(comparison.scorers), dict(comparison.rated), set(comparison.lower_is_better)
    describing = set(comparison.no_judges)
    for judge in judges_of(comparison.root):
        if judge.name in scorers:
            continue
        sets = []
        for name in comparison.prompt_sets:
            files = [layout.scores(comparison.root, judge.name, model.name, name) for model in comparison.models]
            if without := [file for file in files if not file.is_file()]:
                if len(without) < len(files):
                    raise InputError(
                        f"{without[0]}: '{judge.name}' has scores of other models on {name}, not of this one "
                        f"({len(without)} of {len(files)} are missing); import them too, or delete the others"
                    )
                continue
            sets.append(name)
        if sets:
            scorers[judge.name] = judge.protocol
            lower |= {judge.name} if judge.lower_is_better else set()
            describing |= set() if judge.judges else {judge.name}
            if len(sets) < len(comparison.prompt_sets):
                rated[judge.name] = tuple(sets)
    return replace(
        comparison,
        scorers=scorers,
        rated=rated,
        lower_is_better=frozenset(lower),
        no_judges=frozenset(describing),
    )


def _benchmark_of(path: Path) -> Path | None:
    """The folder of the benchmark that a file is a score file of."""
    return next((p.parent for p in path.parents if p.name == "scores" and (p.parent / "prompts").is_dir()), None)


def of_table(table: pd.DataFrame, path: str, statistics: Statistics) -> Source:
    """Scores of a folder (contract ``folder_scores``) as those of one model that was not trained here.

    Raises:
        InputError: scorers rated different images, or one has no score at all.
    """
    variant = Path(path).stem
    model = ComparedModel(name=variant, base=FOLDER, variant=variant)
    images: list[Image] = []
    values: dict[tuple[str, str, str], Floats] = {}
    truncated, protocols, fingerprints = {}, {}, {}
    lower: list[str] = []
    described: list[str] = []
    for key, rows in table.groupby("scorer", sort=False):
        scorer = str(key)
        pairs = zip(rows["file"].map(normal), rows["prompt"].map(normal), strict=True)
        at = {Image(file, prompt): row for row, (file, prompt) in enumerate(pairs)}
        images = images or list(at)
        if differing := set(images) ^ set(at):
            raise InputError(
                f"{path}: '{next(iter(differing)).file}' has not been rated by every scorer; score it again"
            )
        scored = rows.iloc[[at[image] for image in images]]
        scores = scored["score"].where(scored["problem"].isna()).to_numpy(np.float64)
        if np.isnan(scores).all():
            raise InputError(f"scorer '{scorer}': all {len(scores)} images are broken, the first is {images[0].file}")
        values[variant, FOLDER, scorer] = scores[None]
        truncated[FOLDER, scorer] = int(scored[~np.isnan(scores)].drop_duplicates("prompt")["truncated"].sum())
        protocols[scorer], fingerprints[scorer] = str(rows["protocol"].iloc[0]), str(rows["fingerprint"].iloc[0])
        if _told(rows, "lower_is_better", lower_is_better, path):
            lower.append(scorer)
        if not _told(rows, "judges", judges, path):
            described.append(scorer)
    comparison = Comparison(
        benchmark=variant,
        root=Path(path).parent,
        models=(model,),
        prompt_sets=(FOLDER,),
        scorers=protocols,
        statistics=statistics,
        lower_is_better=frozenset(lower),
        no_judges=frozenset(described),
    )
    texts = [image.prompt for image in images]
    units: dict[tuple[str, ...], Prompts] = {(FOLDER,): prompts_of([texts])}
    matrices = ScoreMatrices(
        {variant: (model,)}, units, values, truncated, texts={FOLDER: texts}, fingerprints=fingerprints
    )
    return Source(path, variant, comparison, matrices, {FOLDER: images}, is_folder=True)


def _told(rows: pd.DataFrame, column: str, of_scorer: Callable[[str], bool], path: str) -> bool:
    """What the scores' file says of their scorer; files from before do not, and then the scorer has to be here."""
    if rows[column].notna().any():
        return bool(rows[column].dropna().iloc[0])
    name = str(rows["scorer"].iloc[0])
    if name not in names():
        raise InputError(
            f"{path}: does not say whether low scores of '{name}' are good, and no such scorer is installed; install "
            "the package that has it, or score the images again"
        )
    return of_scorer(name)


def numbered(images: Iterable[Image]) -> list[tuple[str, int]]:
    """Prompts as benchmarks and folders have them in common: the text, and which of its images it is."""
    seen: Counter[str] = Counter()
    listed = []
    for image in images:
        text = same(image.prompt)
        listed.append((text, seen[text]))
        seen[text] += 1
    return listed
