from __future__ import annotations

import pytest

from evals.images.numbering import Numbering, file_name


def test_images_of_one_number_stand_together() -> None:
    numbering = Numbering(3, 2)
    assert [numbering.place(number) for number in range(numbering.total)] == [
        *[(0, 0), (1, 0), (2, 0)],
        *[(0, 1), (1, 1), (2, 1)],
    ]
    assert [numbering.file(number) for number in (1, 4)] == ["00001.png", "00001_1.png"]
    assert file_name(123_456, 10) == "123456_10.png"


def test_no_batch_holds_two_numbers_of_image() -> None:
    """Five prompts by twos: 2 + 2 + 1 for each number, as if there were no other."""
    numbering = Numbering(5, 3)
    assert [list(batch) for batch in numbering.batches(range(numbering.total), 2)] == [
        *[[0, 1], [2, 3], [4]],
        *[[5, 6], [7, 8], [9]],
        *[[10, 11], [12, 13], [14]],
    ]


@pytest.mark.parametrize(
    ("prompts", "images", "size", "jobs"), [(487, 4, 16, 8), (5, 3, 2, 4), (5, 3, 8, 7), (1, 1, 4, 3)]
)
def test_shares_are_whole_batches_of_one_job(prompts: int, images: int, size: int, jobs: int) -> None:
    numbering = Numbering(prompts, images)
    whole = list(numbering.batches(range(numbering.total), size))
    shares = [numbering.share(size, (index, jobs)) for index in range(jobs)]
    assert [batch for share in shares for batch in numbering.batches(share, size)] == whole
