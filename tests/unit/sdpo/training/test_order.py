"""The order of the pairs: shuffled epochs, and micro-batches of one shape filled from them."""

from __future__ import annotations

from collections import Counter

import pytest
import torch

from artifacts.random_streams import stream
from sdpo.training.order import Order


def shuffled(count: int, seed: int, epoch: int) -> list[int]:
    found: list[int] = torch.randperm(count, generator=stream(1, seed, epoch)).tolist()
    return found


def of_one_shape(count: int, size: int = 1, seed: int = 3) -> Order:
    return Order(torch.zeros(count, dtype=torch.int64), size, seed)


@pytest.mark.parametrize("size", [1, 3, 4, 7, 64])
@pytest.mark.parametrize(("count", "batch"), [(10, 4), (3, 9), (7, 5), (13, 26), (1, 2)])
def test_of_one_shape_it_is_the_epochs_without_a_gap(count: int, batch: int, size: int) -> None:
    """Whatever passes at once, and whether or not that divides a step."""
    found = [row for step in range(1, 9) for row in of_one_shape(count, size).rows(batch, step).tolist()]
    assert found == [row for epoch in range(8 * batch) for row in shuffled(count, 3, epoch)][: 8 * batch]


def test_every_epoch_shows_each_pair_once() -> None:
    seen = [index for step in range(1, 6) for index in of_one_shape(10).rows(4, step).tolist()]
    assert sorted(seen[:10]) == list(range(10))
    assert sorted(seen[10:]) == list(range(10))
    assert seen[:10] != seen[10:]
    assert seen != [index for step in range(1, 6) for index in of_one_shape(10, seed=4).rows(4, step).tolist()]


def test_batch_larger_than_the_data_repeats_it_evenly() -> None:
    assert Counter(of_one_shape(3).rows(9, 2).tolist()) == {0: 3, 1: 3, 2: 3}


@pytest.mark.parametrize(
    ("counts", "size"), [((20, 15, 5), 4), ((6, 5), 5), ((4, 1), 7), ((9, 1, 1, 30), 8), ((0, 6, 7), 3), ((2, 2), 1)]
)
def test_buckets_are_filled_in_the_order_of_the_epochs_and_emptied_when_full(
    counts: tuple[int, ...], size: int
) -> None:
    """Also of shapes of which an epoch has fewer pairs than a micro-batch, or none; each step is found by itself."""
    shapes = torch.arange(len(counts)).repeat_interleave(torch.tensor(counts))
    shapes = shapes[torch.randperm(len(shapes), generator=torch.Generator().manual_seed(0))]
    buckets: list[list[int]] = [[] for _ in counts]
    expected: list[list[int]] = []
    for epoch in range(40):
        for row in shuffled(len(shapes), 9, epoch):
            bucket = buckets[int(shapes[row])]
            bucket.append(row)
            if len(bucket) == size:
                expected.append([*bucket])
                bucket.clear()
    order, steps = Order(shapes, size, 9), len(expected) // 2
    for step in [*range(1, steps + 1), 1, steps // 2]:
        assert order.rows(2 * size, step).tolist() == expected[2 * step - 2] + expected[2 * step - 1]
    for micro_batch in expected:
        assert len(set(shapes[micro_batch].tolist())) == 1
