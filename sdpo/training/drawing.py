"""What is drawn at random in training: noise, timesteps, and prompts that are emptied.

Everything random in step s of seed k is drawn from generators seeded with (k, s) and a shape, and the order of the data
from (k, epoch): a resumed run needs no random state and is the same run to the last bit.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
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


@dataclass(frozen=True)
class Drawn:
    """Pairs of one shape, and what was drawn for them; all tensors (B, ...).

    Attributes:
        rows: numbers of the pairs among those of the split.
        places: of the pairs in the step, ascending.
        winner, loser: scaled latents, drawn from the posterior where there is one.
        noise, timesteps: shared by both members of a pair: only what differs between the images is compared.
        winner_conditions, loser_conditions: prompt and images; the tensors of the prompt are the same.
    """

    rows: torch.Tensor
    places: torch.Tensor
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
        own = self.rows, self.places, self.winner, self.loser, self.noise, self.timesteps
        tensors = [x.split(size) for x in own]
        conditions = [split(x, size) for x in (self.winner_conditions, self.loser_conditions)]
        return [Drawn(*part) for part in zip(*tensors, *conditions, strict=True)]

    @staticmethod
    def micro_batches(drawn: Iterable[Drawn], size: int) -> list[Drawn]:
        """Pairs of several shapes in parts of ``size`` pairs, in the order of the step."""
        return sorted((part for own in drawn for part in own.split(size)), key=lambda part: int(part.places[0]))

    def to(self, device: str) -> Drawn:
        """The same on another device; ``rows`` and ``places`` stay."""
        winner, loser, noise, timesteps = (x.to(device) for x in (self.winner, self.loser, self.noise, self.timesteps))
        conditions = [moved(x, device) for x in (self.winner_conditions, self.loser_conditions)]
        return Drawn(self.rows, self.places, winner, loser, noise, timesteps, conditions[0], conditions[1])


def draw(
    base: Base,
    pairs: Pairs,
    chosen: torch.Tensor,
    *,
    empty_prompt_share: float,
    seed: int,
    step: int,
    part: range | None = None,
    density: TimestepSettings = UNIFORM,
) -> list[Drawn]:
    """Everything random about step ``step`` (from 1) of seed ``seed``, for the pairs of each shape.

    Args:
        base: draws timesteps, and makes conditions of images.
        pairs: of the training split.
        chosen: numbers of the step's pairs among them, (B,).
        empty_prompt_share: probability of a pair to get the empty prompt.
        seed, step: of the run.
        part: places of the step's pairs that are wanted, consecutive; all by default. Every pair gets what it would
            get in the whole step.
        density: of the timesteps.
    """
    import torch

    part = range(len(chosen)) if part is None else part
    found = []
    for shape, places in pairs.by_shape(chosen):
        count = len(places)
        first, last = torch.searchsorted(places, torch.tensor([part.start, part.stop])).tolist()
        if first == last:
            continue
        own = slice(first, last)
        rows = chosen[places[own]]
        # The members of a pair are mirrored independently, as in the published code (two calls of its transform).
        mirrored = (
            list((torch.rand(2, count, generator=stream(FLIP, seed, step, shape)) < 0.5)[:, own])
            if pairs.flips
            else [None, None]
        )
        sides = pairs.winners(rows, mirrored[0]), pairs.losers(rows, mirrored[1])
        random = stream(STEP, seed, step, shape)
        # Copied, or the noise of the whole step would stay in memory with it.
        noise = torch.randn((count, *sides[0].latents.mean.shape[1:]), generator=random)[own].clone()
        timesteps = drawn_timesteps(base, count, random, density)[own]
        empty = (torch.rand(count, generator=random) < empty_prompt_share)[own]
        posterior = stream(POSTERIOR, seed, step, shape)
        latents = [side.latents.sampled(posterior, of=count, first=first) for side in sides]
        prompts = pairs.prompts(rows, empty)
        conditions = [{**prompts, **base.image_conditions(side.sizes)} for side in sides]
        found.append(Drawn(rows, places[own], latents[0], latents[1], noise, timesteps, conditions[0], conditions[1]))
    return found


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
