from __future__ import annotations

import numpy as np
import pytest

from worlds.miniature import rendering
from worlds.miniature.rendering import RADIUS_PX, SLOTS, colour, degrade, faulty, masks, render, to_uint8
from worlds.miniature.scenes import (
    COLOURS,
    SHAPES,
    SIZES,
    Scene,
    Thing,
    is_heldout,
    is_reserved,
    random_scene,
    training_scene,
)


def scenes(count: int, seed: int = 0) -> list[Scene]:
    rng = np.random.default_rng(seed)
    return [random_scene(rng) for _ in range(count)]


def test_same_seed_draws_the_same_and_another_seed_another() -> None:
    drawn = [faulty(scenes(20), np.random.default_rng(seed), contradiction=0.5, degradation=0.5) for seed in (1, 1, 2)]
    assert np.array_equal(drawn[0], drawn[1])
    assert not np.array_equal(drawn[0], drawn[2])


def test_pictures_are_in_range() -> None:
    drawn = faulty(scenes(50), np.random.default_rng(0), contradiction=0.5, degradation=1.0)
    assert drawn.shape == (50, 32, 32, 3)
    assert drawn.dtype == np.float32
    assert drawn.min() >= 0
    assert drawn.max() <= 1


@pytest.mark.parametrize(("slot", "place"), [("whole", "whole"), ("left", "half"), ("bottom", "half")])
@pytest.mark.parametrize("size", SIZES)
def test_area_of_shapes_by_geometry(size: str, slot: str, place: str) -> None:
    r = RADIUS_PX[place][size]
    table = masks(slot)
    arm = 2 * 0.33 * r
    area = {
        "circle": np.pi * (0.95 * r) ** 2,
        "square": (2 * 0.96 * r) ** 2,
        "triangle": 0.56 * (1.8 * r) ** 2,
        "cross": 2 * arm * 2 * r - arm**2,
    }
    for index, shape in enumerate(SHAPES):
        of_kind = (table.shape == index) & (table.size == SIZES.index(size))
        found = table.coverage[of_kind].sum(1)
        # Nothing is cut off at the border, and antialiasing keeps the area.
        np.testing.assert_allclose(found, area[shape], rtol=0.12)
        assert np.ptp(found) < 1e-3


def test_colours_of_background_and_object_are_exact() -> None:
    picture = render([Scene("yellow", (Thing("large", "purple", "square"),))], np.random.default_rng(0))[0]
    np.testing.assert_allclose(picture[0, 0], np.array(COLOURS["yellow"]) / 255, atol=1e-6)
    found = {tuple(pixel) for pixel in to_uint8(picture).reshape(-1, 3).tolist()}
    assert {COLOURS["yellow"], COLOURS["purple"]} <= found


@pytest.mark.parametrize(("relation", "axis", "sign"), [("left of", 1, 1), ("right of", 1, -1), ("above", 0, 1)])
def test_first_object_stands_where_the_relation_says(relation: str, axis: int, sign: int) -> None:
    scene = Scene("white", (Thing("small", "red", "circle"), Thing("small", "blue", "circle")), relation)
    picture = render([scene], np.random.default_rng(0))[0]
    centre = [np.argwhere(abs(picture - colour(name)).sum(-1) < 0.01)[:, axis].mean() for name in ("red", "blue")]
    assert sign * (centre[1] - centre[0]) > 8


def test_positions_vary_within_the_slot() -> None:
    scene = Scene("white", (Thing("small", "red", "square"),))
    pictures = render([scene] * 200, np.random.default_rng(0))
    assert len({picture.tobytes() for picture in pictures}) == 9
    assert SLOTS["whole"][0] == tuple(range(13, 20))


def test_degradation_has_the_given_probability_and_keeps_its_input() -> None:
    clean = render(scenes(400), np.random.default_rng(0))
    kept = clean.copy()
    assert np.array_equal(degrade(clean, np.random.default_rng(1), probability=0), clean)
    touched = degrade(clean, np.random.default_rng(1), probability=0.2)
    share = (touched != clean).any((1, 2, 3)).mean()
    assert abs(share - (1 - 0.8**4)) < 0.06
    assert np.array_equal(clean, kept)


def test_bytes_are_rounded() -> None:
    values = np.array([0, 0.4 / 255, 0.6 / 255, 254.6 / 255, 1, 1.2, -0.2], dtype=np.float32)
    assert to_uint8(values).tolist() == [0, 0, 1, 255, 255, 255, 0]


def test_faulty_pictures_of_training_show_nothing_that_is_kept_from_it(monkeypatch: pytest.MonkeyPatch) -> None:
    rng, shown = np.random.default_rng(0), []
    asked = [training_scene(rng) for _ in range(400)]
    monkeypatch.setattr(rendering, "render", lambda scenes, rng: (shown.extend(scenes), render(scenes, rng))[1])
    faulty(asked, rng, contradiction=1.0, degradation=0.0)
    assert not any(is_heldout(scene) or is_reserved(scene) for scene in shown)
    assert all(a != b for a, b in zip(shown, asked, strict=True))
