from __future__ import annotations

import pytest

from worlds.miniature import prompts_heldout, prompts_relations, prompts_seen
from worlds.miniature.scenes import is_heldout, is_reserved, is_validation, parse

SOURCES = {"seen": prompts_seen, "heldout": prompts_heldout, "relations": prompts_relations}


@pytest.fixture(scope="module")
def captions() -> dict[str, list[str]]:
    return {name: [prompt.text for prompt in source.read({})] for name, source in SOURCES.items()}


def test_sets_are_fixed_full_and_without_repetition(captions: dict[str, list[str]]) -> None:
    for name, source in SOURCES.items():
        assert [prompt.text for prompt in source.read({})] == captions[name]
        assert len(set(captions[name])) == len(captions[name]) == 1000


def test_sets_do_not_meet(captions: dict[str, list[str]]) -> None:
    assert not set(captions["seen"]) & set(captions["heldout"])
    assert not set(captions["seen"]) & set(captions["relations"])
    assert not set(captions["heldout"]) & set(captions["relations"])


def test_each_set_keeps_its_side_of_the_split(captions: dict[str, list[str]]) -> None:
    for caption in captions["seen"]:
        assert not is_heldout(parse(caption))
        assert not is_reserved(parse(caption))
        assert not is_validation(parse(caption))
    assert all(is_heldout(parse(caption)) for caption in captions["heldout"])
    for caption in captions["relations"]:
        assert is_reserved(parse(caption))
        assert not is_heldout(parse(caption))


def test_category_is_the_number_of_objects() -> None:
    for source in SOURCES.values():
        for prompt in source.read({})[:100]:
            assert prompt.category == ("two objects" if parse(prompt.text).relation else "one object")
    assert {prompt.category for prompt in prompts_relations.read({})} == {"two objects"}
    assert {prompt.category for prompt in prompts_seen.read({})[:50]} == {"one object", "two objects"}
