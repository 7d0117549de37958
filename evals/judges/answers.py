"""Which answer of a judge is about which image, by names and prompts: each image once, and nothing left over."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from artifacts.errors import InputError
from artifacts.file_names import normal
from artifacts.image_decoding import BrokenImageError, decode
from artifacts.prompt_text import same
from evals.images.several import place_of

if TYPE_CHECKING:
    from evals.judges.result_files import Answer, Results


@dataclass(frozen=True)
class JudgedImage:
    """An image that an answer may be about.

    Attributes:
        file: below its folder, with ``/`` between parts.
        prompt: of the image.
        row: of its prompt in the set, from 0.
        image: which of the prompt's images, from 0.
        item: what the set's publisher calls the prompt, or the number of it that a folder's file is named by; empty if
            there is neither.
    """

    file: str
    prompt: str
    row: int
    image: int
    item: str = ""


def scores_of(images: Sequence[JudgedImage], results: Results, owner: str | Path) -> list[float]:
    """The score of each image, in their order.

    An answer names its image by the file, or by its place in GenEval's layout (``00007/samples/0001.png``) and its
    prompt, since a judge may have numbered prompts in another order; or its prompt, by the publisher's name, its row or
    its text, and which of that prompt's images. Where the file does not say which, answers to one prompt are taken in
    the order of its images.

    Args:
        results: of the judge.
        owner: folder of the images.

    Raises:
        InputError: an answer is about none of the images, about another prompt, or about a picture that is still there
            and is another one; an image has no answer, or two.
    """
    match, source = _Index(images), results.path
    found: dict[int, Answer] = {}
    for answer in results.answers:
        where = f"{source}: {answer.where}"
        at = match.place(answer, found)
        called = answer.file or answer.item or (answer.prompt or "")[:60]
        if at is None:
            numbered = answer.file is not None and answer.prompt is None and place_in_geneval(answer.file) is not None
            remedy = "; a prompt's number counts only beside the prompt: add a column prompt" if numbered else ""
            raise InputError(f"{where}: '{called}' is none of the {len(images)} images of {owner}{remedy}")
        image = images[at]
        if answer.prompt is not None and same(answer.prompt) != same(image.prompt):
            raise InputError(
                f"{where}: '{called}' was judged with the prompt '{answer.prompt[:60]}', but {image.file} of {owner} "
                f"has '{image.prompt[:60]}'"
            )
        if answer.file is not None and _is_another(answer.file, Path(owner) / image.file):
            raise InputError(
                f"{where}: '{called}' is there and shows something else than {image.file} of {owner}; give the results "
                "of these images, or their names without the folder"
            )
        if at in found:
            raise InputError(f"{where}: {image.file} has an answer at {found[at].where} too; expected one an image")
        found[at] = answer
    if missing := [image for at, image in enumerate(images) if at not in found]:
        raise InputError(
            f"{source}: has no answer for {missing[0].file} ('{missing[0].prompt[:60]}') of {owner}; {len(missing)} of "
            f"{len(images)} images are without one"
        )
    return [found[at].score for at in range(len(images))]


def _is_another(named: str, image: Path) -> bool:
    """Whether the file that a judge was told lies where it says and is another picture of the same size.

    All models have images of the same names. A copy of another size says nothing of what it was made from.
    """
    path = Path(named)
    if len(path.parts) < 2 or not (path.is_file() and image.is_file()):
        return False
    ours, theirs = image.read_bytes(), path.read_bytes()
    if ours == theirs:
        return False
    try:
        first, second = (decode(content).image for content in (ours, theirs))
    except BrokenImageError:
        return False
    return first.size == second.size and first.tobytes() != second.tobytes()


def place_in_geneval(file: str) -> tuple[int, int] | None:
    """Number of the prompt, and which of its images, where a path ends in GenEval's layout."""
    parts = PurePosixPath(file.replace("\\", "/")).parts
    return place_of("/".join(parts[-3:])) if len(parts) > 1 else None


class _Index:
    """Images by all that an answer may call them."""

    def __init__(self, images: Sequence[JudgedImage]) -> None:
        self.files: dict[str, int] = {}
        self.names: dict[str, list[int]] = defaultdict(list)
        self.places: dict[tuple[int, int], int] = {}
        self.items: dict[str, list[int]] = defaultdict(list)
        self.texts: dict[str, list[int]] = defaultdict(list)
        for at, image in enumerate(images):
            self.files[normal(image.file)] = at
            self.names[normal(PurePosixPath(image.file).name)].append(at)
            self.places[image.row, image.image] = at
            self.items[image.item or str(image.row)].append(at)
            self.texts[same(image.prompt)].append(at)

    def place(self, answer: Answer, taken: dict[int, Answer]) -> int | None:
        """Place of the image that an answer is about."""
        if answer.file is not None:
            return self._by_file(normal(answer.file.replace("\\", "/")), told=answer.prompt is not None)
        if answer.item is not None:
            number = answer.item.lstrip("0") or "0"
            several = self.items.get(answer.item) or (self.items.get(number, []) if answer.item.isdecimal() else [])
        else:
            several = self.texts.get(same(answer.prompt or ""), [])
        if answer.image is not None:
            return several[answer.image] if answer.image < len(several) else None
        # Where all are taken, the last is named as one that is answered twice.
        return next((at for at in several if at not in taken), several[-1] if several else None)

    def _by_file(self, file: str, *, told: bool) -> int | None:
        # A judge may be told a whole path: what stands behind the folder of images counts.
        parts = PurePosixPath(file).parts
        for start in range(max(1, len(parts) - 1)):
            if (at := self.files.get("/".join(parts[start:]))) is not None:
                return at
        # Before the name alone, which is the same below every prompt there. A number alone is a name, and no place.
        if (place := place_in_geneval(file)) is not None:
            return self.places.get(place) if told else None
        named = self.names.get(parts[-1] if parts else "", [])
        return named[0] if len(named) == 1 else None
