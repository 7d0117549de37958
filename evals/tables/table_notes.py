"""What stands below the main table: how its numbers were made and what they do not say."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from evals.generation.settings import with_effect
from evals.tables.numbers import percent
from evals.tables.rows import POOLED, POWER
from evals.tables.trainings import in_words

if TYPE_CHECKING:
    from evals.tables.comparison import Comparison
    from evals.tables.rows import DifferenceRow, ScoreRow

FEW_SEEDS = 5


def notes(
    pooled: Mapping[tuple[str, str, str], ScoreRow],
    against: Sequence[DifferenceRow],
    own: Sequence[DifferenceRow],
    comparison: Comparison,
    generation: Mapping[str, Any] | None,
    trained: Mapping[str, Mapping[str, Any]],
    *,
    wins: bool,
) -> tuple[str, ...]:
    """Notes in the order of a reader's questions.

    Args:
        pooled: rows of ``scores.csv`` over all seeds, by variant, prompt set and scorer.
        against, own: the differences to the base and to the baseline that the table shows.
        comparison: what is compared with what.
        generation: how images were made, as key and value.
        trained: how variants were trained, as :func:`evals.tables.trainings.trainings` gives it.
        wins: whether the table shows win rates.
    """
    first = comparison.variants[0]
    prompts = {
        name: pooled[first, name, comparison.raters(name)[0]].n // len(comparison.of_variant(first))
        for name in comparison.prompt_sets
    }
    seeds = {v: len(comparison.of_variant(v)) for v in comparison.variants if comparison.of_variant(v)[0].trained}
    described = [name for name in comparison.scorers if name in comparison.no_judges]
    listed = [_differences_note(against, comparison)]
    if own:
        listed.append("Below that, by the same scheme, the difference to the variant's baseline.")
    if wins:
        listed.append(
            "Mean win rate: mean over these scorers of the share of units (prompt, seed) in which the variant beats "
            f"{comparison.reference or 'the base'}, ties half; below it its interval, taken jointly; even is 0.5."
        )
    listed.append(limits_note(comparison))
    listed += [
        "Bold (* in plain text) is the best mean of a base's variants, before rounding, and no claim of significance; "
        "underlined (~) is the second. ≈ marks means that this interval of the paired difference to the best does not "
        "tell apart from it. " + _direction_note(comparison),
        _detectable_note([*against, *own], comparison),
        f"{', '.join(described)}: no judgement, so nothing is best, wins or is tested." if described else "",
        "Scorers and protocols: " + ", ".join(f"{name} ({how})" for name, how in comparison.scorers.items()) + ".",
        f"Prompts: {_prompts(prompts, against)}. {_seed_note(seeds)}",
        _truncation_note(
            {
                (name, scorer): pooled[first, name, scorer].truncated
                for name in prompts
                for scorer in comparison.raters(name)
            },
            prompts,
        ),
        _trained_prompts_note(prompts, trained),
        _few_seeds_note(min(seeds.values(), default=0), comparison.statistics.confidence),
    ]
    alone = sorted({m.variant for m in comparison.models if m.trained and m.safeguard and m.baseline is None})
    if alone:
        listed.append(
            f"No variant is like {', '.join(alone)} but without safeguard, so what that changes is not shown."
        )
    listed += [_safeguard_note(trained), _labels_note(trained)]
    listed += [images_note(comparison), apart_note(comparison, generation or {})]
    if generation:
        if generation.get("protocol") == "sdpo":
            listed.append(
                "Generation protocol sdpo draws every prompt from one start noise: the prompts are no independent "
                "draws, and no interval says what another start noise would have given."
            )
        listed.append("Generation: " + ", ".join(_settings(with_effect(generation, generation.get("protocol")))) + ".")
    return tuple(note for note in listed if note)


def limits_note(comparison: Comparison) -> str:
    """Which scorers rate some prompt sets alone, and what that makes of numbers over several; empty if all rate all."""
    if not comparison.rated:
        return ""
    listed = "; ".join(f"{scorer} rates {', '.join(sets)} and no other" for scorer, sets in comparison.rated.items())
    return (
        f"{listed}: a dash elsewhere. Where prompt sets are pooled, such a scorer's numbers are over its own; a mean "
        "win rate is over the judging scorers that rate every prompt set concerned, if there are two."
    )


def images_note(comparison: Comparison) -> str:
    """Which prompt sets have several images a prompt, and what becomes of them; empty if none has."""
    listed = ", ".join(f"{name} {count}" for name, count in comparison.images_per_prompt.items())
    # Of images from elsewhere nobody knows what they started from.
    pairs = "in their order" if comparison.reference else "from the same start noise"
    return (
        f"Images a prompt: {listed}. A prompt is one unit: its score is the mean of its images, its outcome in a win "
        f"rate the mean over pairs of images {pairs}."
        if listed
        else ""
    )


def apart_note(comparison: Comparison, generation: Mapping[str, Any]) -> str:
    """Which prompt sets are drawn under settings of their own, the others as ``generation`` says; empty if none is."""
    if not comparison.apart:
        return ""
    listed = "; ".join(
        f"{name}{f' (the prompts of {own.shows})' if own.shows else ''}: "
        + ", ".join(_settings(with_effect(own.generation.model_dump(exclude_none=True), generation.get("protocol"))))
        for name, own in comparison.apart.items()
    )
    return f"Drawn under other settings, and in no number over several prompt sets: {listed}."


def drawn_in_words(comparison: Comparison, generation: Mapping[str, Any]) -> dict[str, str]:
    """By prompt set what tells its images from those of others, where some are drawn under settings of their own."""
    own = {name: apart.generation.model_dump(exclude_none=True) for name, apart in comparison.apart.items()}
    factors = [key for key in generation if any(key in settings for settings in own.values())]
    usual = {key: generation[key] for key in factors}
    drawn = {name: with_effect(own.get(name, usual), generation.get("protocol")) for name in comparison.prompt_sets}
    return {name: ", ".join(_settings(settings)) for name, settings in drawn.items() if own}


def over(seeds: int) -> str:
    """What an interval of so many seeds is over, and what it therefore does not say."""
    return "over prompts and seeds" if seeds > 1 else "over prompts, which says nothing of training again"


def over_all(rows: Sequence[DifferenceRow]) -> str:
    """What the intervals of several comparisons are over."""
    kinds = {row.n_seeds > 1 for row in rows}
    if kinds == {True, False}:
        return f"{over(2)}, or, where a side has one model, {over(1)}"
    return over(2 if True in kinds else 1)


def _differences_note(against: Sequence[DifferenceRow], comparison: Comparison) -> str:
    if not against:
        return "Mean score over prompts; nothing is compared with a base."
    kinds = {row.n_seeds > 1 for row in against}
    reference, level = comparison.reference or "the untrained base", percent(comparison.statistics.confidence)
    # Of images from elsewhere nobody knows what they started from.
    noise = "" if comparison.reference else " and start noise"
    text = f"Mean score; below it the difference to {reference}, on the same prompts{noise}, ± half the "
    text += f"width of its {level} interval "
    text += over_all(against)
    marks = [mark for mark, kind in (("†", True), ("‡", False)) if kind in kinds]
    several = " (‡: over prompts alone)" if len(marks) > 1 else ""
    return f"{text}. {' or '.join(marks)} marks an interval that excludes no difference{several}."


def _detectable_note(rows: Sequence[DifferenceRow], comparison: Comparison) -> str:
    """The least difference that these seeds and prompts would mostly decide."""
    found = {
        scorer: [
            row.detectable
            for row in rows
            if row.scorer == scorer and row.prompt_set == POOLED and math.isfinite(row.detectable)
        ]
        for scorer in comparison.judges
    }
    listed = ", ".join(f"{scorer} {statistics.median(values):.2g}" for scorer, values in found.items() if values)
    over_sets = "all prompt sets pooled, " if len(comparison.pooled) > 1 else ""
    return (
        f"True differences of this size are decided in {percent(POWER)} of such comparisons, smaller ones less often: "
        f"{listed} ({over_sets}median over the comparisons; differences.csv has each)."
        if listed
        else ""
    )


def _safeguard_note(trained: Mapping[str, Mapping[str, Any]]) -> str:
    """Slack and granularity: the safeguard is another one with each."""
    settings: dict[str, list[str]] = {}
    for variant, found in trained.items():
        if found["safeguard"]:
            settings.setdefault(in_words(found["safeguard"]), []).append(variant)
    return "Safeguard: " + "; ".join(f"{how} ({', '.join(v)})" for how, v in settings.items()) + "." if settings else ""


def _labels_note(trained: Mapping[str, Mapping[str, Any]]) -> str:
    """Which variants were trained on labels that were turned round on purpose."""
    shares: dict[float, list[str]] = {}
    for variant, found in trained.items():
        if "flipped" in found:
            shares.setdefault(found["flipped"], []).append(variant)
    listed = "; ".join(f"{share:g} of the training pairs ({', '.join(v)})" for share, v in shares.items())
    return f"Labels turned round on purpose: {listed}." if listed else ""


def _prompts(prompts: Mapping[str, int], against: Sequence[DifferenceRow]) -> str:
    texts = {row.prompt_set: row.n_texts for row in against}
    return ", ".join(
        f"{name} {count}" + (f" ({texts[name]} different texts, each a unit)" if texts.get(name, count) < count else "")
        for name, count in prompts.items()
    )


def _trained_prompts_note(prompts: Mapping[str, int], trained: Mapping[str, Mapping[str, Any]]) -> str:
    """How many of the prompts the trainings saw too, by what they were trained on."""
    counts = {found["pairs"]: found["trained_prompts"] for found in trained.values() if "trained_prompts" in found}
    listed = [
        ", ".join(f"{name} {seen} of {prompts[name]}" for name, seen in by_set.items() if seen) + f" ({pairs})"
        for pairs, by_set in counts.items()
        if any(by_set.values())
    ]
    if listed:
        return f"Prompts that a training saw too, by its pairs: {'; '.join(listed)}."
    return f"None of the prompts is among those that were trained on ({', '.join(counts)})." if counts else ""


def _few_seeds_note(seeds: int, confidence: float) -> str:
    """How wide an interval must be with so few seeds."""
    from scipy.special import stdtrit

    if not 1 < seeds < FEW_SEEDS:
        return ""
    widths = {count: float(stdtrit(count - 1, (1 + confidence) / 2)) / count**0.5 for count in (seeds, FEW_SEEDS, 10)}
    return (
        f"With fewer than {FEW_SEEDS} seeds little is decided: where seeds matter, half an interval is "
        f"{widths[seeds]:.1f} standard deviations of the seeds' means at {seeds} seeds, {widths[FEW_SEEDS]:.1f} at "
        f"{FEW_SEEDS} and {widths[10]:.1f} at 10."
    )


def _truncation_note(cut: Mapping[tuple[str, str], int], prompts: Mapping[str, int]) -> str:
    """Says how many prompts of each set a scorer read only the beginning of."""
    listed = [f"{scorer} {count} of {prompts[name]} of {name}" for (name, scorer), count in cut.items() if count]
    if not listed:
        return "No prompt is longer than any scorer reads."
    return "Prompts of which a scorer read only the beginning: " + ", ".join(listed) + "."


def _direction_note(comparison: Comparison) -> str:
    lower = [name for name in comparison.judges if name in comparison.lower_is_better]
    if lower:
        return f"Higher is better, lower for {', '.join(lower)}."
    return (
        "Higher is better for every scorer."
        if len(comparison.judges) == len(comparison.scorers)
        else ("Higher is better.")
    )


def _seed_note(seeds: Mapping[str, int]) -> str:
    if not seeds:
        return "No model was trained here."
    if len(set(seeds.values())) == 1:
        return f"Seeds a trained variant: {next(iter(seeds.values()))}."
    return "Seeds: " + ", ".join(f"{variant} {count}" for variant, count in seeds.items()) + "."


def _settings(values: Mapping[str, Any], prefix: str = "") -> list[str]:
    listed = []
    for key, value in values.items():
        # What is left to the base has no value to be told.
        if value is not None:
            listed += _settings(value, f"{prefix}{key}.") if isinstance(value, Mapping) else [f"{prefix}{key} {value}"]
    return listed
