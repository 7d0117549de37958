"""Which image of a folder belongs to which prompt: by name where names say it, by number else, never by chance.

In this order:

1. The prompt file names the images: those.
2. The folder is one of ours, with ``manifest.parquet``, and the prompts have ids: by the manifest.
3. Prompts have ids and images are named by them (``seen-00000.png``): by id.
4. A running number in the names (``0.png``, ``1.png``, … ``10.png``; from 0 or 1, none left out): by number.

Everything else is refused, unless the caller says that sorted order is the prompts' order.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from artifacts.errors import InputError
from artifacts.prompt_text import is_text
from evals.prompt_file import FilePrompt

SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff", ".gif")
MANIFEST = "manifest.parquet"


@dataclass(frozen=True)
class PromptedImage:
    """An image, by its path below the folder with ``/`` between parts, and its prompt."""

    file: str
    prompt: str


@dataclass(frozen=True)
class Matching:
    """Images with prompts, in the prompts' order; ``how`` they were matched, and files that no prompt names."""

    images: tuple[PromptedImage, ...]
    how: str
    unused: tuple[str, ...] = ()


def natural_key(name: str) -> list[tuple[int, int, str]]:
    """Sort key by which ``2.png`` comes before ``10.png``."""
    return [(0, int(part), part) if part.isdecimal() else (1, 0, part) for part in re.split(r"([0-9]+)", name) if part]


def list_images(folder: str | Path) -> list[str]:
    """Names of the image files in a folder, in natural order; hidden files and folders are passed over.

    Raises:
        InputError: there is no such folder, it cannot be read, or holds no images; or a name is not UTF-8, which no
            table could hold.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise InputError(f"{folder}: {'is a file' if folder.exists() else 'no such folder'}; give a folder of images")
    try:
        names = [path.name for path in folder.iterdir() if path.suffix.lower() in SUFFIXES]
    except OSError as error:
        raise InputError(f"{folder}: {error.strerror}; give a readable folder of images") from error
    names = [name for name in names if not name.startswith(".")]
    if not names:
        raise InputError(f"{folder}: holds no images ({', '.join(SUFFIXES)}); give the folder they lie in")
    for name in names:
        if not is_text(name):
            raise InputError(f"{folder}: the name {name!a} of an image is not UTF-8; rename the file")
    return sorted(names, key=natural_key)


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
            nothing says which image belongs to which prompt.
    """
    folder, source = Path(folder), Path(prompts_file)
    found = list_images(folder)
    if prompts[0].file is not None:
        return _by_name(
            folder, found, [(p, str(p.file)) for p in prompts], source, f"by the names in {source.name}", missing
        )
    ids = [prompt.prompt_id for prompt in prompts]
    if None not in ids:
        _once([(str(prompt.prompt_id), prompt.where) for prompt in prompts], source, "prompt_id")
        if (folder / MANIFEST).is_file():
            return _by_manifest(folder, found, prompts, source, missing)
        stems = {PurePosixPath(name).stem: name for name in _distinct_stems(folder, found)}
        if any(prompt_id in stems for prompt_id in ids):
            pairs = [(p, stems.get(str(p.prompt_id), f"{p.prompt_id}{Path(found[0]).suffix}")) for p in prompts]
            return _by_name(folder, found, pairs, source, "by prompt_id", missing)
    return _by_order(folder, found, prompts, source, in_order)


def _by_name(
    folder: Path,
    found: Sequence[str],
    pairs: Sequence[tuple[FilePrompt, str]],
    source: Path,
    how: str,
    missing: bool,
) -> Matching:
    for prompt, name in pairs:
        pure = PurePosixPath(name)
        if pure.is_absolute() or ".." in pure.parts:
            raise InputError(f"{source}: {prompt.where}: '{name}' leads out of {folder}; name images relative to it")
    cleaned = [(prompt, PurePosixPath(name).as_posix()) for prompt, name in pairs]
    _once([(name, prompt.where) for prompt, name in cleaned], source, "image")
    absent = [(prompt, name) for prompt, name in cleaned if not (folder / name).exists()]
    if absent and not missing:
        prompt, name = absent[0]
        raise InputError(
            f"{folder / name}: no such image, but {source} has its prompt ({prompt.where}; {len(absent)} missing in "
            "all); add the images or remove the rows"
        )
    named = {name for _, name in cleaned}
    images = tuple(PromptedImage(name, prompt.text) for prompt, name in cleaned)
    return Matching(images, how, tuple(name for name in found if name not in named))


def _by_manifest(
    folder: Path, found: Sequence[str], prompts: Sequence[FilePrompt], source: Path, missing: bool
) -> Matching:
    from artifacts.contracts import read_table

    manifest = read_table(folder / MANIFEST, "manifest")
    files = dict(zip(manifest["prompt_id"], manifest["file"], strict=True))
    for prompt in prompts:
        if prompt.prompt_id not in files:
            raise InputError(
                f"{folder / MANIFEST}: lists no image for prompt_id '{prompt.prompt_id}' of {source}; give the "
                "prompts that the images were made from"
            )
    pairs = [(prompt, str(files[prompt.prompt_id])) for prompt in prompts]
    return _by_name(folder, found, pairs, source, f"by {MANIFEST}", missing)


def _by_order(
    folder: Path, found: Sequence[str], prompts: Sequence[FilePrompt], source: Path, in_order: bool
) -> Matching:
    named = "give a .csv or .jsonl with the columns file and prompt"
    _distinct_stems(folder, found)
    if len(found) != len(prompts):
        raise InputError(
            f"{folder}: {len(found)} images ({found[0]} … {found[-1]}), but {source} has {len(prompts)} prompts; "
            f"complete them, or {named}"
        )
    if _is_running(found) or (len(found) == 1 and not re.search("[0-9]", PurePosixPath(found[0]).stem)):
        how = "by the running number in the names"
    elif in_order:
        how = "by sorted order, as asked for"
    else:
        raise InputError(
            f"{folder}: the names ({', '.join(found[:3])}{' …' if len(found) > 3 else ''}) hold no number that runs "
            f"from 0 or 1 without a gap, so they do not say which prompt is whose; {named}, or say --in-order if "
            "sorted order is the prompts' order"
        )
    images = tuple(PromptedImage(name, prompt.text) for name, prompt in zip(found, prompts, strict=True))
    return Matching(images, how)


def _is_running(names: Sequence[str]) -> bool:
    """Whether some number in the names runs from 0 or 1 by ones in the given order."""
    numbers = [[int(digits) for digits in re.findall("[0-9]+", PurePosixPath(name).stem)] for name in names]
    columns = zip(*(row[: min(map(len, numbers))] for row in numbers), strict=True)
    return any(
        list(column) == list(range(column[0], column[0] + len(names))) and column[0] in (0, 1) for column in columns
    )


def _distinct_stems(folder: Path, names: Sequence[str]) -> Sequence[str]:
    """``names`` if no two differ by their suffix only, as ``0.png`` and ``0.jpg`` do."""
    stem, count = Counter(PurePosixPath(name).stem for name in names).most_common(1)[0]
    if count > 1:
        twins = ", ".join(name for name in names if PurePosixPath(name).stem == stem)
        raise InputError(f"{folder}: {twins} have one name; keep one, or name the images in the prompt file")
    return names


def _once(values: Sequence[tuple[str, str]], source: Path, what: str) -> None:
    seen: dict[str, str] = {}
    for value, where in values:
        if value in seen:
            raise InputError(f"{source}: {what} '{value}' stands at {seen[value]} and at {where}; expected once")
        seen[value] = where
