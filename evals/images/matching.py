"""Which image of a folder belongs to which prompt: by name where names say it, by number else, never by chance.

In this order:

1. The prompt file names the images, which may lie in folders below: those.
2. The folder is one of ours, with ``manifest.parquet``, and the prompts have ids: by the manifest.
3. Prompts have ids and images are named by them (``seen-00000.png``): by id.
4. Several images of each prompt, as many of all, by the names of :mod:`evals.images.several`: ``7_0.png``, ``7_1.png``,
   or ``00007/samples/0000.png``.
5. A running number in the names (``0.png``, ``1.png``, … ``10.png``; from 0 or 1, none left out): by number. It is the
   prompt's own number where the ids end in numbers, and the place of its row where they do not.

Everything else is refused, unless the caller says that sorted order is the prompts' order. Names and ids are compared
in one Unicode form.
"""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath, PureWindowsPath

from artifacts.errors import InputError
from artifacts.file_names import FileNames, check_distinct, natural_key, normal
from artifacts.prompt_text import is_text
from evals.images.running_numbers import id_numbers, running_numbers, shown
from evals.images.several import grouped, place_of
from evals.prompts.prompt_file import FilePrompt

SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff", ".gif")
MANIFEST = "manifest.parquet"


@dataclass(frozen=True, slots=True)
class PromptedImage:
    """An image, by its path below the folder with ``/`` between parts, and its prompt.

    Attributes:
        prompt_id: of a prompt of a benchmark.
        sha256: digest that the file has to have.
        image: which of that prompt's images it is, from 0.
    """

    file: str
    prompt: str
    prompt_id: str | None = None
    sha256: str | None = None
    image: int = 0

    @property
    def called(self) -> str:
        """What messages call it."""
        if self.prompt_id is None:
            return self.file
        return f"{f'image {self.image} of ' if self.image else ''}prompt_id '{self.prompt_id}'"


@dataclass(frozen=True)
class Matching:
    """Images with prompts, in the prompts' order; ``how`` they were matched, and files that no prompt names."""

    images: tuple[PromptedImage, ...]
    how: str
    unused: tuple[str, ...] = ()


