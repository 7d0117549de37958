"""What holds for every scorer, as checks on drawn pictures: run by ``evals check-scorer`` and by the tests."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from artifacts.errors import InputError
from artifacts.plugins import place
from evals import scorers

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from PIL.Image import Image

    from evals.networks.interface import Scorer

PROMPTS = ("a red disc", "a photo of a dog that plays the piano", "", "ein Hügel, naïve ☃", "two cats " * 60)
SIZE = 64
MOST = 6
ROUNDING = {"float32": 1e-4, "bfloat16": 5e-2, "float16": 5e-3}
"""How far scores may move with the pictures beside, as a share of their size: float32's rounding grows to some 1e-5 in
the deepest networks here, and the half formats round 2^16 and 2^13 times as coarsely at each layer, with luck."""


@dataclass(frozen=True)
class Subject:
    """A scorer as a config names it, and what it is tried on.

    Attributes:
        options: of :func:`evals.scorers.create` but name, protocol and dtype.
        images: folder of pictures, of which the first six count; ``None`` for drawn ones.
        prompts: left out, some of all kinds.
    """

    name: str
    protocol: str
    dtype: str = "float32"
    options: Mapping[str, Any] = field(default_factory=dict)
    images: str | Path | None = None
    prompts: Sequence[str] = ()

    def made(self, **changes: Any) -> Scorer:
        """The scorer, with some settings changed."""
        return scorers.create(self.name, **{**self.options, "protocol": self.protocol, "dtype": self.dtype, **changes})

    def inputs(self) -> tuple[list[Image], list[str]]:
        """Pictures, each with a prompt.

        Raises:
            InputError: a picture cannot be read, or there is none.
        """
        pictures = _drawn() if self.images is None else _read(Path(self.images))
        prompts = self.prompts or PROMPTS
        return pictures, [prompts[i % len(prompts)] for i in range(len(pictures))]


def _drawn() -> list[Image]:
    """Six pictures: black, a ramp, one colour, blocks and noise."""
    import numpy as np
    from PIL import Image

    generator = np.random.default_rng(0)
    ramp = np.broadcast_to(np.linspace(0, 255, SIZE)[:, None, None], (SIZE, SIZE, 3))
    blocks = [generator.uniform(0, 255, (n, n, 3)).repeat(SIZE // n, 0).repeat(SIZE // n, 1) for n in (1, 2, 8, SIZE)]
    return [Image.fromarray(array.astype(np.uint8)) for array in (np.zeros((SIZE, SIZE, 3)), ramp, *blocks)]


def _read(folder: Path) -> list[Image]:
    from artifacts.image_decoding import BrokenImageError, decode

    try:
        files = sorted(file for file in folder.iterdir() if file.is_file() and not file.name.startswith("."))
        found = [file for file in files if file.suffix.lower() in (".png", ".jpg", ".jpeg", ".webp")][:MOST]
        pictures = []
        for file in found:
            try:
                pictures.append(decode(file.read_bytes()).image)
            except BrokenImageError as error:
                raise InputError(f"--images {folder}: {file.name}: {error}; take it out") from error
    except OSError as error:
        raise InputError(f"--images {folder}: {error.strerror}; give a folder of pictures") from error
    if not pictures:
        raise InputError(f"--images {folder}: holds no pictures; give a folder of .png, .jpg or .webp files")
    return pictures


def numbers(subject: Subject) -> str:
    """One finite float64 an image; none for none; as many prompts as images are asked for."""
    import numpy as np

    images, prompts = subject.inputs()
    scorer = subject.made()
    scores = scorer.score(images, prompts)
    if not isinstance(scores, np.ndarray) or scores.dtype != np.float64 or scores.shape != (len(images),):
        found = f"{scores.dtype} {scores.shape}" if isinstance(scores, np.ndarray) else type(scores).__name__
        return f"scores of {len(images)} images are {found}, expected float64 ({len(images)},)"
    if not np.isfinite(scores).all():
        return f"the score of picture {int(np.flatnonzero(~np.isfinite(scores))[0])} is not finite"
    if len(scorer.score([], [])) != 0:
        return "no images have scores; expected an empty array"
    try:
        scorer.score(images, prompts[:-1])
    except InputError:
        return ""
    return "an image without a prompt is scored; expected InputError, as check_lengths raises it"


def repeated(subject: Subject) -> str:
    """The same input has the same scores, also from another object, and is left as it was."""
    images, prompts = subject.inputs()
    before = [image.tobytes() for image in images]
    scorer = subject.made()
    first = scorer.score(images, prompts)
    for again, which in ((scorer, "the second time"), (subject.made(), "when it is loaded again")):
        if (line := _moved(first, again.score(images, prompts), subject.dtype)) and line:
            return f"the same pictures have other scores {which}: {line}"
    if [image.tobytes() for image in images] != before:
        return "scoring changes the pictures that it is given"
    return ""


def batched(subject: Subject) -> str:
    """Scores do not depend on the pictures beside, on their order or on the size of a batch."""
    import numpy as np

    images, prompts = subject.inputs()
    scorer = subject.made()
    whole = scorer.score(images, prompts)
    alone = np.concatenate([scorer.score([i], [p]) for i, p in zip(images, prompts, strict=True)])
    if line := _moved(whole, alone, subject.dtype):
        return f"a picture alone has another score than among others: {line}"
    if line := _moved(whole[::-1], scorer.score(images[::-1], prompts[::-1]), subject.dtype):
        return f"pictures in another order have other scores: {line}"
    if line := _moved(whole, subject.made(batch_size=2).score(images, prompts), subject.dtype):
        return f"batches of 2 have other scores: {line}"
    return ""


def fingerprinted(subject: Subject) -> str:
    """The fingerprint is a text that stays, and changes with whatever changes a score: protocol, dtype, options."""
    scorer = subject.made()
    if not isinstance(scorer.fingerprint, str) or not scorer.fingerprint:
        return f"fingerprint is {scorer.fingerprint!r}, expected a text, as evals.networks.interface.fingerprint gives"
    if subject.made(batch_size=2).fingerprint != scorer.fingerprint:
        return "the fingerprint changes with the batch size, which changes no score"
    if subject.made().fingerprint != scorer.fingerprint:
        return "the fingerprint is another one when the scorer is loaded again"
    images, prompts = subject.inputs()
    scores = scorer.score(images, prompts)
    for changes in _changes(subject):
        try:
            other = subject.made(**changes)
        # A protocol that wants other weights, or a dtype that this machine cannot compute in.
        except InputError:
            continue
        if other.fingerprint == scorer.fingerprint and _moved(scores, other.score(images, prompts), subject.dtype, 0):
            ((key, value),) = changes.items()
            return f"{key} = {value} changes scores and not the fingerprint, so a cache would mix them; put it in"
    return ""


def _changes(subject: Subject) -> Iterator[dict[str, Any]]:
    yield from ({"protocol": p} for p in scorers.load(subject.name).PROTOCOLS if p != subject.protocol)
    yield from ({"dtype": d} for d in scorers.DTYPES if d != subject.dtype)
    for name, value in scorers.defaults(subject.name).items():
        other = not value if isinstance(value, bool) else value + 1 if isinstance(value, int | float) else None
        if other is not None:
            yield {"options": {**subject.options.get("options", {}), name: other}}


CHECKS: dict[str, Callable[[Subject], str]] = {
    "one number an image": numbers,
    "the same again": repeated,
    "pictures beside": batched,
    "fingerprint": fingerprinted,
}


def failures(subject: Subject) -> list[str]:
    """Everything that a scorer fails, one line a check."""
    file = getattr(scorers.load(subject.name), "__file__", None)
    lines: list[str] = []
    for name, find in CHECKS.items():
        try:
            line = find(subject)
        # The other checks would be refused the same.
        except InputError as error:
            return [*lines, f"{name}: {error} (other pictures and prompts: --images DIR, --prompt TEXT)"]
        # Whoever wrote the scorer is to read where it fails.
        except Exception as error:
            line = place(error, file)
        lines += [f"{name}: {line}"] if line else []
    return lines


def check_scorer(subject: Subject) -> int:
    """Check a scorer and print what was found; 1 if a check fails, else 0.

    Raises:
        InputError: there is no such scorer, it is not what one must be, or it cannot be loaded.
    """
    subject.made()
    lines = failures(subject)
    found = "ok" if not lines else f"{len(lines)} of {len(CHECKS)} checks fail"
    print(f"{subject.name} {subject.protocol} {subject.dtype}: {found}")
    for line in lines:
        print(f"  {line}")
    return int(bool(lines))


def _moved(expected: NDArray[np.float64], found: NDArray[np.float64], dtype: str, share: float | None = None) -> str:
    """By how much scores differ, if by more than rounding."""
    import numpy as np

    if len(expected) != len(found):
        return f"{len(found)} scores of {len(expected)} pictures"
    allowed = (ROUNDING[dtype] if share is None else share) * max(float(np.abs(expected).max()), 1e-3)
    with np.errstate(invalid="ignore"):
        differences = np.abs(found - expected)
    if (differences <= allowed).all():
        return ""
    worst = int(np.argmax(np.where(np.isnan(differences), np.inf, differences)))
    return f"picture {worst} has {found[worst]:.6g} instead of {expected[worst]:.6g}"
