"""Reading rows of a cache's shards: positioned reads by several threads, since rows lie scattered over a slow disk.

Mapped files would be read page by page, one after the other, and the pages would count as memory of every process.
"""

from __future__ import annotations

import json
import os
import threading
from collections import OrderedDict
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING

from artifacts.errors import InputError
from sdpo.pairs.cache.encoding import MIRRORED, PROMPT

if TYPE_CHECKING:
    import numpy as np
    import torch
    from numpy.typing import NDArray

THREADS = 16
"""Reads under way at once: disks, and network disks more so, answer many as fast as one."""
_LEAST = 4
"""Reads that are worth a thread; less are not worth handing over."""
_OPEN_FILES = 256
"""Files open at once; a process may have 1024 on many systems, and a large cache has more shards."""
_DTYPES = {
    "BF16": "bfloat16",
    "F16": "float16",
    "F32": "float32",
    "I32": "int32",
    "I64": "int64",
    "U8": "uint8",
}
"""Names of the format safetensors, as far as a cache has them."""


@dataclass(frozen=True)
class _Stored:
    """Where a tensor lies in its file.

    Attributes:
        start: its first byte.
        dtype: name in torch.
        shape: of one row, the first dimension left out.
        row: bytes of a row.
        rows: how many.
    """

    start: int
    dtype: str
    shape: tuple[int, ...]
    row: int
    rows: int


@dataclass(frozen=True)
class _Read:
    """Bytes that are wanted, and where they go."""

    shard: int
    start: int
    into: NDArray[np.uint8]


class _Descriptor:
    """A file that is open until nobody reads from it any more."""

    def __init__(self, path: Path) -> None:
        self.number = os.open(path, os.O_RDONLY | os.O_CLOEXEC)

    def __del__(self) -> None:
        os.close(self.number)


