from __future__ import annotations

from collections.abc import Sequence

import torch

from evals.networks.prompt_encodings import PromptEncodings


class Letters:
    """Encodes a prompt by its length and first letter, and records what it was asked."""

    def __init__(self) -> None:
        self.asked: list[list[str]] = []

    def __call__(self, prompts: Sequence[str]) -> torch.Tensor:
        self.asked.append(list(prompts))
        return torch.tensor([[len(prompt), ord(prompt[0])] for prompt in prompts], dtype=torch.float32)


def test_each_prompt_is_encoded_once_and_comes_back_in_order() -> None:
    letters = Letters()
    encodings = PromptEncodings(letters)
    assert encodings(["b", "aa", "b"]).tolist() == [[1, 98], [2, 97], [1, 98]]
    assert encodings(["aa", "c"]).tolist() == [[2, 97], [1, 99]]
    assert letters.asked == [["b", "aa"], ["c"]]


def test_memory_is_bounded_even_if_one_batch_has_more_prompts() -> None:
    letters = Letters()
    encodings = PromptEncodings(letters, capacity=2)
    assert encodings(["a", "bb", "ccc"]).tolist() == [[1, 97], [2, 98], [3, 99]]
    encodings(["bb", "ccc"])
    encodings(["a"])
    assert letters.asked == [["a", "bb", "ccc"], ["a"]]
