"""What a scorer is, and the scorer that rates preprocessed pixels."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from artifacts import image_decoding
from artifacts.atomic import file_sha256, json_sha256
from artifacts.device import device_name
from artifacts.errors import InputError
from artifacts.plugins import Call, Registry, loaded
from artifacts.provenance import environment
from evals.networks.preprocessing import Preprocessing
from evals.published import fetched_weights

if TYPE_CHECKING:
    import numpy as np
    import torch
    from numpy.typing import NDArray
    from PIL import Image


REGISTRY = Registry(
    kind="scorer",
    package="evals.scorers",
    group="evals.scorers",
    shared=("evals.networks",),
    attributes={"PROTOCOLS": tuple, "NEEDS_WEIGHTS": bool, "VERSION": int},
    optional={"LOWER_IS_BETTER": bool, "JUDGES": bool, "WEIGHTS": str, "IMPLEMENTATIONS": tuple, "DEFAULTS": dict},
    calls={
        "create": Call(
            keywords=("protocol", "weights", "device", "dtype", "batch_size"),
            only_if={"implementation": "IMPLEMENTATIONS", "options": "DEFAULTS"},
        )
    },
    optional_calls={"unjudgeable": Call(("prompts",))},
)


class RefusedImageError(InputError):
    """A scorer cannot take one of the images.

    Args:
        place: which, from 0; whoever knows its file names it.
        reason: why, and the remedy.
    """

    def __init__(self, place: int, reason: str) -> None:
        super().__init__(f"image {place + 1} of those given: {reason}")
        self.place, self.reason = place, reason


class Fingerprint(str):
    """Hex SHA-256 of all that shapes a score but the image and the prompt; ``hashed`` is what was digested."""

    hashed: Mapping[str, Any]

    def __new__(cls, hashed: Mapping[str, Any]) -> Fingerprint:
        """Digest a JSON object, and with it the source of the scorer that it names under ``scorer``.

        So a cache of scores knows nothing of what other code made.
        """
        # Every scorer sees images as the decoder makes them.
        hashed = {**hashed, "decoding": image_decoding.VERSION}
        if (source := REGISTRY.source(str(hashed.get("scorer")))) is not None:
            hashed = {**hashed, "source": source}
        made = super().__new__(cls, json_sha256(hashed))
        made.hashed = hashed
        return made


class Scorer(Protocol):
    """Rates images given their prompts; holds no state that a call could change."""

    @property
    def fingerprint(self) -> str:
        """Digest of everything that shapes a score but the image and the prompt; a :class:`Fingerprint` says what."""
        ...

    def score(self, images: Sequence[Image.Image], prompts: Sequence[str]) -> NDArray[np.float64]:
        """Raw scores, shape (N,), of N images with their N prompts.

        Raises:
            InputError: there are not as many prompts as images.
        """
        ...


def fingerprint(
    *,
    scorer: str,
    version: int,
    protocol: str,
    files: Mapping[str, Path],
    preprocessing: Mapping[str, Any],
    dtype: str,
    **extra: Any,
) -> Fingerprint:
    """A digest that changes whenever scores may change; on the way, fetched files are held to what was fetched.

    Args:
        scorer: the name that it is registered by.
        files: role (``weights``, ``config``, ``tokenizer/vocab.txt`` …) to the file that was read; contents count,
            paths do not.
        extra: anything else that shapes the numbers and lies in no file.

    Raises:
        InputError: a file is not what ``fetched.json`` beside it says, or was fetched for another scorer or protocol.
    """
    digests = {role: file_sha256(path) for role, path in files.items()}
    fetched_weights.check(scorer, protocol, {path: digests[role] for role, path in files.items()})
    return Fingerprint(
        {
            "scorer": scorer,
            "version": version,
            "protocol": protocol,
            "files": digests,
            "preprocessing": dict(preprocessing),
            "dtype": dtype,
            **extra,
        }
    )


def scorer_record(scorer: Scorer, *, device: str, batch_size: int) -> dict[str, Any]:
    """What scores are made by: everything that shapes them, and the environment, which rounds them."""
    hashed = dict(getattr(scorer.fingerprint, "hashed", {}))
    return {
        "fingerprint": str(scorer.fingerprint),
        "hashed": hashed,
        "device": device_name(device),
        "batch_size": batch_size,
        "code": {name: origin for name, origin in loaded().items() if name == f"scorer {hashed.get('scorer')}"},
        **environment(),
    }


def check_lengths(images: int, prompts: int) -> None:
    """Refuse lists of different lengths.

    Raises:
        InputError: the lengths differ.
    """
    if images != prompts:
        raise InputError(f"{images} images and {prompts} prompts: expected one prompt per image, in the same order")


def torch_device(device: str) -> torch.device:
    """The device, if it can be used here.

    Raises:
        InputError: torch does not know it, or this machine does not have it.
    """
    import torch

    try:
        found = torch.device(device)
        torch.empty(0, device=found)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        raise InputError(
            f"device '{device}' cannot be used here; use 'cpu' or another device of this machine"
        ) from error
    return found


@dataclass(frozen=True)
class PromptTokens:
    """How much of a prompt the scorer reads.

    Attributes:
        limit: tokens that the model reads, start and end token included.
        ids: token ids of each prompt before anything is cut, start and end token included.
        end: the token at whose first place the text is pooled, so that nothing behind it counts, should a prompt spell
            it; ``None`` where the whole text counts.
    """

    limit: int
    ids: Callable[[Sequence[str]], Sequence[Sequence[int]]]
    end: int | None = None

    def truncated(self, prompts: Sequence[str]) -> list[bool]:
        """For each prompt, whether the scorer sees only its beginning."""
        return [len(ids) > self.limit or (self.end is not None and self.end in ids[:-1]) for ids in self.ids(prompts)]


def truncated(scorer: Scorer, prompts: Sequence[str]) -> list[bool]:
    """For each prompt, whether the scorer sees only its beginning; a scorer that does not say sees all of it."""
    tokens: PromptTokens | None = getattr(scorer, "tokens", None)
    return [False] * len(prompts) if tokens is None else tokens.truncated(prompts)


@contextmanager
def exact_float32() -> Iterator[None]:
    """Products of float32 tensors in float32: on GPUs cuDNN's convolutions would round their inputs to TF32's 10 bits.

    The settings are those of the process; they are as before afterwards.
    """
    import torch

    cudnn: Any = torch.backends.cudnn
    matmul: Any = torch.backends.cuda.matmul
    settings: list[tuple[Any, str, Any]]
    try:
        settings = [(part, "allow_tf32", part.allow_tf32) for part in (matmul, cudnn)]
        off: Any = False
    # torch has two names for these settings, and refuses the older where a program has used the newer.
    except RuntimeError:
        settings = [(part, "fp32_precision", part.fp32_precision) for part in (matmul, cudnn.conv, cudnn.rnn)]
        off = "ieee"
    try:
        for part, name, _ in settings:
            setattr(part, name, off)
        yield
    finally:
        for part, name, before in settings:
            setattr(part, name, before)


@dataclass(frozen=True)
class ImageScorer:
    """A scorer that ignores prompts and needs no model: it rates an image where it is decoded, and none is kept for it.

    Attributes:
        rate: one image to its score; called by several threads at a time.
    """

    fingerprint: str
    rate: Callable[[Image.Image], float]

    def score(self, images: Sequence[Image.Image], prompts: Sequence[str]) -> NDArray[np.float64]:
        """See :meth:`Scorer.score`."""
        import numpy as np

        check_lengths(len(images), len(prompts))
        return np.array([self.rate(image) for image in images], dtype=np.float64)


@dataclass(frozen=True)
class PixelScorer:
    """A scorer whose model sees one square per image.

    Scorers whose ``preprocessing.squares_key`` is the same can share the squares, and with the same ``pixels_key`` the
    normalised pixels.

    Attributes:
        rate: normalised pixels (B, 3, S, S), which it must not change, and B prompts to B scores, float32, any device.
        tokens: what the tokenizer does with long prompts; ``None`` where prompts are ignored.
    """

    name: str
    fingerprint: str
    preprocessing: Preprocessing
    device: torch.device
    dtype: torch.dtype
    batch_size: int
    rate: Callable[[torch.Tensor, Sequence[str]], torch.Tensor]
    tokens: PromptTokens | None = None

    @property
    def pixels_key(self) -> tuple[Preprocessing, torch.device, torch.dtype]:
        """Scorers with the same key get the same tensor from :meth:`pixels`."""
        return self.preprocessing, self.device, self.dtype

    def score(self, images: Sequence[Image.Image], prompts: Sequence[str]) -> NDArray[np.float64]:
        """See :meth:`Scorer.score`; one batch of squares is held at a time."""
        import numpy as np

        check_lengths(len(images), len(prompts))
        scores = np.empty(len(images), dtype=np.float64)
        for start in range(0, len(images), self.batch_size):
            batch = slice(start, start + self.batch_size)
            squares = self.preprocessing.squares(images[batch])
            scores[batch] = self.score_pixels(self.pixels(squares), prompts[batch])
        return scores

    def pixels(self, squares: torch.Tensor) -> torch.Tensor:
        """What the model sees, (N, 3, S, S), on its device and in its precision.

        Args:
            squares: uint8 or float32, (N, 3, S, S), made by ``preprocessing.squares`` of this scorer or of one with the
                same ``squares_key``.
        """
        return self.preprocessing.normalise(squares.to(self.device)).to(self.dtype)

    def score_pixels(self, pixels: torch.Tensor, prompts: Sequence[str]) -> NDArray[np.float64]:
        """Scores of what :meth:`pixels` of this scorer, or of one with the same ``pixels_key``, gave."""
        import numpy as np
        import torch

        check_lengths(len(pixels), len(prompts))
        scores = np.empty(len(pixels), dtype=np.float64)
        with torch.inference_mode(), exact_float32():
            for start in range(0, len(pixels), self.batch_size):
                batch = slice(start, start + self.batch_size)
                scores[batch] = self.rate(pixels[batch], prompts[batch]).float().cpu().numpy()
        return scores
