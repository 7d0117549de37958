"""What the original packages ``image-reward`` and ``hpsv2`` need to run beside current transformers and torch.

Both were last released in 2023 and 2024. Nothing of theirs is changed on disk; what they miss is put in their way while
they are imported and taken away again, so that the rest of the process sees none of it. Both score one image at a time,
and read pickles only: of a safetensors file, as ``evals weights fetch`` leaves it, they get a temporary copy as one
(in ``TMPDIR``).
"""

from __future__ import annotations

import sys
import tempfile
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from artifacts.errors import InputError
from evals.networks.interface import Fingerprint, PromptTokens, RefusedImageError, check_lengths, fingerprint

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from PIL import Image


@dataclass(frozen=True)
class PackageScorer:
    """A scorer that hands one image and one prompt at a time to a package.

    Attributes:
        checkpoint: a temporary file that is there as long as the scorer.
    """

    fingerprint: str
    rate: Callable[[Image.Image, str], float]
    tokens: PromptTokens
    checkpoint: object = None

    def score(self, images: Sequence[Image.Image], prompts: Sequence[str]) -> NDArray[np.float64]:
        """See :meth:`evals.networks.interface.Scorer.score`.

        Raises:
            RefusedImageError: the package cannot take an image.
        """
        import numpy as np

        check_lengths(len(images), len(prompts))
        scores = np.empty(len(images), dtype=np.float64)
        for place, (image, prompt) in enumerate(zip(images, prompts, strict=True)):
            try:
                scores[place] = self.rate(image, prompt)
            except InputError as error:
                raise RefusedImageError(place, str(error)) from error
        return scores


@contextmanager
def imported(distribution: str) -> Iterator[None]:
    """Import quietly; the packages change the warning filters of the whole process."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    except ImportError as error:
        raise InputError(
            f"package '{distribution}' cannot be imported ({error}); install requirements-legacy.lock or use "
            "implementation 'native'"
        ) from error


@contextmanager
def standing_in(stubs: Mapping[str, ModuleType]) -> Iterator[None]:
    """Put modules in the place of others of their names, and those back afterwards."""
    before = {name: sys.modules.get(name) for name in stubs}
    sys.modules.update(stubs)
    try:
        yield
    finally:
        for name, module in before.items():
            sys.modules.pop(name, None)
            if module is not None:
                sys.modules[name] = module


def as_pickle(path: Path, content: Mapping[str, Any]) -> tuple[Path, object]:
    """A file that torch loads ``content`` from: ``path``, or a temporary one that is there as long as the object.

    Raises:
        InputError: there is no space for it.
    """
    if path.suffix != ".safetensors":
        return path, None
    import torch

    try:
        copy = tempfile.NamedTemporaryFile(suffix=".pt")  # noqa: SIM115
        torch.save(dict(content), copy)
        copy.flush()
    # torch reports a full disk as RuntimeError.
    except (OSError, RuntimeError) as error:
        raise InputError(
            f"{path}: the package reads pickles only, and a temporary copy as one cannot be written "
            f"({str(error).splitlines()[0]}); free space in {tempfile.gettempdir()} or set TMPDIR"
        ) from error
    return Path(copy.name), copy


def check_dtype(scorer: str, dtype: str) -> None:
    """Refuse a dtype that somebody has chosen.

    Raises:
        InputError: somebody has.
    """
    if dtype != "float32":
        raise InputError(
            f"scorer '{scorer}': dtype is '{dtype}', but a package chooses its own precision; leave it out"
        )


def package_fingerprint(
    package: str, scorer: str, version: int, protocol: str, files: Mapping[str, Path], device: str, **extra: Any
) -> Fingerprint:
    """The fingerprint of a scorer that a package runs; arguments as of :func:`evals.networks.interface.fingerprint`."""
    return fingerprint(
        scorer=scorer,
        version=version,
        protocol=protocol,
        files=files,
        preprocessing={"by": package},
        dtype=f"the package's own on {device}",
        implementation=f"{package} {metadata.version(package)}",
        **extra,
    )
