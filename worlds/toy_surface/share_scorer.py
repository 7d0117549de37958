"""A scorer that rates a cloud by one of its shares (:func:`worlds.toy_surface.surface.shares`)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from artifacts.errors import InputError
from evals.networks.interface import check_lengths, fingerprint
from worlds.toy_surface.surface import VERSION, shares

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from PIL.Image import Image

PROTOCOLS = ("published",)


@dataclass(frozen=True)
class ShareScorer:
    """Rates clouds by the share ``share``, from 0 to 1."""

    share: str
    fingerprint: str

    def score(self, images: Sequence[Image], prompts: Sequence[str]) -> NDArray[np.float64]:
        """Shares (N,) of N clouds; prompts are ignored.

        Raises:
            InputError: numbers differ, or a picture carries no points.
        """
        import numpy as np

        from worlds.toy_surface.clouds import coordinates

        check_lengths(len(images), len(prompts))
        try:
            return np.array([shares(coordinates(image))[self.share] for image in images], dtype=np.float64)
        except InputError as error:
            raise InputError(f"scorer 'surface_{self.share}': {error}") from error


def creator(share: str) -> Callable[..., ShareScorer]:
    """The function ``create`` of a scorer module; weights, device, dtype and batch size do not concern it."""

    def create(*, protocol: str, **_: Any) -> ShareScorer:
        digest = fingerprint(
            scorer=f"surface_{share}", version=VERSION, protocol=protocol, files={}, preprocessing={}, dtype="float64"
        )
        return ShareScorer(share, digest)

    return create