class Shards:
    """The shards of a cache, of which rows are read when they are asked for.

    Args:
        files: in order.
        images, prompts: how many of each a shard holds.
    """

    def __init__(self, files: Sequence[Path], images: Sequence[int], prompts: Sequence[int]) -> None:
        import torch

        self.files = list(files)
        self._starts = {
            PROMPT: torch.tensor([0, *prompts]).cumsum(0),
            "": torch.tensor([0, *images]).cumsum(0),
        }
        self._headers: dict[int, dict[str, _Stored]] = {}
        self._kept: dict[tuple[int, str], torch.Tensor] = {}
        self._open: OrderedDict[int, _Descriptor] = OrderedDict()
        self._opening = threading.Lock()

    def check_shapes(self) -> None:
        """Hold the rows of each tensor to one dtype and shape in all shards that have it.

        Raises:
            InputError: those of two shards differ: read as one tensor, they would be scrambled.
        """
        first: dict[str, tuple[Path, _Stored]] = {}
        for shard, path in enumerate(self.files):
            for name, stored in self._header(shard).items():
                where, before = first.setdefault(name, (path, stored))
                if (stored.dtype, stored.shape) != (before.dtype, before.shape):
                    raise InputError(
                        f"{path}: '{name}' has rows {stored.dtype} {stored.shape}, expected those of {where.name}, "
                        f"{before.dtype} {before.shape}: images of two sizes; set the pair set's encoding.resolution, "
                        f"delete {path.parent} and run snakemake again"
                    )

    def conditions(self) -> list[str]:
        """Names of what is stored of a prompt."""
        return [name.removeprefix(PROMPT) for name in self._header(0) if name.startswith(PROMPT)]

    def has(self, name: str) -> bool:
        """Whether shards hold a tensor of this name."""
        return name in self._header(0)

    def places(self, rows: torch.Tensor, kind: str = "") -> tuple[list[int], list[int]]:
        """Shard of each of ``rows`` (N,), and its row in there; ``kind`` is ``prompt.`` for prompts."""
        import torch

        starts = self._starts[kind]
        shards = torch.searchsorted(starts, rows, right=True) - 1
        return shards.tolist(), (rows - starts[shards]).tolist()

    def gathered(
        self, name: str, rows: torch.Tensor, kind: str = "", mirrored: torch.Tensor | None = None
    ) -> torch.Tensor:
        """Rows (N,) of a tensor that is cut over the shards, (N, …), read anew.

        Args:
            name: of the tensor.
            rows: numbers of images or prompts.
            kind: ``prompt.`` for prompts.
            mirrored: (N,), which images are wanted from left to right.

        Raises:
            InputError: a file is damaged.
        """
        import torch

        shards, inner = self.places(rows, kind)
        first = self._stored(shards[0], name)
        out = torch.empty((len(rows), *first.shape), dtype=getattr(torch, first.dtype))
        buffers = out.reshape(len(rows), -1).view(torch.uint8).numpy()
        reads = []
        for buffer, shard, row, wanted in zip(buffers, shards, inner, _names(name, mirrored, len(rows)), strict=True):
            stored = self._stored(shard, wanted)
            reads.append(_Read(shard, stored.start + row * stored.row, buffer))
        self._perform(reads)
        return out

    def kept(self, name: str, rows: torch.Tensor, mirrored: torch.Tensor | None = None) -> torch.Tensor:
        """The same for a tensor of a few bytes a row, read whole with the shard's first row and kept from then on."""
        import torch

        shards, inner = self.places(rows)
        names = _names(name, mirrored, len(rows))
        self._keep(sorted(set(zip(shards, names, strict=True)) - self._kept.keys()))
        return torch.stack([self._kept[at, wanted][row] for at, row, wanted in zip(shards, inner, names, strict=True)])

    def whole(self, name: str) -> torch.Tensor:
        """All rows of such a tensor of images, those of one shard after the other's."""
        import torch

        shards = [shard for shard in range(len(self.files)) if name in self._header(shard)]
        self._keep(sorted({(shard, name) for shard in shards} - self._kept.keys()))
        return torch.cat([self._kept[shard, name] for shard in shards])

    def pieces(
        self, name: str, ends: str, rows: torch.Tensor, kind: str = "", mirrored: torch.Tensor | None = None
    ) -> list[torch.Tensor]:
        """Pieces (N,) of a tensor, each (T, …); ``ends`` names the tensor that says where each ends.

        Args as of :meth:`gathered`.
        """
        import torch

        shards, inner = self.places(rows, kind)
        self._keep(sorted({(shard, ends) for shard in shards} - self._kept.keys()))
        reads, found = [], []
        for shard, row, wanted in zip(shards, inner, _names(name, mirrored, len(rows)), strict=True):
            kept, stored = self._kept[shard, ends], self._stored(shard, wanted)
            first = int(kept[row - 1]) if row else 0
            piece = torch.empty((int(kept[row]) - first, *stored.shape), dtype=getattr(torch, stored.dtype))
            found.append(piece)
            reads.append(_Read(shard, stored.start + first * stored.row, piece.reshape(-1).view(torch.uint8).numpy()))
        self._perform(reads)
        return found

    def _keep(self, wanted: Sequence[tuple[int, str]]) -> None:
        import torch

        found, reads = {}, []
        for shard, name in wanted:
            stored = self._stored(shard, name)
            tensor = torch.empty((stored.rows, *stored.shape), dtype=getattr(torch, stored.dtype))
            reads.append(_Read(shard, stored.start, tensor.reshape(-1).view(torch.uint8).numpy()))
            found[shard, name] = tensor
        self._perform(reads)
        # Not before: another thread may look.
        self._kept.update(found)

    @cached_property
    def _threads(self) -> ThreadPoolExecutor:
        return ThreadPoolExecutor(THREADS, thread_name_prefix="pair-cache")

    def _perform(self, reads: Sequence[_Read]) -> None:
        """Read everything; each thread takes neighbours, which may lie in one file."""
        size = max(_LEAST, -(-len(reads) // THREADS))
        in_order = sorted(reads, key=lambda read: (read.shard, read.start))
        parts = [in_order[i : i + size] for i in range(0, len(in_order), size)]
        for _ in map(self._read, parts) if len(parts) == 1 else self._threads.map(self._read, parts):
            pass

    def _read(self, reads: Sequence[_Read]) -> None:
        for read in reads:
            file, done = self._opened(read.shard), 0
            while done < len(read.into):
                count = os.preadv(file.number, [read.into.data[done:]], read.start + done)
                if not count:
                    raise _damaged(self.files[read.shard])
                done += count

    def _opened(self, shard: int) -> _Descriptor:
        with self._opening:
            if (file := self._open.get(shard)) is not None:
                self._open.move_to_end(shard)
                return file
        # Not under the lock: on a network disk opening takes as long as reading.
        opened = _Descriptor(self.files[shard])
        with self._opening:
            file = self._open.setdefault(shard, opened)
            if len(self._open) > _OPEN_FILES:
                self._open.popitem(last=False)
        return file

    def _header(self, shard: int) -> dict[str, _Stored]:
        if shard not in self._headers:
            self._headers[shard] = _header(self.files[shard])
        return self._headers[shard]

    def _stored(self, shard: int, name: str) -> _Stored:
        try:
            return self._header(shard)[name]
        except KeyError:
            raise _damaged(self.files[shard]) from None


def _names(name: str, mirrored: torch.Tensor | None, count: int) -> list[str]:
    """Name of the tensor that has each of ``count`` rows."""
    return [name] * count if mirrored is None else [MIRRORED + name if x else name for x in mirrored.tolist()]


def _header(path: Path) -> dict[str, _Stored]:
    """What lies where in a file of the format safetensors: eight bytes of length, a JSON object, the tensors."""
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        try:
            about = json.loads(file.read(length))
        except ValueError:
            raise _damaged(path) from None
    found = {}
    for name, entry in about.items():
        if name == "__metadata__":
            continue
        rows, *shape = entry["shape"]
        first, end = entry["data_offsets"]
        row = (end - first) // rows if rows else 0
        found[name] = _Stored(8 + length + first, _DTYPES[entry["dtype"]], tuple(shape), row, rows)
        assert end - first == row * rows
        assert row % max(1, prod(shape)) == 0
    return found


def _damaged(path: Path) -> InputError:
    return InputError(f"{path}: damaged; delete {path.parent} and run snakemake again")
