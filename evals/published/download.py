"""One file over HTTP, resumed where an earlier attempt was cut off."""

from __future__ import annotations

import http.client
import json
import re
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

from artifacts.atomic import write_json
from artifacts.errors import InputError
from artifacts.progress import progress

_PIECE = 1 << 20
_TIMEOUT_SECONDS = 60.0
ATTEMPTS = 5


class _CutError(Exception):
    """The connection ended early; what has come so far is kept."""


def download(url: str, partial: Path, *, bytes: int | None = None, wait: float = 2.0, label: str | None = None) -> None:
    """Fetch ``url`` into ``partial``, from where an earlier attempt left it.

    ``<partial>.json`` beside it says what ``partial`` is a part of. Both stay: after a failure, so that the next call
    goes on; when the file is whole, so that it is not fetched again if its use is cut off. See :func:`forget`.

    Args:
        bytes: length of the whole file, if known.
        wait: seconds before the first new attempt; doubled with each that gains nothing, :data:`ATTEMPTS` at most.
        label: name of the progress bar, which counts MiB; ``None`` shows none.

    Raises:
        InputError: the server refuses, does not answer, or has a file of another length.
    """
    if not url.startswith(("http://", "https://")):
        raise InputError(f"{url}: not an http address; set HF_ENDPOINT to one that starts with https://")
    partial.parent.mkdir(parents=True, exist_ok=True)
    failures = 0
    while True:
        before = _length(partial)
        try:
            _attempt(url, partial, bytes, label)
        except (_CutError, urllib.error.URLError, http.client.HTTPException, OSError) as error:
            if isinstance(error, OSError) and error.errno == 28:  # no space left
                raise InputError(
                    f"{partial}: no space left on the disk; free some and run the command again"
                ) from error
            if isinstance(error, urllib.error.HTTPError) and error.code < 500 and error.code != 429:
                raise InputError(
                    f"{url}: the server answers {error.code} {error.reason}; see that the address is right"
                ) from error
            failures = 1 if _length(partial) > before else failures + 1
            if failures >= ATTEMPTS:
                reason = getattr(error, "reason", None) or error
                kept = f"{_length(partial)} bytes are kept, run the command again to go on"
                raise InputError(f"{url}: cannot be fetched ({reason}); {kept}") from error
            time.sleep(wait * 2 ** (failures - 1))
        else:
            return


def forget(partial: Path) -> None:
    """Remove what :func:`download` left, once it has been taken or is of no use."""
    partial.unlink(missing_ok=True)
    _state(partial).unlink(missing_ok=True)


def _attempt(url: str, partial: Path, expected: int | None, label: str | None) -> None:
    """One request; returns when the file is whole."""
    state = _read_state(partial)
    if state.get("url") != url:
        partial.unlink(missing_ok=True)
        state = {}
    have = _length(partial)
    headers = {"User-Agent": "sdpo-bench", "Accept-Encoding": "identity"}
    if have:
        headers["Range"] = f"bytes={have}-"
        if state.get("etag"):
            # The server sends the whole file again if it has changed since.
            headers["If-Range"] = state["etag"]
    try:
        response = urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=_TIMEOUT_SECONDS)
    except urllib.error.HTTPError as error:
        if error.code != 416 or not have:
            raise
        if _total(error.headers.get("Content-Range")) == have:
            return
        partial.unlink()
        raise _CutError("the kept part is not of this file") from error
    with response:
        if response.status == 206:
            served = response.headers.get("Content-Range", "")
            total = _total(served)
            if not served.startswith(f"bytes {have}-"):
                partial.unlink()
                raise _CutError("the server sends another part than asked for")
        else:
            have = 0
            length = response.headers.get("Content-Length")
            total = int(length) if length is not None else None
        if expected is not None and total is not None and total != expected:
            partial.unlink(missing_ok=True)
            raise InputError(f"{url}: has {total} bytes, expected {expected}; the file is not the published one")
        etag = response.headers.get("ETag", "")
        # Weak tags may stand for different bytes.
        write_json(_state(partial), {"url": url, "etag": "" if etag.startswith("W/") else etag})
        mebibytes = None if total is None else -(-total // _PIECE)
        with (
            partial.open("ab" if have else "wb") as file,
            progress(total=mebibytes, initial=have // _PIECE, label=label, unit="MiB") as bar,
        ):
            while piece := response.read(_PIECE):
                file.write(piece)
                have += len(piece)
                bar.update(have // _PIECE - bar.n)
    if total is not None and have < total:
        raise _CutError(f"the connection ended after {have} of {total} bytes")


def _state(partial: Path) -> Path:
    return partial.with_name(partial.name + ".json")


def _read_state(partial: Path) -> dict[str, Any]:
    try:
        content = json.loads(_state(partial).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def _length(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _total(content_range: str | None) -> int | None:
    """The whole length in ``bytes 5-9/10`` or ``bytes */10``."""
    found = re.fullmatch(r"bytes (?:\d+-\d+|\*)/(\d+)", content_range or "")
    return int(found[1]) if found else None
