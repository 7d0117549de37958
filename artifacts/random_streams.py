"""Seeds for whatever is random: a generator for each tuple of integers, so that nothing depends on what ran before."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import torch


def stream(*key: int) -> torch.Generator:
    """A CPU generator seeded from a tuple of integers, independent of all other tuples of its length.

    NumPy pads with zeros: ``(8,)`` and ``(8, 0)`` are one seed. So keys of one domain have one length.
    """
    import torch

    words = np.random.SeedSequence(key).generate_state(2, np.uint32)
    return torch.Generator().manual_seed((int(words[0]) << 31) ^ int(words[1]))