def list_images(folder: str | Path, *, below: bool = False) -> list[str]:
    """Names of the image files in a folder, in natural order; hidden files and folders are passed over.

    Args:
        below: also those in the folders below it; then there may be none.

    Raises:
        InputError: there is no such folder, it cannot be read, or holds no images; or a name is not UTF-8, which no
            table could hold, or two differ by their Unicode form only.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise InputError(f"{folder}: {'is a file' if folder.exists() else 'no such folder'}; give a folder of images")
    names = _image_files(folder)
    if not below:
        deeper, names = len(names), [name for name in names if "/" not in name]
        if not names:
            which = f"; {deeper} lie in folders below, so name them in the prompt file, column file" if deeper else ""
            raise InputError(f"{folder}: holds no images ({', '.join(SUFFIXES)}); give the folder they lie in{which}")
    for name in names:
        if not is_text(name):
            raise InputError(f"{folder}: the name {name!a} of an image is not UTF-8; rename the file")
    check_distinct(folder, names)
    return sorted(names, key=natural_key)


def _image_files(folder: Path) -> list[str]:
    """Paths of images below a folder, with ``/`` between parts."""

    def unreadable(error: OSError) -> None:
        raise InputError(f"{error.filename}: {error.strerror}; give a readable folder of images") from error

    names = []
    for place, folders, files in os.walk(folder, onerror=unreadable):
        folders[:] = [name for name in folders if not name.startswith(".")]
        # A folder or a dangling link under an image's name is listed, and found to be none when it is read.
        images = [name for name in (*folders, *files) if Path(name).suffix.lower() in SUFFIXES and name[0] != "."]
        names += [(Path(place) / name).relative_to(folder).as_posix() for name in images]
    return names


def match(
    folder: str | Path,
    prompts: Sequence[FilePrompt],
    prompts_file: str | Path,
    *,
    in_order: bool = False,
    missing: bool = False,
) -> Matching:
    """Match images and prompts.

    Args:
        in_order: take the images in natural order where neither names nor numbers decide.
        missing: match images that are named and not there, too; whoever reads them finds out.

    Raises:
        InputError: an image is missing and may not be, or is named twice, or there are not as many as prompts; or
            nothing says which image belongs to which prompt, or two things say it differently.
    """
    folder, source = Path(folder), Path(prompts_file)
    if prompts[0].file is not None:
        return _by_name(folder, [(p, str(p.file)) for p in prompts], source, f"by the names in {source.name}", missing)
    if (several := _several(folder, prompts, source)) is not None:
        return several
    found = list_images(folder)
    ids = [None if prompt.prompt_id is None else normal(prompt.prompt_id) for prompt in prompts]
    if None not in ids:
        _once([(str(prompt_id), p.where) for p, prompt_id in zip(prompts, ids, strict=True)], source, "prompt_id")
        if (folder / MANIFEST).is_file():
            return _by_manifest(folder, prompts, source, missing)
        stems = {normal(PurePosixPath(name).stem): name for name in _distinct_stems(folder, found)}
        if any(prompt_id in stems for prompt_id in ids):
            suffix = Path(found[0]).suffix
            pairs = [(p, stems.get(str(i), f"{i}{suffix}")) for p, i in zip(prompts, ids, strict=True)]
            return _by_name(folder, pairs, source, "by prompt_id", missing)
    return _by_number(folder, found, prompts, source, in_order)


def _by_name(folder: Path, pairs: Sequence[tuple[FilePrompt, str]], source: Path, how: str, missing: bool) -> Matching:
    found, names = list_images(folder, below=True), FileNames(folder)
    images, absent = [], []
    for prompt, name in pairs:
        pure = PureWindowsPath(name) if "\\" in name else PurePosixPath(name)
        if pure.anchor or ".." in pure.parts:
            raise InputError(f"{source}: {prompt.where}: '{name}' leads out of {folder}; name images relative to it")
        path = names.find(name)
        images.append(PromptedImage(path.relative_to(folder).as_posix(), prompt.text))
        if not path.exists():
            absent.append((prompt, path))
    _once([(image.file, prompt.where) for image, (prompt, _) in zip(images, pairs, strict=True)], source, "image")
    if absent and not missing:
        prompt, path = absent[0]
        raise InputError(
            f"{path}: no such image, but {source} has its prompt ({prompt.where}; {len(absent)} missing in all); add "
            "the images or remove the rows"
        )
    named = {image.file for image in images}
    return Matching(tuple(images), how, tuple(name for name in found if name not in named))


def _by_manifest(folder: Path, prompts: Sequence[FilePrompt], source: Path, missing: bool) -> Matching:
    from artifacts.contracts import read_table

    manifest = read_table(folder / MANIFEST, "manifest")
    manifest = manifest.sort_values("image", kind="stable")
    files = manifest.groupby("prompt_id")["file"].agg(list).to_dict()
    for prompt in prompts:
        if prompt.prompt_id not in files:
            raise InputError(
                f"{folder / MANIFEST}: lists no image for prompt_id '{prompt.prompt_id}' of {source}; give the "
                "prompts that the images were made from"
            )
    pairs = [(prompt, str(file)) for prompt in prompts for file in files[str(prompt.prompt_id)]]
    return _by_name(folder, pairs, source, f"by {MANIFEST}", missing)


def _several(folder: Path, prompts: Sequence[FilePrompt], source: Path) -> Matching | None:
    """Several images of each prompt; ``None`` where the names do not say so, or a manifest says it."""
    if (folder / MANIFEST).is_file() or not folder.is_dir():
        return None
    names = list_images(folder, below=True)
    if any(place_of(name) is None for name in names):
        return None
    numbers = id_numbers(prompts, source) or range(len(prompts))
    if (found := grouped(names, numbers)) is None:
        return None
    images = [PromptedImage(name, prompt.text) for prompt, files in zip(prompts, found, strict=True) for name in files]
    return Matching(tuple(images), f"by number, {len(found[0])} of each prompt")


def _by_number(
    folder: Path, found: Sequence[str], prompts: Sequence[FilePrompt], source: Path, in_order: bool
) -> Matching:
    named = "give a .csv or .jsonl with the columns file and prompt"
    _distinct_stems(folder, found)
    if len(found) != len(prompts):
        raise InputError(
            f"{folder}: {len(found)} images ({found[0]} … {found[-1]}), but {source} has {len(prompts)} prompts; "
            f"complete them, or {named}"
        )
    stems = [PurePosixPath(name).stem for name in found]
    numbers, ids, rows = running_numbers(folder, found, stems), id_numbers(prompts, source), list(prompts)
    alone = len(found) == 1 and not re.search("[0-9]", PurePosixPath(found[0]).stem)
    if numbers is None and not in_order and not alone:
        raise InputError(
            f"{folder}: the names ({shown(found)}) hold no number that runs from 0 or 1 without a gap, so they do not "
            f"say which prompt is whose; {named}, or say --in-order if sorted order is the prompts' order"
        )
    if ids is not None and not alone:
        # By number, and where the images have none, refused unless both orders are the same.
        rows = [prompt for _, prompt in sorted(zip(ids, prompts, strict=True), key=lambda pair: pair[0])]
        if sorted(ids) != numbers and (rows != list(prompts) or not in_order):
            raise InputError(
                f"{source}: the prompts' ids ({shown([str(p.prompt_id) for p in prompts])}) are not the numbers of "
                f"the images ({shown(found)}) in {folder}; {named}, or sort the rows by their ids and say --in-order "
                "if that is the images' order"
            )
    if numbers is None:
        how = "by sorted order, as asked for" if in_order else "by the only name"
    else:
        how = "by the running number in the names"
    images = tuple(PromptedImage(name, prompt.text) for name, prompt in zip(found, rows, strict=True))
    return Matching(images, how)


def _distinct_stems(folder: Path, names: Sequence[str]) -> Sequence[str]:
    """``names`` if no two differ by their suffix only, as ``0.png`` and ``0.jpg`` do."""
    stem, count = Counter(normal(PurePosixPath(name).stem) for name in names).most_common(1)[0]
    if count > 1:
        twins = ", ".join(name for name in names if normal(PurePosixPath(name).stem) == stem)
        raise InputError(f"{folder}: {twins} have one name; keep one, or name the images in the prompt file")
    return names


def _once(values: Sequence[tuple[str, str]], source: Path, what: str) -> None:
    seen: dict[str, str] = {}
    for value, where in values:
        if value in seen:
            raise InputError(f"{source}: {what} '{value}' stands at {seen[value]} and at {where}; expected once")
        seen[value] = where
