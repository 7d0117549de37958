"""Encoding in this process, or in several at once; the tensors are the same either way."""

from __future__ import annotations

import multiprocessing
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from types import TracebackType
from typing import TYPE_CHECKING, Any

from artifacts.errors import InputError
from families.conditions import TEXT_LENGTHS
from sdpo.pairs.cache.encoding import (
    ENDS,
    LATENTS,
    LENGTHS,
    MIRRORED,
    PNG,
    PROMPT,
    PROMPT_ENDS,
    Tensors,
    encode_images,
    encode_prompts,
    sizes,
)
from sdpo.pairs.cache.settings import EncodingSettings

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from sdpo.bases import Base
    from sdpo.pairs.cache.images import PreparedImage

IMAGES = 128
PIXELS = 32 * 512 * 512
"""Images, and pixels of images, that are handed to an encoder at once, at most. Never depends on the number of
processes: which images share a batch may show in the last bit of their latents."""
PROMPTS = 128

Arrays = dict[str, "NDArray[np.generic]"]


class Encoders:
    """The base, opened in this process or in ``processes`` others.

    Args:
        base: as :func:`sdpo.bases.open_described` takes it.
        settings: how images are encoded, and on what device; processes take turns over the GPUs.
        processes: that encode.
    """

    def __init__(self, base: Mapping[str, Any], settings: EncodingSettings, processes: int = 1) -> None:
        self.settings = settings
        self._opening = dict(base), settings
        self._processes = processes
        self._pool: ProcessPoolExecutor | None = None
        self._worker: _Worker | None = None

    def __enter__(self) -> Encoders:
        import torch
        from PIL import Image

        # Opened here too, since what is wrong with a base or a device is said badly by another process.
        base = self.base
        for width, height in self.settings.sizes or []:
            # A size that it does not take is found before hours of work.
            base.encode_images([Image.new("RGB", (width, height))])
        if self._processes > 1:
            # Not forked: CUDA and OpenMP do not survive it.
            context = multiprocessing.get_context("spawn")
            self._pool = ProcessPoolExecutor(
                self._processes,
                mp_context=context,
                initializer=_start,
                initargs=(context.Value("i", 0), torch.get_num_threads(), *self._opening),
            )
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)

    @property
    def base(self) -> Base:
        """The base in this process."""
        return self._own.base

    @property
    def _own(self) -> _Worker:
        if self._worker is None:
            self._worker = _Worker(0, *self._opening)
        return self._worker

    def submit(self, task: Callable[[_Worker, Any], Arrays], argument: Any) -> Future[Arrays]:
        """Run a task on some process."""
        if self._pool is not None:
            return self._pool.submit(_run, task, argument)
        done: Future[Arrays] = Future()
        done.set_result(task(self._own, argument))
        return done

    def batches(self) -> ImageBatches:
        """A queue of images to be encoded."""
        return ImageBatches(self, ahead=2 * self._processes)

    def prompts(self, texts: Sequence[str]) -> Tensors:
        """Conditions of prompts, with the prefix ``prompt.``; empty without any, or where images are stored."""
        if self.settings.store == "images":
            return {}
        parts = [self.submit(_prompts, texts[i : i + PROMPTS]) for i in range(0, len(texts), PROMPTS)]
        tensors = _joined([part.result() for part in parts])
        if (lengths := tensors.pop(PROMPT + TEXT_LENGTHS, None)) is not None:
            tensors[PROMPT_ENDS] = lengths.cumsum(0)
        return tensors


class ImageBatches:
    """Images gathered into batches of one size, each encoded as soon as it is full."""

    def __init__(self, encoders: Encoders, *, ahead: int) -> None:
        self._encoders, self._ahead = encoders, ahead
        # By size, with their places among all images.
        self._pending: defaultdict[tuple[int, int], list[tuple[int, PreparedImage]]] = defaultdict(list)
        self._places: list[int] = []
        self._parts: list[Future[Arrays]] = []
        self._count = 0

    def add(self, image: PreparedImage) -> None:
        """Take one more image; waits while too many batches are under way."""
        pending = self._pending[image.image.size]
        pending.append((self._count, image))
        self._count += 1
        if len(pending) >= max(1, min(IMAGES, PIXELS // (image.image.width * image.image.height))):
            self._send(image.image.size)

    def _send(self, size: tuple[int, int]) -> None:
        if len(self._parts) >= self._ahead:
            self._parts[-self._ahead].result()
        places, images = zip(*self._pending.pop(size), strict=True)
        self._places += places
        self._parts.append(self._encoders.submit(_images, images))

    def tensors(self) -> Tensors:
        """Tensors of all images, in the order in which they came; none without images."""
        import numpy as np
        import torch

        for size in list(self._pending):
            self._send(size)
        parts = [part.result() for part in self._parts]
        if not parts or LENGTHS not in parts[0]:
            return _joined(parts)
        tensors: Tensors = {}
        for name in parts[0]:
            # What is joined is cut into what each image has.
            joined = name in (LATENTS, MIRRORED + LATENTS, PNG)
            rows: list[Any] = []
            for part in parts:
                rows += np.split(part[name], part[LENGTHS].cumsum()[:-1]) if joined else list(part[name][:, None])
            tensors[name] = torch.from_numpy(np.concatenate([rows[i] for i in np.argsort(self._places)]))
        tensors[ENDS] = tensors.pop(LENGTHS).cumsum(0)
        return tensors


class _Worker:
    """An opened base and what is asked of it."""

    def __init__(self, number: int, base: Mapping[str, Any], settings: EncodingSettings) -> None:
        import torch

        from sdpo import bases

        device: str = settings.device
        if device == "cuda":
            if not torch.cuda.is_available():
                raise InputError("encoding.device is 'cuda', and there is no GPU here; set it to cpu")
            device = f"cuda:{number % torch.cuda.device_count()}"
        # Whatever a training allows itself; convolutions have TF32 by default.
        torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = settings.encoder_tf32
        self.settings = settings
        self.base = bases.open_described(base, device=device, encoder_dtype=settings.encoder_dtype)


_worker: _Worker | None = None


def _start(count: Any, threads: int, base: Mapping[str, Any], settings: EncodingSettings) -> None:
    """Open the base in a new process."""
    import torch

    global _worker
    torch.set_num_threads(threads)
    with count.get_lock():
        number = count.value
        count.value += 1
    _worker = _Worker(number, base, settings)


def _run(task: Callable[[_Worker, Any], Arrays], argument: Any) -> Arrays:
    assert _worker is not None
    return task(_worker, argument)


def _images(worker: _Worker, batch: Sequence[PreparedImage]) -> Arrays:
    return _arrays({**encode_images(worker.base, batch, worker.settings), **sizes(batch, worker.settings)})


def _prompts(worker: _Worker, texts: Sequence[str]) -> Arrays:
    return _arrays(encode_prompts(worker.base, texts, worker.settings))


def _arrays(tensors: Tensors) -> Arrays:
    """Tensors as arrays, which pass from process to process without file handles."""
    return {name: tensor.numpy() for name, tensor in tensors.items()}


def _joined(parts: Sequence[Arrays]) -> Tensors:
    """Rows of several batches one after the other; nothing of nothing."""
    import numpy as np
    import torch

    return {name: torch.from_numpy(np.concatenate([part[name] for part in parts])) for name in (parts or [{}])[0]}
