from __future__ import annotations

import itertools
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from artifacts.errors import InputError
from evals.cli import main
from evals.scorers import check_prompts
from worlds.miniature import oracle, oracle_scorer
from worlds.miniature.rendering import SLOTS, colour, degrade, masks, render, to_uint8
from worlds.miniature.scenes import COLOURS, RELATIONS, SHAPES, SIZES, Scene, Thing, contradicted, random_scene


def judged(scene: Scene, asked: Scene, seed: int = 0) -> oracle.Judgement:
    return oracle.judge(to_uint8(render([scene], np.random.default_rng(seed))), [asked])[0]


TWO = Scene("blue", (Thing("small", "red", "circle"), Thing("large", "green", "square")), "left of")


def test_every_clean_picture_of_one_object_is_read_perfectly() -> None:
    scenes = [
        Scene(background, (Thing(size, name, shape),))
        for size, name, shape in itertools.product(SIZES, COLOURS, SHAPES)
        for background in ("white", "blue")
        if background != name
    ]
    verdicts = oracle.judge(to_uint8(render(scenes, np.random.default_rng(0))), scenes)
    for scene, verdict in zip(scenes, verdicts, strict=True):
        assert verdict.faithfulness == 1, scene
        assert verdict.cleanness > 0.99, scene
        assert set(verdict.attributes) == {"count", "background", "colour1", "shape1", "size1"}


def test_clean_pictures_of_two_objects_are_read_perfectly_in_every_relation() -> None:
    rng = np.random.default_rng(1)
    scenes = [replace(random_scene(rng, two_objects=1), relation=relation) for relation in RELATIONS for _ in range(20)]
    for scene, verdict in zip(scenes, oracle.judge(to_uint8(render(scenes, rng)), scenes), strict=True):
        assert verdict.faithfulness == 1, scene
        assert verdict.cleanness > 0.99, scene
        assert len(verdict.attributes) == 9


@pytest.mark.parametrize(
    ("drawn", "wrong"),
    [
        (replace(TWO, things=(Thing("small", "orange", "circle"), TWO.things[1])), {"colour1"}),
        (replace(TWO, things=(TWO.things[0], Thing("large", "purple", "square"))), {"colour2"}),
        (replace(TWO, things=(Thing("large", "red", "circle"), TWO.things[1])), {"size1"}),
        (replace(TWO, things=(TWO.things[0], Thing("large", "green", "cross"))), {"shape2"}),
        (replace(TWO, background="cyan"), {"background"}),
    ],
)
def test_one_wrong_attribute_is_found_and_no_other(drawn: Scene, wrong: set[str]) -> None:
    verdict = judged(drawn, TWO)
    assert {name for name, right in verdict.attributes.items() if not right} == wrong
    assert verdict.faithfulness == pytest.approx(8 / 9)
    assert verdict.score == pytest.approx(0.6 * 8 / 9 + 0.4, abs=1e-3)


def test_swapped_relation_is_found() -> None:
    for relation, opposite in (("left of", "right of"), ("above", "below")):
        asked = replace(TWO, relation=relation)
        assert judged(asked, asked).attributes["relation"]
        assert not judged(replace(TWO, relation=opposite), asked).attributes["relation"]
        # The same picture, told from the other side.
        assert judged(asked, Scene("blue", TWO.things[::-1], opposite)).faithfulness == 1


def test_relation_of_the_other_axis_is_found() -> None:
    assert not judged(replace(TWO, relation="above"), TWO).attributes["relation"]


def test_missing_and_surplus_object_is_found() -> None:
    one = Scene("blue", TWO.things[:1])
    assert not judged(one, TWO).attributes["count"]
    assert not judged(TWO, one).attributes["count"]


def test_contradicted_pictures_are_never_fully_faithful() -> None:
    rng = np.random.default_rng(3)
    scenes = [random_scene(rng) for _ in range(150)]
    pictures = to_uint8(render([contradicted(scene, rng) for scene in scenes], rng))
    assert all(verdict.faithfulness < 1 for verdict in oracle.judge(pictures, scenes))


def test_degradation_lowers_cleanness_of_every_picture() -> None:
    rng = np.random.default_rng(4)
    scenes = [random_scene(rng) for _ in range(60)]
    clean = render(scenes, rng)
    before = oracle.judge(to_uint8(clean), scenes)
    after = oracle.judge(to_uint8(degrade(clean, rng, probability=1.0)), scenes)
    assert all(a.cleanness < b.cleanness - 0.05 for a, b in zip(after, before, strict=True))


def test_cleanness_of_a_known_residual() -> None:
    picture = np.tile((colour("blue") * 255).astype(np.uint8), (1, 32, 32, 1))
    # A plain picture holds no object: what the oracle must leave is the least visible one.
    reading = oracle.read(picture)[0]["one"]
    rms = np.sqrt(reading.squared_error / (32 * 32 * 3))
    verdict = oracle.judge(picture, [Scene(reading.background, reading.things)])[0]
    assert verdict.cleanness == pytest.approx(1 / (1 + (rms / 0.12) ** 2))
    assert verdict.faithfulness == 1


