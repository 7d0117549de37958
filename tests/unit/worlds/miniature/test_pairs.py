from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from artifacts.errors import InputError
from worlds.miniature import oracle, pairs_renders, pairs_samples
from worlds.miniature.scenes import is_heldout, is_reserved, is_validation, parse


@pytest.mark.parametrize("gap", [0.05, 0.1, -0.05])
def test_labels_follow_bradley_terry(gap: float) -> None:
    count = 20_000
    drawn = pairs_renders.labels(
        np.full(count, 0.5 + gap), np.full(count, 0.5), np.random.default_rng(0), temperature=0.05, tie_below=0.03
    )
    # Four standard errors.
    assert abs(np.mean(drawn) - 1 / (1 + np.exp(-gap / 0.05))) < 4 * 0.5 / np.sqrt(count)
    assert set(drawn) == {0.0, 1.0}


def test_scores_close_together_tie() -> None:
    first = [0.5, 0.5, 0.5, 0.9]
    second = [0.5, 0.52, 0.48, 0.1]
    drawn = pairs_renders.labels(first, second, np.random.default_rng(0), temperature=0.05, tie_below=0.03)
    assert drawn == [0.5, 0.5, 0.5, 1.0]


def test_colder_annotators_are_surer() -> None:
    def share(temperature: float) -> float:
        rng = np.random.default_rng(0)
        drawn = pairs_renders.labels([0.6] * 5000, [0.5] * 5000, rng, temperature=temperature, tie_below=0)
        return float(np.mean(drawn))

    assert share(0.01) > 0.99 > share(0.1) > 0.68


def test_pairs_come_from_the_seed_and_the_last_are_held_out() -> None:
    options = {"pairs": 30, "heldout": 10, "seed": 3}
    first, again = (list(pairs_renders.read(options, base_path=Path())) for _ in range(2))
    other = list(pairs_renders.read({**options, "seed": 4}, base_path=Path()))
    assert [p.split for p in first] == ["train"] * 20 + ["heldout"] * 10
    assert [(p.prompt, p.label) for p in first] == [(p.prompt, p.label) for p in again]
    for mine, same in zip(first, again, strict=True):
        assert [image.tobytes() for image in mine.images] == [image.tobytes() for image in same.images]
    assert [p.prompt for p in first] != [p.prompt for p in other]
    assert any(p.images[0].tobytes() != p.images[1].tobytes() for p in first)
    for pair in first:
        assert not is_heldout(parse(pair.prompt))
        assert not is_reserved(parse(pair.prompt))
        assert is_validation(parse(pair.prompt)) is (pair.split == "heldout")


def test_winners_score_higher_and_ties_are_close() -> None:
    pairs = list(pairs_renders.read({"pairs": 300, "heldout": 1}, base_path=Path()))
    scenes = [parse(pair.prompt) for pair in pairs]
    first, second = (
        np.array([v.score for v in oracle.judge(np.stack([np.asarray(p.images[i]) for p in pairs]), scenes)])
        for i in (0, 1)
    )
    label = np.array([pair.label for pair in pairs])
    assert np.array_equal(label == 0.5, abs(first - second) < 0.03)
    assert (first - second)[label == 1].mean() > 0.1
    assert (first - second)[label == 0].mean() < -0.1


@pytest.mark.parametrize("source", [pairs_renders, pairs_samples])
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"pair": 3}, "pair: unknown key.*did you mean 'pairs'"),
        ({"pairs": "many"}, 'pairs = "many": expected an integer'),
        ({"pairs": 0}, "pairs = 0: expected a number of at least 1"),
        ({"seed": True}, "seed = true"),
        ({"pairs": 3, "heldout": 3}, "heldout is 3; expected less than pairs, 3"),
        ({"temperature": 0}, "temperature = 0: expected a number greater than 0"),
    ],
)
def test_bad_options_are_named(source: object, options: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        next(source.read(options, base_path=Path()))  # type: ignore[attr-defined]
