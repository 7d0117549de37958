from __future__ import annotations

import contextlib
import itertools
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from artifacts.errors import InputError
from worlds.miniature.scenes import (
    COLOURS,
    RELATIONS,
    SHAPES,
    SIZES,
    Scene,
    Thing,
    contradicted,
    is_heldout,
    is_reserved,
    is_training,
    is_validation,
    parse,
    random_scene,
    training_scene,
    validation_scene,
)

seeds = st.integers(0, 2**32 - 1)
things = st.builds(Thing, st.sampled_from(SIZES), st.sampled_from(list(COLOURS)), st.sampled_from(SHAPES))
backgrounds = st.sampled_from(list(COLOURS))
scenes = st.one_of(
    st.builds(lambda b, t: Scene(b, (t,)), backgrounds, things),
    st.builds(lambda b, t, u, r: Scene(b, (t, u), r), backgrounds, things, things, st.sampled_from(RELATIONS)),
)


def attributes(scene: Scene) -> list[str | None]:
    flat = [getattr(thing, name) for thing in scene.things for name in ("size", "colour", "shape")]
    return [scene.background, scene.relation, *flat]


def test_the_page_names_every_word() -> None:
    page = " ".join((Path(__file__).parents[4] / "docs/miniature.md").read_text(encoding="utf-8").split())
    for words in (COLOURS, SHAPES, SIZES, RELATIONS):
        assert f"({', '.join(words)})" in page


def test_caption_reads_as_a_sentence() -> None:
    scene = Scene("blue", (Thing("small", "red", "circle"), Thing("large", "green", "square")), "left of")
    assert scene.caption == "a small red circle left of a large green square on a blue background"


@given(scenes)
def test_caption_is_read_back(scene: Scene) -> None:
    assert parse(scene.caption) == scene


@pytest.mark.parametrize(
    "text",
    [
        "",
        "a photo of a cat",
        "a small red circle",
        "a small red circle on a pink background",
        "a tiny red circle on a blue background",
        "a small red circle on a blue table",
        "small red circle on a blue background",
        "the small red circle on a blue background",
        "a red circle on a blue background",
        "a small red circle near a large green square on a blue background",
        "a small red circle left of on a blue background",
        "a small red circle above a large red cross below a large green square on a blue background",
        "a small red circle on a blue background ",
        "A small red circle on a blue background",
    ],
)
def test_foreign_text_is_refused_and_quoted(text: str) -> None:
    with pytest.raises(InputError) as caught:
        parse(text)
    assert repr(text) in str(caught.value)


@given(st.text())
def test_any_text_is_read_or_refused(text: str) -> None:
    with contextlib.suppress(InputError):
        assert parse(text).caption == text


def test_training_shows_every_pair_of_a_colour_a_shape_and_a_background() -> None:
    shown = [
        (colour, shape, background)
        for colour, shape, background in itertools.product(COLOURS, SHAPES, COLOURS)
        if colour != background and not is_heldout(Scene(background, (Thing("small", colour, shape),)))
    ]
    assert {(c, s) for c, s, _ in shown} == set(itertools.product(COLOURS, SHAPES))
    assert {(s, b) for _, s, b in shown} == set(itertools.product(SHAPES, COLOURS))
    assert {(c, b) for c, _, b in shown} == {(c, b) for c, b in itertools.product(COLOURS, COLOURS) if c != b}
    # A fifth of all 8 x 7 x 4 combinations is held out, give or take the excluded diagonal.
    assert 0.15 < 1 - len(shown) / (8 * 7 * 4) < 0.25


def test_heldout_by_hand() -> None:
    # red is colour 0, circle shape 0; backgrounds: orange 1, white 7, blue 5.
    assert is_heldout(Scene("blue", (Thing("large", "red", "circle"),)))  # 0 + 0 + 15
    assert not is_heldout(Scene("orange", (Thing("large", "red", "circle"),)))  # 0 + 0 + 3
    assert is_heldout(Scene("orange", (Thing("small", "red", "square"),)))  # 0 + 2 + 3
    two = (Thing("large", "red", "circle"), Thing("small", "red", "square"))
    assert is_heldout(Scene("orange", two, "above"))


def test_reserved_scenes_have_two_objects_and_are_about_an_eighth() -> None:
    rng = np.random.default_rng(0)
    one = [random_scene(rng, two_objects=0) for _ in range(300)]
    two = [random_scene(rng, two_objects=1) for _ in range(3000)]
    assert not any(map(is_reserved, one))
    assert abs(np.mean([is_reserved(scene) for scene in two]) - 1 / 8) < 0.025


@given(seeds)
def test_random_scene_keeps_the_rules(seed: int) -> None:
    scene = random_scene(np.random.default_rng(seed))
    assert scene.background not in [thing.colour for thing in scene.things]
    assert (scene.relation is None) == (len(scene.things) == 1)
    assert len({(thing.colour, thing.shape) for thing in scene.things}) == len(scene.things)


def test_random_scene_has_the_asked_share_of_two_objects() -> None:
    rng = np.random.default_rng(1)
    share = np.mean([len(random_scene(rng, two_objects=0.3).things) == 2 for _ in range(4000)])
    assert abs(share - 0.3) < 0.025


@given(seeds)
def test_training_and_validation_scenes_keep_their_sides(seed: int) -> None:
    rng = np.random.default_rng(seed)
    for scene, validation in ((training_scene(rng), False), (validation_scene(rng), True)):
        assert not is_heldout(scene)
        assert not is_reserved(scene)
        assert is_validation(scene) is validation
        assert is_training(scene) is not validation


def test_a_tenth_of_the_captions_that_training_could_show_is_kept_for_validation() -> None:
    rng = np.random.default_rng(0)
    for two_objects in (0.0, 1.0):
        scenes = {random_scene(rng, two_objects=two_objects) for _ in range(6000)}
        shares = [is_validation(scene) for scene in scenes if not is_heldout(scene) and not is_reserved(scene)]
        assert abs(np.mean(shares) - 26 / 256) < 4 * np.sqrt(0.1 * 0.9 / len(shares))


@given(seeds)
def test_contradiction_changes_one_attribute_and_hides_nothing(seed: int) -> None:
    rng = np.random.default_rng(seed)
    scene = random_scene(rng)
    changed = contradicted(scene, rng)
    assert sum(a != b for a, b in zip(attributes(scene), attributes(changed), strict=True)) == 1
    assert changed.background not in [thing.colour for thing in changed.things]
    assert parse(changed.caption) == changed


def test_every_kind_of_contradiction_occurs() -> None:
    rng = np.random.default_rng(2)
    kinds = set()
    for _ in range(300):
        scene = random_scene(rng, two_objects=1)
        differs = [a != b for a, b in zip(attributes(scene), attributes(contradicted(scene, rng)), strict=True)]
        kinds.add(differs.index(True))
    assert kinds == set(range(8))
