from __future__ import annotations

import torch

from artifacts.random_streams import stream


def test_streams_differ_by_every_part_of_their_key() -> None:
    keys = [(2, 0, 1), (2, 1, 0), (1, 0, 1), (2, 0, 2), (3, 0), (3, 1)]
    draws = [tuple(torch.rand(3, generator=stream(*key)).tolist()) for key in keys]
    assert len(set(draws)) == len(keys)


def test_a_key_gives_the_same_seed_for_ever() -> None:
    """Trained models are reproduced from it."""
    assert stream(2, 0, 1).initial_seed() == 7989824608418557950
