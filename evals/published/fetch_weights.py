"""``evals weights fetch``: published weights, verified, as safetensors, in the layout that the scorers load.

Each scorer gets a folder with its files and ``fetched.json``, which records of every file where it came from and the
SHA-256 of what was fetched and of what it became. A digest that stands there, or in
:mod:`evals.published.weights`, must be met by every later fetch.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from artifacts.atomic import file_sha256, replaced_file, write_json
from artifacts.errors import InputError
from artifacts.locks import held
from artifacts.plugins import nearest
from evals.published import download
from evals.published.fetched_weights import RECORD, read_record
from evals.published.weights import SMALL_BYTES, WEIGHTS, PublishedFile


def fetch(name: str, to: str | Path, *, offline: bool = False, trust: bool = False) -> None:
    """Fetch what is missing, and verify what is there.

    Args:
        name: a scorer of :data:`evals.published.weights.WEIGHTS`, or ``all``.
        to: folder that gets one folder a scorer.
        offline: never touch the network. Published files that were put into the folder by hand are verified and
            converted.
        trust: accept large files of which no digest is known, and record it.

    Raises:
        InputError: unknown name, no digest known and no ``trust``, a wrong digest, files missing ``offline``, or the
            download fails.
    """
    if name != "all" and name not in WEIGHTS:
        known = [*WEIGHTS, "all"]
        raise InputError(f"no published weights of '{name}': expected one of {', '.join(known)}{nearest(name, known)}")
    names = list(WEIGHTS) if name == "all" else [name]
    missing = []
    for scorer in names:
        folder = Path(to) / scorer
        # Two fetches would write into one partial file.
        with held(folder / ".lock", doing="fetches", busy="another fetch is at work there; wait for it to end"):
            missing += _fetch_scorer(scorer, folder, offline=offline, trust=trust)
    if missing:
        first, file = missing[0]
        raise InputError(
            f"{first / file.target}: missing ({len(missing)} files in all) and --offline; put {file.base_name} from "
            f"{file.url()} into {first} and run the command again"
        )


def _fetch_scorer(scorer: str, folder: Path, *, offline: bool, trust: bool) -> list[tuple[Path, PublishedFile]]:
    """Files of one scorer; returns those that are missing and may not be fetched."""
    record = read_record(folder)
    todo = []
    for file in WEIGHTS[scorer]:
        known = record.get(file.target, {})
        if (folder / file.target).is_file() and known:
            _check_kept(folder / file.target, file, known)
            print(f"{folder / file.target}: verified")
        else:
            todo.append(file)
    unknown = [file for file in todo if file.needs_trust and _expected(file, record) is None]
    # Offline, a file that is not here needs no trust: it is reported as missing.
    untrusted = [file for file in unknown if not offline or _at_hand(folder, file) is not None]
    if untrusted and not trust:
        listed = ", ".join(file.base_name for file in untrusted)
        raise InputError(
            f"{scorer}: no sha256 of {listed} is known ({untrusted[0].origin}); say "
            f"--trust-first-download to accept what comes and record its digest in {folder / RECORD}"
        )
    missing = []
    for file in todo:
        source = _at_hand(folder, file)
        if source is None and offline:
            missing.append((folder, file))
        else:
            _take(source, folder, file, record)
    return missing


def _expected(file: PublishedFile, record: Mapping[str, Any]) -> str | None:
    return file.sha256 or record.get(file.target, {}).get("source_sha256")


def _at_hand(folder: Path, file: PublishedFile) -> Path | None:
    """The published file, if it was put into the folder by hand, or is in the hub's cache."""
    for path in (folder / file.target, folder / file.base_name):
        if path.is_file() and not (file.converted and path.name != file.base_name):
            return path
    return download.cached(file)


def _take(at_hand: Path | None, folder: Path, file: PublishedFile, record: dict[str, Any]) -> None:
    """Verify the file, make the target of it, and record both."""
    expected, target = _expected(file, record), folder / file.target
    with download.obtained(file, folder, at_hand) as source:
        digest, length = download.verify(source, file, expected), source.stat().st_size
        if file.converted:
            convert(source, target, digest)
        else:
            _check_content(source, file)
            download.place(source, target)
    record[file.target] = {
        "origin": file.origin,
        "url": file.url(),
        "source_sha256": digest,
        "source_bytes": length,
        "sha256": file_sha256(target),
        "trusted_on_first_download": file.needs_trust and expected is None,
    }
    write_json(folder / RECORD, record)
    how = "" if expected is not None else "trusted, " if file.needs_trust else "fixed by its commit, "
    print(f"{target}: {how}sha256 of {file.base_name} is {digest}")


def convert(source: Path, target: Path, digest: str) -> None:
    """Tensors of a PyTorch pickle (read with ``weights_only=True``) as safetensors, dtypes unchanged.

    Raises:
        InputError: the file cannot be read, or holds anything but tensors.
    """
    from safetensors.torch import save_file

    from artifacts.weight_files import read_state_dict

    tensors, seen = {}, set()
    for key, value in read_state_dict(source).items():
        memory = value.untyped_storage().data_ptr()
        # Tensors that share memory are written apart; safetensors refuses them otherwise.
        tensors[key] = (value.detach().clone() if memory in seen else value.detach()).contiguous()
        seen.add(memory)
    with replaced_file(target) as temporary:
        save_file(tensors, temporary, metadata={"format": "pt", "source_sha256": digest})


def _check_content(path: Path, file: PublishedFile) -> None:
    """Catch an error page or a pointer file that came in place of the file."""
    if file.sha256 is None and not file.needs_trust and path.stat().st_size > SMALL_BYTES:
        raise InputError(
            f"has {path.stat().st_size} bytes, expected {SMALL_BYTES} at most; see what the address serves"
        )
    if file.target.endswith(".json"):
        try:
            json.loads(path.read_text(encoding="utf-8"))
        except ValueError as error:
            raise InputError(f"not JSON ({error}); see what the address serves") from error
    if file.target.endswith(".txt") and path.read_bytes().lstrip().startswith(b"<"):
        raise InputError("a web page, not a list of tokens; see what the address serves")
    if file.target.endswith(".safetensors"):
        from safetensors import SafetensorError, safe_open

        try:
            with safe_open(path, framework="numpy") as content:
                content.keys()
        except SafetensorError as error:
            raise InputError(f"not a safetensors file ({error}); see what the address serves") from error


def _check_kept(path: Path, file: PublishedFile, known: Mapping[str, Any]) -> None:
    if file.sha256 is not None and known.get("source_sha256") != file.sha256:
        raise InputError(f"{path}: was made from another file than the published one; delete it and fetch it again")
    if file_sha256(path) != known.get("sha256"):
        raise InputError(f"{path}: has changed since it was fetched; delete it and fetch it again")
