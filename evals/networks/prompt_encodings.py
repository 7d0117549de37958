"""Text embeddings that are computed once a prompt: the images of all models on a prompt set share their prompts."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

# 64 MB of CLIP-H's embeddings; the largest prompt set of the benchmark has 3200 prompts.
CAPACITY = 16_384


class PromptEncodings:
    """Rows of ``encode``, remembered by prompt; the longest known are forgotten first.

    Args:
        encode: N different prompts to (N, D); must not depend on what else is encoded with them, beyond rounding.
        capacity: prompts kept between calls.
    """

    def __init__(self, encode: Callable[[Sequence[str]], torch.Tensor], capacity: int = CAPACITY) -> None:
        self._encode, self._capacity = encode, capacity
        self._rows: dict[str, torch.Tensor] = {}

    def __call__(self, prompts: Sequence[str]) -> torch.Tensor:
        """Encodings (N, D) of N prompts, some of which may be equal."""
        import torch

        if missing := [prompt for prompt in dict.fromkeys(prompts) if prompt not in self._rows]:
            # Cloned, so that a row does not keep the memory of its whole batch alive.
            self._rows.update({p: row.clone() for p, row in zip(missing, self._encode(missing), strict=True)})
        found = torch.stack([self._rows[prompt] for prompt in prompts])
        while len(self._rows) > self._capacity:
            del self._rows[next(iter(self._rows))]
        return found