def test_error_of_readings_is_the_least_over_rendered_hypotheses() -> None:
    rng = np.random.default_rng(5)
    pictures = rng.integers(0, 256, (2, 32, 32, 3), dtype=np.uint8)
    pictures[1] = to_uint8(degrade(render([TWO], rng), rng, probability=1.0))[0]
    palette = {name: colour(name).astype(np.float64) for name in COLOURS}
    for picture, readings in zip(pictures, oracle.read(pictures), strict=True):
        x = picture.reshape(-1, 3) / 255
        for layout, slots in {"one": ("whole",), "vertical": ("top", "bottom")}.items():
            reading = readings[layout]
            background = palette[reading.background]
            # Redraw the reading at every position; the two slots do not overlap, so each is on its own.
            image_errors = []
            for slot, thing in zip(slots, reading.things, strict=True):
                table = masks(slot)
                kind = (table.shape == SHAPES.index(thing.shape)) & (table.size == SIZES.index(thing.size))
                cover = table.coverage[kind].astype(np.float64)[:, :, None]
                drawn = background * (1 - cover) + palette[thing.colour] * cover
                errors = ((drawn - x) ** 2).sum((1, 2)) - ((background - x) ** 2).sum()
                image_errors.append(errors.min())
            expected = ((background - x) ** 2).sum() + sum(image_errors)
            assert reading.squared_error == pytest.approx(expected, rel=1e-5)


def test_no_hypothesis_is_better_than_the_reading() -> None:
    rng = np.random.default_rng(6)
    picture = to_uint8(degrade(render([Scene("white", TWO.things[:1])], rng), rng, probability=1.0))
    reading = oracle.read(picture)[0]["one"]
    x = picture.reshape(-1, 3) / 255
    table = masks("whole")
    least = np.inf
    for background, name in itertools.permutations(COLOURS, 2):
        cover = table.coverage[::7, :, None].astype(np.float64)
        drawn = colour(background) * (1 - cover) + colour(name) * cover
        least = min(least, float(((drawn - x) ** 2).sum((1, 2)).min()))
    assert reading.squared_error <= least + 1e-4


def test_halves_do_not_overlap() -> None:
    for first, second in (("left", "right"), ("top", "bottom")):
        assert not (masks(first).coverage.max(0) * masks(second).coverage.max(0)).any()
    assert set(SLOTS) == {"whole", "left", "right", "top", "bottom"}


def test_verdict_does_not_depend_on_the_other_pictures() -> None:
    rng = np.random.default_rng(7)
    scenes = [random_scene(rng) for _ in range(70)]
    pictures = to_uint8(degrade(render(scenes, rng), rng, probability=0.5))
    together = oracle.judge(pictures, scenes)
    alone = [oracle.judge(pictures[i : i + 1], scenes[i : i + 1])[0] for i in (0, 63, 64, 69)]
    assert [together[i].attributes for i in (0, 63, 64, 69)] == [v.attributes for v in alone]
    assert [together[i].score for i in (0, 63, 64, 69)] == pytest.approx([v.score for v in alone], abs=1e-5)


def test_scorer_gives_the_judgement_of_the_caption() -> None:
    scorer = oracle_scorer.create(protocol="world", device="cpu")
    rng = np.random.default_rng(8)
    images = [Image.fromarray(picture) for picture in to_uint8(render([TWO, TWO], rng))]
    other = replace(TWO, background="cyan").caption
    scores = scorer.score(images, [TWO.caption, other])
    assert scores == pytest.approx([1, 0.6 * 8 / 9 + 0.4], abs=1e-3)


@pytest.mark.parametrize(
    ("size", "prompts", "message"),
    [
        ((32, 32), [TWO.caption] * 2, "1 images but 2 prompts"),
        ((64, 32), [TWO.caption], r"image is \(64, 32\), expected \(32, 32\)"),
        ((32, 32), ["a photo of a cat"], "not a caption of the miniature world: 'a photo of a cat'"),
    ],
)
def test_scorer_refuses_what_is_not_of_its_world(size: tuple[int, int], prompts: list[str], message: str) -> None:
    with pytest.raises(InputError, match=message):
        oracle_scorer.create().score([Image.new("RGB", size)], prompts)


def test_prompts_of_other_worlds_are_told_before_there_are_images() -> None:
    prompts = [TWO.caption, "a small black circle on a red background", "a cat", TWO.caption.upper(), "", "b"]
    assert [place for place, _ in oracle_scorer.unjudgeable(prompts)] == [1, 2, 3, 4, 5]
    check_prompts("oracle", [TWO.caption], "set", "x")
    check_prompts("blank", prompts, "set", "x")
    with pytest.raises(
        InputError,
        match=r"^set: scorer 'oracle' cannot judge 5 of 6 prompts, from 0: 1: 'a small black circle on a red "
        r"background' \(no caption of .*\); 2: 'a cat' \(.*\); 3: .*; …; do this$",
    ):
        check_prompts("oracle", prompts, "set", "do this")


def test_a_prompt_set_that_a_scorer_cannot_judge_is_not_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "own.txt").write_text(f"{TWO.caption}\na cat\n")
    out = tmp_path / "own.parquet"
    spec = {"prompt_set": "own", "source": "text_file", "limit": None, "options": {"path": str(tmp_path / "own.txt")}}
    asked = {**spec, "out": str(out), "judged_by": ["oracle"]}
    assert main(["prompts", "--spec", json.dumps(asked)]) == 2
    assert (
        "prompt set 'own': scorer 'oracle' cannot judge 1 of 2 prompts, from 0: 1: 'a cat'" in capsys.readouterr().err
    )
    assert not out.exists()
    assert main(["prompts", "--spec", json.dumps({**asked, "judged_by": ["blank"]})]) == 0
    assert out.exists()
