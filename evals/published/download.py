"""Published files as they were published: from the hub's cache, from the hub, or from a plain address."""

from __future__ import annotations

import http.client
import os
import shutil
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from artifacts import hub
from artifacts.atomic import file_sha256, replaced_file
from artifacts.errors import InputError
from evals.published.weights import PublishedFile

FETCHED = ".fetched"
"""Folder of files that have come and have not been taken yet."""
_TIMEOUT_SECONDS = 60.0


def cached(file: PublishedFile) -> Path | None:
    """The file in the hub's cache, where another program may have put it."""
    if not file.repository:
        return None
    return hub.cached_file(file.repository, file.revision, file.name, kind=file.kind)


@contextmanager
def obtained(file: PublishedFile, folder: Path, at_hand: Path | None) -> Iterator[Path]:
    """The file, to be verified and taken within the block: ``at_hand``, or fetched below ``folder``.

    What is fetched is removed after the block. Where the process ends within, it stays, and what came from the hub is
    not fetched again.

    Raises:
        InputError: the file cannot be fetched, or the block has raised one, to which the file is added.
    """
    source = at_hand or _fetch(file, folder)
    try:
        yield source
    except InputError as error:
        shutil.rmtree(folder / FETCHED, ignore_errors=True)
        name, what = (source, "is left there; remove it") if at_hand else (file.url(), "was removed")
        raise InputError(
            f"{name}: {error}; the file {what}. Fetch it again; if that does not help, the publisher has changed it"
        ) from error
    shutil.rmtree(folder / FETCHED, ignore_errors=True)


def verify(source: Path, file: PublishedFile, expected: str | None) -> str:
    """Hex SHA-256 of the file at ``source``.

    Raises:
        InputError: another length is published, or another digest is ``expected``.
    """
    if file.bytes not in (None, length := source.stat().st_size):
        raise InputError(f"has {length} bytes, expected {file.bytes}")
    if (digest := file_sha256(source)) != (expected or digest):
        raise InputError(f"sha256 is {digest}, expected {expected}")
    return digest


def place(source: Path, target: Path) -> None:
    """Give the file of :func:`obtained` its own name; what was not fetched is copied."""
    target.parent.mkdir(parents=True, exist_ok=True)
    if FETCHED in source.parts:
        # The hub's library gives a link to it.
        os.replace(source.resolve(), target)
    elif source != target:
        with replaced_file(target) as temporary:
            shutil.copyfile(source, temporary)


def _fetch(file: PublishedFile, folder: Path) -> Path:
    if file.bytes is not None:
        # A converted file lies beside its source for a moment.
        needed, free = file.bytes * (2 if file.converted else 1), shutil.disk_usage(folder).free
        if free < needed:
            raise InputError(
                f"{folder}: {free / 1e9:.1f} GB are free, {file.base_name} needs {needed / 1e9:.1f} GB; "
                "free some or give another --to"
            )
    try:
        if file.repository:
            return hub.fetch_file(file.repository, file.revision, file.name, folder / FETCHED, kind=file.kind)
        return download(file.url(), folder / FETCHED / file.base_name)
    except InputError as error:
        shutil.rmtree(folder / FETCHED, ignore_errors=True)
        raise InputError(f"{file.url()}: cannot be fetched ({error}); see to that and run the command again") from error


def download(url: str, path: Path, *, wait: float = 2.0) -> Path:
    """Fetch a small file from a plain address.

    Args:
        wait: seconds before the second of five attempts, doubled with each.

    Raises:
        InputError: the server refuses, or does not answer.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    request = urllib.request.Request(url, headers={"User-Agent": "sdpo-bench"})
    for pause in (wait, 2 * wait, 4 * wait, 8 * wait, None):
        try:
            with urllib.request.urlopen(request, timeout=_TIMEOUT_SECONDS) as response:
                # A connection that ends early is an error here.
                path.write_bytes(response.read())
            return path
        except urllib.error.HTTPError as error:
            reason, again = f"the server answers {error.code} {error.reason}", error.code >= 500 or error.code == 429
        except (http.client.HTTPException, OSError) as error:
            reason, again = str(error), True
        if pause is None or not again:
            raise InputError(reason)
        time.sleep(pause)
    raise AssertionError
