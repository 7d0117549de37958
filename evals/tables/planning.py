"""How many seeds and prompts a difference needs, from the variance components of a benchmark that was run.

A paired difference of one prompt and seed is taken as a mean with independent effects of the seed, of the prompt and of
neither. Their variances come from the mean squares of the table (two-way analysis of variance without replication;
Searle, Casella and McCulloch, Variance Components, 1992), and give the interval that other numbers of seeds and
prompts would have.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from artifacts import markdown
from artifacts.errors import InputError
from artifacts.plugins import nearest
from evals.tables.comparison import Comparison
from evals.tables.intervals import ALIKE, Estimate, Floats, Prompts
from evals.tables.matrices import ScoreMatrices
from evals.tables.numbers import decimals, number, percent, signed
from evals.tables.rows import POOLED

SEEDS = (2, 3, 5, 8, 10, 20)
PROMPTS = (100, 200, 500, 1000, 2000, 5000)
_MOST_PROMPTS = 10_000_000


@dataclass(frozen=True)
class Components:
    """Of a pilot's differences, one a seed and different prompt: their mean, and its variances.

    Attributes:
        mean: over seeds and prompts.
        seeds, prompts, rest: variance between seeds, between prompts, and of what neither explains.
        n_seeds, n_prompts: of the pilot; with one seed, of models that were not trained here, ``seeds`` is 0.
    """

    mean: float
    seeds: float
    prompts: float
    rest: float
    n_seeds: int
    n_prompts: int

    def detectable(self, seeds: int, prompts: int, confidence: float, power: float) -> float:
        """The true difference that so many seeds and prompts decide in a share ``power`` of cases."""
        of_seeds = (self.seeds + self.rest / prompts) / seeds
        of_prompts = self.prompts / prompts
        if seeds == 1:
            of_seeds, of_prompts = 0.0, (self.prompts + self.rest) / prompts
        found = Estimate(np.float64(0), np.float64(of_seeds), np.float64(of_prompts), seeds - 1, prompts - 1)  # type: ignore[arg-type]
        return float(found.detectable(confidence, power))

    def prompts_needed(self, difference: float, seeds: int, confidence: float, power: float) -> int | None:
        """The fewest prompts with which so many seeds find the difference; ``None`` where no number does."""
        if self.detectable(seeds, _MOST_PROMPTS, confidence, power) > difference:
            return None
        low, high = 1, _MOST_PROMPTS
        while high - low > 1:
            middle = (low + high) // 2
            enough = self.detectable(seeds, middle, confidence, power) <= difference
            low, high = (low, middle) if enough else (middle, high)
        return high


def components(difference: Floats, prompts: Prompts) -> Components:
    """Variance components of differences ``(seeds, prompts)``; prompts of equal text count as one, with their mean.

    Raises:
        InputError: there are not two different prompts in a prompt set, or all differences are equal.
    """
    if np.ptp(difference) <= ALIKE * np.abs(difference).max():
        raise InputError(
            f"all {difference.size} differences of the pilot are {difference.flat[0]:g}, which says nothing of how "
            "much others would vary; a plan needs a pilot with more prompts, or a finer scorer"
        )
    units, columns = np.unique(np.stack([prompts.sets, prompts.texts]), axis=1, return_inverse=True)
    sizes = np.bincount(columns)
    values = np.stack([np.bincount(columns, weights=row) for row in difference]) / sizes
    (seeds, count), sets = values.shape, units[0]
    freedom = count - len(np.unique(sets))
    if freedom < 1:
        raise InputError("a plan needs a pilot with two different prompts of one prompt set")
    by_seed, by_prompt = values.mean(axis=1), values.mean(axis=0)
    of_set = np.bincount(sets, weights=by_prompt) / np.bincount(sets)
    between_prompts = seeds * float(((by_prompt - of_set[sets]) ** 2).sum()) / freedom
    if seeds == 1:
        return Components(float(values.mean()), 0.0, between_prompts, 0.0, 1, count)
    left = values - by_seed[:, None] - by_prompt + values.mean()
    rest = float((left**2).sum()) / ((seeds - 1) * (count - 1))
    between_seeds = count * float(by_seed.var(ddof=1))
    return Components(
        mean=float(values.mean()),
        seeds=max(0.0, between_seeds - rest) / count,
        prompts=max(0.0, between_prompts - rest) / seeds,
        rest=rest,
        n_seeds=seeds,
        n_prompts=count,
    )


def pilot(comparison: Comparison, matrices: ScoreMatrices, a: str, b: str, scorer: str, prompt_set: str) -> Components:
    """Components of the difference of two variants by one scorer.

    Raises:
        InputError: a name is not in the benchmark, the variants have no seed in common, or a trained one has one seed.
    """
    for option, name, known in (
        ("--variant", a, comparison.variants),
        ("--against", b, comparison.variants),
        ("--scorer", scorer, tuple(comparison.scorers)),
        ("--prompt-set", prompt_set, _plannable(comparison, scorer)),
    ):
        if name not in known:
            raise InputError(f"{option} {name}: expected one of {', '.join(known)}{nearest(name, list(known))}")
    if a == b:
        raise InputError(f"--against {b}: expected another variant than --variant")
    sets = _pooled(comparison, scorer) if prompt_set == POOLED else (prompt_set,)
    sides = [matrices.paired(a, b, name, scorer) for name in sets]
    difference = np.concatenate([first - second for first, second in sides], axis=1)
    trained = any(model.trained for variant in (a, b) for model in comparison.of_variant(variant))
    if trained and len(difference) < 2:
        raise InputError(
            f"'{a}' and '{b}' have one seed in common, which says nothing of how seeds differ; a pilot needs two"
        )
    return components(difference, matrices.units[sets])


def _pooled(comparison: Comparison, scorer: str) -> tuple[str, ...]:
    """Prompt sets drawn alike that a scorer rates."""
    return tuple(name for name in comparison.pooled if name in comparison.sets_of(scorer))


def _plannable(comparison: Comparison, scorer: str) -> tuple[str, ...]:
    """What a pilot may be of."""
    if scorer not in comparison.scorers:
        return (POOLED,)
    return (*comparison.sets_of(scorer), *([POOLED] if _pooled(comparison, scorer) else []))


def to_text(
    found: Components,
    *,
    difference: float | None,
    confidence: float,
    power: float,
    seeds: Sequence[int] = SEEDS,
    prompts: Sequence[int] = PROMPTS,
) -> str:
    """Tables for the terminal: the difference that seeds times prompts decide, and what the wanted one needs."""
    rows = sorted({*seeds, found.n_seeds}) if found.n_seeds > 1 else [1]
    columns = sorted({*prompts, found.n_prompts})
    cells = {(s, p): found.detectable(s, p, confidence, power) for s in rows for p in columns}
    digits = decimals(cells.values())
    header = ["seeds", *(f"{count} prompts" for count in columns)]
    if difference is not None:
        header.append(f"prompts for {difference:g}")
    body = []
    for s in rows:
        line = [str(s), *(f"{number(cells[s, p], digits)}{_mark(cells[s, p], difference)}" for p in columns)]
        if difference is not None:
            needed = found.prompts_needed(difference, s, confidence, power)
            line.append("more seeds" if needed is None else str(needed))
        body.append(line)
    sd = {name: math.sqrt(getattr(found, name)) for name in ("seeds", "prompts", "rest")}
    shown = decimals(sd.values())
    spread = ", ".join(f"{name} {number(value, shown)}" for name, value in sd.items())
    lines = [
        f"Pilot: {found.n_seeds} seeds, {found.n_prompts} different prompts, difference {signed(found.mean, shown)}.",
        f"Standard deviation of a difference that comes from: {spread}.",
        f"True difference that is decided in {percent(power)} of cases, at {percent(confidence)} confidence:",
        "",
        markdown.plain_table([header, *body], "r" * len(header)),
        "",
    ]
    if difference is not None:
        lines.append(f"* finds {difference:g}.")
    lines.append(_doubt(found, confidence))
    return "\n".join(lines)


def _mark(value: float, difference: float | None) -> str:
    return "" if difference is None else "*" if value <= difference else " "


def _doubt(found: Components, confidence: float) -> str:
    """How well the pilot knows what seeds do, by the chi-squared interval of the variance of their means."""
    from scipy.stats import chi2

    if found.n_seeds == 1:
        return "Nothing was trained: prompts alone are planned."
    freedom = found.n_seeds - 1
    low, high = (math.sqrt(freedom / chi2.ppf(end, freedom)) for end in ((1 + confidence) / 2, (1 - confidence) / 2))
    return (
        f"How seeds differ is known from {found.n_seeds}: the standard deviation of their means may be {low:.2g} to "
        f"{high:.2g} times the pilot's ({percent(confidence)} interval)."
    )
