"""What is drawn at random in training: the order of pairs, noise, timesteps, and prompts that are emptied.

Everything random in step s of seed k is drawn from generators seeded with (k, s), and the order of the data
from (k, epoch): a resumed run needs no random state and is the same run to the last bit.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import torch

    from sdpo.bases import Base
    from sdpo.pairs.cache import PairTensors

# Domains of the random streams: two draws must never share a seed.
ORDER, STEP, HELDOUT, AUDIT = 1, 2, 3, 4


def stream(*key: int) -> torch.Generator:
    """A CPU generator seeded from a tuple of integers, independent of all other tuples."""
    import torch

    words = np.random.SeedSequence(key).generate_state(2, np.uint32)
    return torch.Generator().manual_seed((int(words[0]) << 31) ^ int(words[1]))


def chosen_pairs(count: int, batch_size: int, seed: int, step: int) -> list[int]:
    """Indices of the pairs of step ``step`` (from 1): epochs of shuffled pairs, cut into batches without a gap."""
    import torch

    first = (step - 1) * batch_size
    positions = range(first, first + batch_size)
    orders = {
        epoch: torch.randperm(count, generator=stream(ORDER, seed, epoch)).tolist()
        for epoch in {position // count for position in positions}
    }
    return [orders[position // count][position % count] for position in positions]


@dataclass(frozen=True)
class Drawn:
    """The pairs of a step, and what was drawn for them; all tensors (B, ...)."""

    winner: torch.Tensor
    loser: torch.Tensor
    noise: torch.Tensor
    timesteps: torch.Tensor
    conditions: torch.Tensor

    def __len__(self) -> int:
        return len(self.winner)

    def split(self, size: int) -> list[Drawn]:
        """Consecutive parts of ``size`` pairs, the last one perhaps shorter."""
        columns = [getattr(self, field.name).split(size) for field in fields(self)]
        return [Drawn(*part) for part in zip(*columns, strict=True)]


def draw(base: Base, pairs: PairTensors, *, batch_size: int, empty_prompt_share: float, seed: int, step: int) -> Drawn:
    """Everything random about step ``step`` (from 1) of seed ``seed``."""
    import torch

    rows = torch.tensor(chosen_pairs(len(pairs), batch_size, seed, step))
    random = stream(STEP, seed, step)
    # Both members of a pair share noise and timestep: only what differs between the images is compared.
    noise = torch.randn(pairs.winner[rows].shape, generator=random)
    timesteps = base.draw_timesteps(len(rows), random)
    empty = torch.rand(len(rows), generator=random) < empty_prompt_share
    conditions = torch.where(empty[:, None, None], pairs.empty, pairs.embeddings[pairs.prompt_index[rows]])
    return Drawn(pairs.winner[rows], pairs.loser[rows], noise, timesteps, conditions)
