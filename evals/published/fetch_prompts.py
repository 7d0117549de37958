"""``evals prompts fetch``, and how a prompt source comes by its published files: a cache, checked on every use.

A cache has one folder a source. A file is downloaded once, and takes its name only when its SHA-256 is the pinned one.
"""

from __future__ import annotations

from pathlib import Path

from artifacts.atomic import file_sha256
from artifacts.errors import InputError
from artifacts.file_names import user_path
from artifacts.locks import held
from artifacts.plugins import nearest
from evals.published import download
from evals.published.prompts import PROMPTS
from evals.published.weights import PublishedFile

CACHE = "resources/prompt_sets"


def fetch(name: str, to: str | Path, *, offline: bool = False) -> None:
    """Fetch published prompt sets, and write each as ``<to>/<name>.parquet``, the contract ``prompts``.

    Args:
        name: a source of :data:`evals.published.prompts.PROMPTS`, or ``all``.
        to: the cache; give it to a prompt source as ``cache``.
        offline: never touch the network; files that were put into the cache by hand are verified.

    Raises:
        InputError: unknown name, a wrong digest, a file missing ``offline``, or the download fails.
    """
    if name != "all" and name not in PROMPTS:
        known = [*PROMPTS, "all"]
        raise InputError(f"no published prompt set '{name}': expected one of {', '.join(known)}{nearest(name, known)}")
    from evals.prompts import write

    for source in PROMPTS if name == "all" else [name]:
        out = Path(to) / f"{source}.parquet"
        options = {"cache": str(to), "offline": offline}
        write({"prompt_set": source, "source": source, "limit": None, "options": options, "out": str(out)})
        print(f"{out}: written")


def published_file(source: str, file: PublishedFile, *, cache: str | Path, offline: bool) -> Path:
    """The verified file in the cache, or the hub's; downloaded if it is in neither.

    Raises:
        InputError: a wrong digest, the file missing ``offline``, the cache not writable, or the download fails.
    """
    path = cached(source, file, cache)
    if not path.is_file():
        if offline and download.cached(file) is None:
            raise InputError(f"prompt source '{source}': {path}: missing, and offline; put {file.url()} there")
        with held(path.parent / ".lock", doing="fetches prompts"):
            # Another process may have fetched it while this one waited.
            if not path.is_file():
                _take(file, path)
    digest = file_sha256(path)
    if digest != file.sha256:
        raise InputError(
            f"prompt source '{source}': {path}: sha256 is {digest}, expected {file.sha256}; delete it to have it "
            "fetched again"
        )
    return path


def local_file(source: str, path: str, sha256: str | None) -> Path:
    """A file of the user's, verified.

    Args:
        sha256: hex digest that it must have; ``None`` where none is known.

    Raises:
        InputError: there is no such file, or it has another digest.
    """
    try:
        digest = file_sha256(path)
    except OSError as error:
        raise InputError(f"prompt source '{source}': {path}: {error.strerror}; give a readable file") from error
    if sha256 is not None and digest != sha256:
        raise InputError(
            f"prompt source '{source}': {path}: sha256 is {digest}, expected {sha256}; give the published file, or the "
            "digest of yours as option of its own"
        )
    return Path(path)


def cached(source: str, file: PublishedFile, cache: str | Path = CACHE) -> Path:
    """Where the cache keeps a file."""
    return user_path(cache) / source / file.target


def _take(file: PublishedFile, path: Path) -> None:
    try:
        with download.obtained(file, path.parent, download.cached(file)) as source:
            digest = download.verify(source, file, file.sha256)
            download.place(source, path)
    except InputError as error:
        raise InputError(f"{error}; or put the file there by hand: {path}") from error
    print(f"{path}: fetched from {file.url()}, sha256 {digest}")
