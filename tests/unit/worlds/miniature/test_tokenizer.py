from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from transformers import CLIPTokenizer

from worlds.miniature import tokenizer
from worlds.miniature.scenes import COLOURS, RELATIONS, random_scene


@pytest.fixture(scope="module")
def words() -> CLIPTokenizer:
    return tokenizer.build()


def test_every_word_of_the_world_is_one_token_of_its_own(words: CLIPTokenizer) -> None:
    ids = [words(word).input_ids for word in tokenizer.words()]
    assert all(len(found) == 3 for found in ids)
    assert len({found[1] for found in ids}) == len(tokenizer.words())
    assert {"red", "left", "of", "background", "a", "on"} <= set(tokenizer.words())


def test_special_tokens_are_the_last(words: CLIPTokenizer) -> None:
    start, *_, end = words("a red circle").input_ids
    assert (start, end) == (len(words) - 2, len(words) - 1)
    assert words.pad_token_id == end


def test_captions_fit_with_one_token_a_word(words: CLIPTokenizer) -> None:
    rng = np.random.default_rng(0)
    captions = [random_scene(rng, two_objects=0.7).caption for _ in range(200)]
    lengths = [len(words(caption).input_ids) for caption in captions]
    assert lengths == [len(caption.split()) + 2 for caption in captions]
    assert max(lengths) == 16
    assert {len(r) for r in words(captions, padding="max_length", truncation=True).input_ids} == {20}


def test_other_words_are_spelt_and_told_apart(words: CLIPTokenizer) -> None:
    ids = [tuple(words(text).input_ids) for text in ("zebra", "zebras", "redder", "λ", *COLOURS, *RELATIONS)]
    assert len(set(ids)) == len(ids)
    assert words.decode(words("zebra", add_special_tokens=False).input_ids).strip() == "zebra"


def test_written_tokenizer_reads_the_same(words: CLIPTokenizer, tmp_path: Path) -> None:
    words.save_pretrained(str(tmp_path))
    text = "a small red circle left of a large λ square on a blue background"
    assert CLIPTokenizer.from_pretrained(tmp_path)(text).input_ids == words(text).input_ids
