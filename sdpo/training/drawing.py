"""What is drawn at random in training: the order of pairs, noise, timesteps, and prompts that are emptied.

Everything random in step s of seed k is drawn from generators seeded with (k, s), and the order of the data
from (k, epoch): a resumed run needs no random state and is the same run to the last bit.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, TypeVar

from artifacts.random_streams import stream
from families.conditions import Conditions, moved, split
from sdpo.diffusion.timesteps import UNIFORM, TimestepSettings, drawn_timesteps

if TYPE_CHECKING:
    import torch

    from sdpo.bases import Base
    from sdpo.pairs.cache import Pairs

T = TypeVar("T")
# Domains of the random streams: two draws must never share a seed.
ORDER, STEP, HELDOUT, AUDIT, FLIP, POSTERIOR, LORA, SAMPLE = 1, 2, 3, 4, 5, 6, 7, 8


@lru_cache(maxsize=4)
def _order(count: int, seed: int, epoch: int) -> torch.Tensor:
    """Order of the pairs in an epoch, (count,)."""
    import torch

    return torch.randperm(count, generator=stream(ORDER, seed, epoch))


def chosen_pairs(count: int, batch_size: int, seed: int, step: int) -> list[int]:
    """Indices of the pairs of step ``step`` (from 1): epochs of shuffled pairs, cut into batches without a gap."""
    first = (step - 1) * batch_size
    return [int(_order(count, seed, p // count)[p % count]) for p in range(first, first + batch_size)]


@dataclass(frozen=True)
class Drawn:
    """The pairs of a step, and what was drawn for them; all tensors (B, ...).

    Attributes:
        rows: numbers of the pairs among those of the split.
        winner, loser: scaled latents, drawn from the posterior where there is one.
        noise, timesteps: shared by both members of a pair: only what differs between the images is compared.
        winner_conditions, loser_conditions: prompt and images; the tensors of the prompt are the same.
    """

    rows: torch.Tensor
    winner: torch.Tensor
    loser: torch.Tensor
    noise: torch.Tensor
    timesteps: torch.Tensor
    winner_conditions: Conditions
    loser_conditions: Conditions

    def __len__(self) -> int:
        return len(self.winner)

    def split(self, size: int) -> list[Drawn]:
        """Consecutive parts of ``size`` pairs, the last one perhaps shorter."""
        tensors = [x.split(size) for x in (self.rows, self.winner, self.loser, self.noise, self.timesteps)]
        conditions = [split(x, size) for x in (self.winner_conditions, self.loser_conditions)]
        return [Drawn(*part) for part in zip(*tensors, *conditions, strict=True)]

    def to(self, device: str) -> Drawn:
        """The same on another device; ``rows`` stay."""
        winner, loser, noise, timesteps = (x.to(device) for x in (self.winner, self.loser, self.noise, self.timesteps))
        conditions = [moved(x, device) for x in (self.winner_conditions, self.loser_conditions)]
        return Drawn(self.rows, winner, loser, noise, timesteps, conditions[0], conditions[1])


def draw(
    base: Base,
    pairs: Pairs,
    *,
    batch_size: int,
    empty_prompt_share: float,
    seed: int,
    step: int,
    part: range | None = None,
    density: TimestepSettings = UNIFORM,
) -> Drawn:
    """Everything random about step ``step`` (from 1) of seed ``seed``.

    Args:
        base: draws timesteps, and makes conditions of images.
        pairs: of the training split.
        batch_size: pairs of the step.
        empty_prompt_share: probability of a pair to get the empty prompt.
        seed, step: of the run.
        part: places of the step's pairs that are wanted, consecutive; all by default. Every pair gets what it would
            get in the whole step.
        density: of the timesteps.
    """
    import torch

    part = range(batch_size) if part is None else part
    own = slice(part.start, part.stop)
    rows = torch.tensor(chosen_pairs(len(pairs), batch_size, seed, step))[own]
    random = stream(STEP, seed, step)
    # Copied, or the noise of the whole step would stay in memory with it.
    noise = torch.randn((batch_size, *pairs.latent_shape), generator=random)[own].clone()
    timesteps = drawn_timesteps(base, batch_size, random, density)[own]
    empty = (torch.rand(batch_size, generator=random) < empty_prompt_share)[own]
    # The members of a pair are mirrored independently, as in the published code (two calls of its transform).
    mirrored = (
        list((torch.rand(2, batch_size, generator=stream(FLIP, seed, step)) < 0.5)[:, own])
        if pairs.flips
        else [None, None]
    )
    posterior = stream(POSTERIOR, seed, step)
    sides = pairs.winners(rows, mirrored[0]), pairs.losers(rows, mirrored[1])
    latents = [side.latents.sampled(posterior, of=batch_size, first=part.start) for side in sides]
    prompts = pairs.prompts(rows, empty)
    conditions = [{**prompts, **base.image_conditions(side.sizes)} for side in sides]
    return Drawn(rows, latents[0], latents[1], noise, timesteps, conditions[0], conditions[1])


def prefetched(draw: Callable[[int], T], steps: Iterable[int], *, ahead: bool) -> Iterator[T]:
    """``draw(step)`` for each step in order.

    Args:
        draw: depends on the step alone, so that it does not matter when it is called.
        steps: numbers of steps.
        ahead: draw one step ahead in a thread. It pays where the denoiser computes on a GPU; on the CPU both would
            share the cores.

    Raises:
        Exception: whatever ``draw`` raises, when its step comes.
    """
    if not ahead:
        yield from map(draw, steps)
        return
    with ThreadPoolExecutor(max_workers=1) as thread:
        waiting = None
        for step in steps:
            before, waiting = waiting, thread.submit(draw, step)
            if before is not None:
                yield before.result()
        if waiting is not None:
            yield waiting.result()
