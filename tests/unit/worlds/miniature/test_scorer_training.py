from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from evals import scorers
from worlds.miniature import oracle
from worlds.miniature.pairs_renders import labels
from worlds.miniature.preferences import training_preferences
from worlds.miniature.rendering import degrade, render, to_uint8
from worlds.miniature.scenes import contradicted, is_training, parse, training_scene
from worlds.miniature.scorer_data import ScorerData, every_pair
from worlds.miniature.scorer_training import ScorerRecipe, train_all

PROMPTS, HELDOUT = 300, 100
BRIEF = ScorerRecipe(
    captioned=400, renders=200, contrastive_steps=20, preference_steps=60, reward_steps=80, head_steps=40, batch_size=32
)


@pytest.fixture(scope="module")
def data() -> ScorerData:
    """Each prompt with a clean picture, a degraded one, and a contradicting and degraded one; no base."""
    rng = np.random.default_rng(0)
    scenes = [training_scene(rng, two_objects=0) for _ in range(PROMPTS)]
    wrong = [contradicted(scene, rng) for scene in scenes]
    columns = [
        to_uint8(render(scenes, rng)),
        to_uint8(degrade(render(scenes, rng), rng, probability=0.5)),
        to_uint8(degrade(render(wrong, rng), rng, probability=0.7)),
    ]
    verdicts = [oracle.judge(pictures, scenes) for pictures in columns]
    scores = np.array([[v.score for v in column] for column in verdicts]).T
    pairs = np.array([(p, *rng.permutation(3)[:2]) for p in range(PROMPTS) for _ in range(3)])
    first, second = (scores[pairs[:, 0], pairs[:, side]] for side in (1, 2))
    drawn = labels(first, second, rng, temperature=0.05, tie_below=0.03)
    return ScorerData(
        scenes=scenes,
        pictures=np.stack(columns, axis=1),
        scores=scores,
        cleanness=np.array([[v.cleanness for v in column] for column in verdicts]).T,
        pairs=pairs,
        labels=np.array(drawn),
        first_heldout=PROMPTS - HELDOUT,
    )


