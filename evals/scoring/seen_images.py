"""What scorers see of images: made once where an image is decoded, normalised once a batch, shared by all scorers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from artifacts.errors import InputError
from artifacts.plugins import told
from evals.networks.interface import REGISTRY, ImageScorer, PixelScorer, RefusedImageError

if TYPE_CHECKING:
    import numpy as np
    import torch
    from numpy.typing import NDArray
    from PIL import Image

    from evals.networks.interface import Scorer
    from evals.networks.preprocessing import Fit


@dataclass(frozen=True)
class SeenImage:
    """One image as some scorers see it.

    Attributes:
        squares: (3, S, S) by size and fit, for scorers with a model.
        scores: of scorers that need no model, by name.
        image: only where another scorer asks for it: whole images are large.
        met: what decoding met, names of :data:`artifacts.image_decoding.MET`.
    """

    squares: dict[tuple[int, Fit], torch.Tensor] = field(default_factory=dict)
    scores: dict[str, float] = field(default_factory=dict)
    image: Image.Image | None = None
    met: tuple[str, ...] = ()


def look(image: Image.Image, scorers: Mapping[str, Scorer], met: tuple[str, ...] = ()) -> SeenImage:
    """What ``scorers`` see of an image; may run in several threads at a time."""
    seen, whole = SeenImage(), False
    for name, scorer in scorers.items():
        if isinstance(scorer, ImageScorer):
            with _told(name):
                seen.scores[name] = scorer.rate(image)
        elif not isinstance(scorer, PixelScorer):
            whole = True
        elif (key := scorer.preprocessing.squares_key) not in seen.squares:
            seen.squares[key] = scorer.preprocessing.squares([image])[0]
    return SeenImage(seen.squares, seen.scores, image if whole else None, met)


def _told(name: str) -> AbstractContextManager[None]:
    return told(f"scorer '{name}': score", REGISTRY.file(name))


class SeenBatch:
    """Images that are scored together; scorers that see the same pixels share one tensor on one device.

    Args:
        images: none of them for images that no scorer will be asked about.
    """

    def __init__(self, images: Sequence[SeenImage | None]) -> None:
        self._images = images
        self._pixels: dict[Any, torch.Tensor] = {}

    def score(self, name: str, scorer: Scorer, prompts: Mapping[int, str]) -> NDArray[np.float64]:
        """Scores of some images, in the order of ``prompts``.

        Args:
            prompts: of each image, by its place in the batch; the images were made for ``scorer``.

        Raises:
            RefusedImageError: the scorer cannot take one of the images; its place is that in the batch.
            InputError: the scorer gave something else than one number an image.
        """
        import numpy as np

        values: Any
        images = [image for place in prompts if (image := self._images[place]) is not None]
        texts = list(prompts.values())
        if isinstance(scorer, ImageScorer):
            values = np.array([image.scores[name] for image in images], dtype=np.float64)
        elif isinstance(scorer, PixelScorer):
            with _told(name):
                values = scorer.score_pixels(self._shared(scorer, tuple(prompts), images), texts)
        else:
            try:
                with _told(name):
                    values = scorer.score([image.image for image in images if image.image is not None], texts)
            except RefusedImageError as error:
                raise RefusedImageError(list(prompts)[error.place], f"scorer '{name}': {error.reason}") from error
        is_array = isinstance(values, np.ndarray)
        if not is_array or values.shape != (len(prompts),) or values.dtype.kind not in "fiu":
            found = f"an array of {values.dtype} and shape {values.shape}" if is_array else type(values).__name__
            raise InputError(f"scorer '{name}': gave {found} for {len(prompts)} images; expected one number each")
        scores: NDArray[np.float64] = values.astype(np.float64)
        return scores

    def _shared(self, scorer: PixelScorer, places: tuple[int, ...], images: Sequence[SeenImage]) -> torch.Tensor:
        import torch

        key = (scorer.pixels_key, places)
        if key not in self._pixels:
            squares = [image.squares[scorer.preprocessing.squares_key] for image in images]
            self._pixels[key] = scorer.pixels(torch.stack(squares))
        return self._pixels[key]
