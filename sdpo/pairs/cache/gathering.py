"""Pairs of a cache, their latents and conditions read row by row, so that only what is used is in memory."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from artifacts.image_decoding import decode
from families.conditions import TEXT, padded
from sdpo.diffusion.latents import Latents
from sdpo.pairs.cache.encoding import ENDS, LATENTS, PNG, PROMPT, PROMPT_ENDS, SHAPES, SIZES
from sdpo.pairs.cache.images import mirrored as mirror_image

if TYPE_CHECKING:
    import torch

    from families.conditions import Conditions
    from sdpo.bases import Base
    from sdpo.pairs.cache.shard_reading import Shards

EMPTY = 0
"""Row of the empty prompt among the prompts of a cache."""


@dataclass(frozen=True)
class Side:
    """Winners or losers of some pairs.

    Attributes:
        latents: of the images, float32.
        sizes: (N, 6) pixels, what :meth:`sdpo.bases.Base.image_conditions` takes.
    """

    latents: Latents
    sizes: torch.Tensor


class Encoded(Protocol):
    """Where latents and conditions come from."""

    def images(self, rows: torch.Tensor, mirrored: torch.Tensor | None) -> Side:
        """Images of one size by their number in the cache, (N,); ``mirrored`` (N,) says which of them are mirrored."""
        ...

    def prompts(self, rows: torch.Tensor) -> Conditions:
        """Conditions of prompts by their number in the cache, (N,)."""
        ...


@dataclass(frozen=True)
class Pairs:
    """Pairs of one split, ties left out.

    Attributes:
        winner_image, loser_image, prompt_index: numbers in the cache, (N,).
        source: reads images and prompts by these numbers.
        latent_shape: C, H, W of the latents of the cache's first image; of all, where sizes are not several.
        shapes: number of each pair's shape, (N,), the same in every split of a cache: 0 where there is one.
        flips: whether images may be mirrored.
        ids: ``pair_id`` of each pair in the cache's index, (N,).
    """

    winner_image: torch.Tensor
    loser_image: torch.Tensor
    prompt_index: torch.Tensor
    source: Encoded
    latent_shape: tuple[int, ...]
    shapes: torch.Tensor
    flips: bool = False
    ids: torch.Tensor | None = None

    def __len__(self) -> int:
        return len(self.winner_image)

    def by_shape(self, rows: torch.Tensor) -> Iterator[tuple[int, torch.Tensor]]:
        """Number of each shape among the pairs ``rows`` (B,), and the places (B',) of its pairs among them."""
        own = self.shapes[rows]
        for shape in own.unique().tolist():
            yield shape, (own == shape).nonzero()[:, 0]

    def winners(self, rows: torch.Tensor, mirrored: torch.Tensor | None = None) -> Side:
        """Winners of the pairs ``rows``, (B,), which are of one shape."""
        return self.source.images(self.winner_image[rows], mirrored)

    def losers(self, rows: torch.Tensor, mirrored: torch.Tensor | None = None) -> Side:
        """Losers of the pairs ``rows``, (B,), which are of one shape."""
        return self.source.images(self.loser_image[rows], mirrored)

    def prompts(self, rows: torch.Tensor, empty: torch.Tensor | None = None) -> Conditions:
        """Conditions of the prompts of the pairs ``rows``, (B,); of the empty prompt where ``empty``, (B,)."""
        chosen = self.prompt_index[rows]
        return self.source.prompts(chosen if empty is None else chosen.masked_fill(empty, EMPTY))


class StoredLatents:
    """Latents and conditions as the cache holds them; ``joined``: latents of several shapes, one after the other."""

    def __init__(self, shards: Shards, conditions: Sequence[str], *, joined: bool = False) -> None:
        self.shards, self.conditions, self.joined = shards, list(conditions), joined

    def images(self, rows: torch.Tensor, mirrored: torch.Tensor | None) -> Side:
        """Posteriors of images of one size, (N,)."""
        import torch

        if self.joined:
            shapes = self.shards.kept(SHAPES, rows)
            assert (shapes == shapes[0]).all(), "images of two shapes do not make one tensor"
            found = self.shards.pieces(LATENTS, ENDS, rows, mirrored=mirrored)
            moments = torch.stack(found, out=torch.empty(len(rows), len(found[0]))).reshape(-1, *shapes[0].tolist())
        else:
            moments = self.shards.gathered(LATENTS, rows, mirrored=mirrored).float()
        return Side(Latents(*moments.unbind(1)), self.shards.kept(SIZES, rows, mirrored))

    def prompts(self, rows: torch.Tensor) -> Conditions:
        """Conditions of prompts, (N,)."""
        if not self.shards.has(PROMPT_ENDS):
            return {name: self.shards.gathered(PROMPT + name, rows, PROMPT).float() for name in self.conditions}
        texts = self.shards.pieces(PROMPT + TEXT, PROMPT_ENDS, rows, PROMPT)
        others = [name for name in self.conditions if name != TEXT]
        found = {name: self.shards.gathered(PROMPT + name, rows, PROMPT).float() for name in others}
        return {**found, **padded([text.float() for text in texts])}


class StoredImages:
    """Latents and conditions computed from stored images and from prompts, each time they are asked for."""

    def __init__(self, shards: Shards, prompts: Sequence[str], base: Base) -> None:
        self.shards, self.texts, self.base = shards, list(prompts), base

    def images(self, rows: torch.Tensor, mirrored: torch.Tensor | None) -> Side:
        """Posteriors of images of one size, (N,)."""
        images = [decode(file.numpy().tobytes()).image for file in self.shards.pieces(PNG, ENDS, rows)]
        if mirrored is not None:
            images = [mirror_image(x) if turned else x for x, turned in zip(images, mirrored.tolist(), strict=True)]
        return Side(self.base.encode_images(images).cpu(), self.shards.kept(SIZES, rows, mirrored))

    def prompts(self, rows: torch.Tensor) -> Conditions:
        """Conditions of prompts, (N,)."""
        return {k: x.cpu() for k, x in self.base.encode_prompts([self.texts[i] for i in rows.tolist()]).items()}