@pytest.fixture(scope="module")
def trained(data: ScorerData, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("trained")
    train_all(data, folder, BRIEF, only=["imagereward", "pickscore"])
    return folder


def agreement(data: ScorerData, name: str, folder: Path) -> float:
    """Share of held-out pairs that the production scorer ranks as the oracle does."""
    pairs = data.heldout_pairs()
    scorer = scorers.create(name, weights=folder / name)
    captions = [data.captions[p] for p in pairs[:, 0]]

    def rate(side: int) -> np.ndarray:
        return scorer.score([Image.fromarray(p) for p in data.pictures[pairs[:, 0], pairs[:, side]]], captions)

    truth = data.scores[pairs[:, 0], pairs[:, 1]] > data.scores[pairs[:, 0], pairs[:, 2]]
    return float(((rate(1) > rate(2)) == truth).mean())


@pytest.mark.slow
@pytest.mark.parametrize("name", ["imagereward", "pickscore"])
def test_brief_training_agrees_with_the_oracle_on_pairs_it_has_not_seen(
    data: ScorerData, trained: Path, name: str
) -> None:
    assert agreement(data, name, trained) > 0.75


@pytest.mark.slow
@pytest.mark.parametrize("name", ["imagereward", "pickscore", "aesthetic"])
def test_folders_are_read_by_the_scorers_of_the_benchmark(trained: Path, data: ScorerData, name: str) -> None:
    scorer = scorers.create(name, weights=trained / name)
    images = [Image.fromarray(picture) for picture in data.pictures[0]]
    scores = scorer.score(images, [data.captions[0]] * 3)
    assert scores.shape == (3,)
    assert np.isfinite(scores).all()
    assert len(set(scores.tolist())) == 3
    again = scorers.create(name, weights=trained / name)
    assert again.fingerprint == scorer.fingerprint
    assert np.array_equal(again.score(images, [data.captions[0]] * 3), scores)


@pytest.mark.slow
def test_fingerprints_tell_trainings_apart(data: ScorerData, tmp_path: Path) -> None:
    def prints(folder: str, recipe: ScorerRecipe, only: Sequence[str]) -> dict[str, str]:
        train_all(data, tmp_path / folder, recipe, only=only)
        found = sorted(path.name for path in (tmp_path / folder).iterdir())
        return {name: scorers.create(name, weights=tmp_path / folder / name).fingerprint for name in found}

    brief = {
        "captioned": 20,
        "renders": 20,
        "contrastive_steps": 2,
        "preference_steps": 2,
        "reward_steps": 2,
        "head_steps": 2,
    }
    shortest = ScorerRecipe(**brief, batch_size=8)
    other = ScorerRecipe(1, **brief, batch_size=8)
    first = prints("first", shortest, ["imagereward", "clip"])
    assert sorted(first) == ["clip", "hpsv2", "imagereward"]
    assert len(set(first.values())) == 3
    assert prints("again", shortest, ["imagereward", "clip"]) == first
    changed = prints("changed", other, ["imagereward", "clip"])
    assert all(changed[name] != first[name] for name in first)


def test_heldout_prompts_are_not_trained_on_and_ties_not_judged(data: ScorerData) -> None:
    pairs, drawn = data.training_pairs()
    assert pairs[:, 0].max() < PROMPTS - HELDOUT
    assert len(pairs) == len(drawn) == 3 * (PROMPTS - HELDOUT)
    heldout = data.heldout_pairs()
    assert heldout[:, 0].min() >= PROMPTS - HELDOUT
    gap = data.scores[heldout[:, 0], heldout[:, 1]] - data.scores[heldout[:, 0], heldout[:, 2]]
    assert abs(gap).min() >= 0.03


def test_data_comes_back_from_its_file(data: ScorerData, tmp_path: Path) -> None:
    data.save(tmp_path / "data.npz")
    read = ScorerData.load(tmp_path / "data.npz")
    assert read.scenes == data.scenes
    assert read.first_heldout == data.first_heldout
    for name in ("pictures", "scores", "cleanness", "pairs", "labels"):
        assert np.array_equal(getattr(read, name), getattr(data, name)), name
        assert getattr(read, name).dtype == getattr(data, name).dtype


def test_pairs_are_all_there_are_each_once() -> None:
    pairs = every_pair(50, 4, np.random.default_rng(0))
    assert sorted((p, *sorted(both)) for p, *both in pairs.tolist()) == [
        (p, i, j) for p in range(50) for i in range(4) for j in range(i + 1, 4)
    ]
    # In either order, so that the first is not always the one of a better kind.
    assert 0.4 < (pairs[:, 1] < pairs[:, 2]).mean() < 0.6


def test_preferences_join_the_training_pairs_and_new_renders_under_their_own_captions(data: ScorerData) -> None:
    joined = training_preferences(data, renders=150, seed=0)
    pairs, drawn = data.training_pairs()
    prompts = PROMPTS - HELDOUT
    assert len(joined.pairs) == len(joined.labels) == len(pairs) + 150
    for row in (0, len(pairs) - 1):
        prompt, first, second = pairs[row]
        caption, one, two = joined.pairs[row]
        assert joined.captions[caption] == data.captions[prompt] and joined.labels[row] == drawn[row]
        assert np.array_equal(joined.pictures[one], data.pictures[prompt, first])
        assert np.array_equal(joined.pictures[two], data.pictures[prompt, second])

    new = joined.pairs[len(pairs) :]
    assert sorted(new[:, 0].tolist()) == list(range(prompts, prompts + 150))
    scenes = [parse(joined.captions[caption]) for caption in new[:, 0]]
    assert all(is_training(scene) for scene in scenes)
    one, two = ([v.score for v in oracle.judge(joined.pictures[new[:, side]], scenes)] for side in (1, 2))
    gap, label = np.array(one) - np.array(two), joined.labels[len(pairs) :]
    assert np.array_equal(label == 0.5, abs(gap) < 0.05)
    clear = abs(gap) > 0.2
    assert clear.sum() > 30 and np.array_equal(label[clear] == 1, gap[clear] > 0)

    decided = joined.without_ties()
    assert len(decided.pairs) == len(decided.labels) == (joined.labels != 0.5).sum() < len(joined.pairs)
    assert set(decided.labels.tolist()) == {0.0, 1.0}
