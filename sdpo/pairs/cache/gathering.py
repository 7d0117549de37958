"""Pairs of a cache, gathered row by row from memory-mapped shards, so that only what is used is in memory."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from sdpo.diffusion.latents import Latents
from sdpo.pairs.cache.encoding import MIRRORED, PROMPT, Tensors, unpacked
from sdpo.pairs.cache.images import mirrored as mirror_image

if TYPE_CHECKING:
    import torch

    from sdpo.bases import Base
    from sdpo.diffusion.conditions import Conditions

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
        """Images by their number in the cache, (N,); ``mirrored`` (N,) says which of them are mirrored."""
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
        latent_shape: C, H, W of an image's latents.
        flips: whether images may be mirrored.
        ids: ``pair_id`` of each pair in the cache's index, (N,).
    """

    winner_image: torch.Tensor
    loser_image: torch.Tensor
    prompt_index: torch.Tensor
    source: Encoded
    latent_shape: tuple[int, ...]
    flips: bool = False
    ids: torch.Tensor | None = None

    def __len__(self) -> int:
        return len(self.winner_image)

    def winners(self, rows: torch.Tensor, mirrored: torch.Tensor | None = None) -> Side:
        """Winners of the pairs ``rows``, (B,)."""
        return self.source.images(self.winner_image[rows], mirrored)

    def losers(self, rows: torch.Tensor, mirrored: torch.Tensor | None = None) -> Side:
        """Losers of the pairs ``rows``, (B,)."""
        return self.source.images(self.loser_image[rows], mirrored)

    def prompts(self, rows: torch.Tensor, empty: torch.Tensor | None = None) -> Conditions:
        """Conditions of the prompts of the pairs ``rows``, (B,); of the empty prompt where ``empty``, (B,)."""
        chosen = self.prompt_index[rows]
        return self.source.prompts(chosen if empty is None else chosen.masked_fill(empty, EMPTY))


class Shards:
    """The shards of a cache, each mapped into memory when it is first used.

    Args:
        files: in order.
        images, prompts: how many of each a shard holds.
    """

    def __init__(self, files: Sequence[Path], images: Sequence[int], prompts: Sequence[int]) -> None:
        import torch

        self.files = list(files)
        self._open: dict[int, Tensors] = {}
        self._starts = {
            PROMPT: torch.tensor([0, *prompts]).cumsum(0),
            "": torch.tensor([0, *images]).cumsum(0),
        }

    def tensors(self, shard: int) -> Tensors:
        """All tensors of a shard, as views of the mapped file."""
        from safetensors.torch import load_file

        if shard not in self._open:
            self._open[shard] = load_file(self.files[shard])
        return self._open[shard]

    def places(self, rows: torch.Tensor, kind: str = "") -> list[tuple[int, torch.Tensor, torch.Tensor]]:
        """Shard, positions in ``rows`` and rows in the shard, for every shard that holds any of ``rows`` (N,)."""
        import torch

        starts = self._starts[kind]
        if len(self.files) == 1:
            return [(0, torch.arange(len(rows)), rows)]
        shards = torch.searchsorted(starts, rows, right=True) - 1
        found = []
        for shard in shards.unique().tolist():
            positions = (shards == shard).nonzero().squeeze(1)
            found.append((shard, positions, rows[positions] - starts[shard]))
        return found

    def gathered(self, name: str, rows: torch.Tensor, kind: str = "") -> torch.Tensor:
        """Rows (N,) of a tensor that is cut over the shards, in memory, (N, …)."""
        places = self.places(rows, kind)
        if len(places) == 1:
            return self.tensors(places[0][0])[name][places[0][2]]
        out: torch.Tensor | None = None
        for shard, positions, inner in places:
            part = self.tensors(shard)[name][inner]
            out = part.new_empty(len(rows), *part.shape[1:]) if out is None else out
            out[positions] = part
        assert out is not None
        return out


class StoredLatents:
    """Latents and conditions as the cache holds them."""

    def __init__(self, shards: Shards, *, posterior: bool, conditions: Sequence[str]) -> None:
        self.shards, self.posterior, self.conditions = shards, posterior, list(conditions)

    def _either(self, name: str, rows: torch.Tensor, mirrored: torch.Tensor | None) -> torch.Tensor:
        if mirrored is None or not mirrored.any():
            return self.shards.gathered(name, rows)
        if mirrored.all():
            return self.shards.gathered(MIRRORED + name, rows)
        plain = self.shards.gathered(name, rows[~mirrored])
        out = plain.new_empty(len(rows), *plain.shape[1:])
        out[~mirrored], out[mirrored] = plain, self.shards.gathered(MIRRORED + name, rows[mirrored])
        return out

    def images(self, rows: torch.Tensor, mirrored: torch.Tensor | None) -> Side:
        """Posteriors of images, (N,)."""
        names = ("mean", "std") if self.posterior else ("mean",)
        latents = Latents(*(self._either(name, rows, mirrored).float() for name in names))
        return Side(latents, self._either("sizes", rows, mirrored))

    def prompts(self, rows: torch.Tensor) -> Conditions:
        """Conditions of prompts, (N,)."""
        return {name: self.shards.gathered(PROMPT + name, rows, PROMPT).float() for name in self.conditions}


class StoredImages:
    """Latents and conditions computed from stored images and from prompts, each time they are asked for."""

    def __init__(self, shards: Shards, prompts: Sequence[str], base: Base) -> None:
        self.shards, self.texts, self.base = shards, list(prompts), base

    def images(self, rows: torch.Tensor, mirrored: torch.Tensor | None) -> Side:
        """Posteriors of images, (N,)."""
        import torch

        found: dict[int, Any] = {}
        sizes = torch.empty(len(rows), 6, dtype=torch.int32)
        turned = [False] * len(rows) if mirrored is None else mirrored.tolist()
        for shard, positions, inner in self.shards.places(rows):
            tensors = self.shards.tensors(shard)
            for position, row in zip(positions.tolist(), inner.tolist(), strict=True):
                image = unpacked(tensors, row)
                found[position] = mirror_image(image) if turned[position] else image
                sizes[position] = tensors[(MIRRORED if turned[position] else "") + "sizes"][row]
        return Side(self.base.encode_images([found[i] for i in range(len(rows))]).cpu(), sizes)

    def prompts(self, rows: torch.Tensor) -> Conditions:
        """Conditions of prompts, (N,)."""
        return {k: x.cpu() for k, x in self.base.encode_prompts([self.texts[i] for i in rows.tolist()]).items()}
